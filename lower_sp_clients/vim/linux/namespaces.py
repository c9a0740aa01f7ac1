"""Named network namespaces, and running code inside one.

Rules enforced here
- A thread that enters a namespace ends afterwards: the namespace is the thread's, and a pooled one would carry it on.
- Nothing forks to enter a namespace, so it is safe in a process that has threads; a child started from inside
  (`nft`) inherits the namespace, and `/proc/sys/net` shows that namespace's values (it follows the reading thread).
- A socket belongs to the namespace that it was opened in for its whole life, whichever thread uses it.
- Names live in /run/netns, as `ip netns` knows them; /sys is not remounted.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

SYSCTLS = Path("/proc/sys/net")
DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MNT_DETACH = 2
_MS_BIND = 4096
_MS_REC = 16384
_MS_SHARED = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceMissing(OSError):
    """There is no namespace of that name (or its file is left over from an interrupted creation)."""


def names() -> list[str]:
    """All named namespaces, sorted."""
    try:
        return sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return []


def create(name: str) -> None:
    """Make a namespace. Raises FileExistsError, PermissionError or another OSError."""
    path = DIRECTORY / name
    _share_directory()
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0))

    def unshare_and_bind() -> None:
        _checked(_libc.unshare(_CLONE_NEWNET), name)
        _checked(_libc.mount(b"/proc/thread-self/ns/net", os.fsencode(path), b"none", _MS_BIND, None), name)

    try:
        _in_thread(unshare_and_bind)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def delete(name: str) -> None:
    """Unmount and unlink; success when there is nothing. Devices inside go later, when the kernel cleans up."""
    path = DIRECTORY / name
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):
            raise OSError(code, os.strerror(code), name)
    path.unlink(missing_ok=True)


def run_in(name: str, work: Callable[[], Result]) -> Result:
    """Run `work` inside the namespace, in a thread of its own, and hand on its result or exception."""
    try:
        handle = os.open(DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NamespaceMissing(errno.ENOENT, "no such network namespace", name) from error
    try:

        def enter_and_work() -> Result:
            if _libc.setns(handle, _CLONE_NEWNET) != 0:
                code = ctypes.get_errno()
                kind = NamespaceMissing if code == errno.EINVAL else OSError
                raise kind(code, os.strerror(code), name)
            return work()

        return _in_thread(enter_and_work)
    finally:
        os.close(handle)


def run_in_new(work: Callable[[], Result]) -> Result:
    """Run `work` inside a fresh namespace without a name; it is gone when `work` ends."""

    def unshare_and_work() -> Result:
        _checked(_libc.unshare(_CLONE_NEWNET), "a new network namespace")
        return work()

    return _in_thread(unshare_and_work)


def socket_in(name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that lives in the namespace and may be used from any thread."""
    return run_in(name, lambda: socket.socket(family, kind, protocol))


def has_ipv6(settings: Path = SYSCTLS) -> bool:
    """Whether this kernel knows IPv6 at all: one that was started without has no settings of it."""
    return (settings / "ipv6").is_dir()


def write_sysctl(key: str, value: int | str, settings: Path = SYSCTLS) -> None:
    """Set `net.…` (a path below /proc/sys/net) in the namespace of the calling thread; where the kernel has no IPv6, there is
    nothing of it to set."""
    if has_ipv6(settings) or not key.startswith("ipv6/"):
        (settings / key).write_text(str(value))


def _in_thread(work: Callable[[], Result]) -> Result:
    results: list[Result] = []
    errors: list[BaseException] = []

    def catch() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=catch, name="netns", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _share_directory() -> None:
    """As `ip netns` does: mounts made below are seen by, and can be removed in, every mount namespace."""
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(DIRECTORY, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes at once would mount it twice and hide each other's names
        _share_locked(os.fsencode(DIRECTORY))
    finally:
        os.close(lock)


def _share_locked(path: bytes) -> None:
    if _libc.mount(b"", path, b"none", _MS_SHARED | _MS_REC, None) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:  # EINVAL: not yet a mount point
        _checked(-1, str(DIRECTORY))
    _checked(_libc.mount(path, path, b"none", _MS_BIND | _MS_REC, None), str(DIRECTORY))
    _checked(_libc.mount(b"", path, b"none", _MS_SHARED | _MS_REC, None), str(DIRECTORY))


def _checked(returned: int, name: str) -> None:
    if returned != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
