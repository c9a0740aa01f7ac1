"""A place of its own for the demo: network and mount namespaces, and a user namespace where we are not root.

Rules kept here
- Nothing of the machine is touched: what the demo makes exists only inside, and goes with its last process.
- Where the kernel does not allow it, the cause and the remedy are said, and the exit code is 3.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault

INSIDE = "SPBROKER_DEMO_INSIDE"
USERS = "SPBROKER_DEMO_USERS"
"""Whether there is a user namespace of our own around, too."""
REMEDY = (
    "run it as root, or allow user namespaces (sysctl -w kernel.unprivileged_userns_clone=1, and "
    "kernel.apparmor_restrict_unprivileged_userns=0 where there is AppArmor), in a chroot make its root a mount of its own "
    "(mount --bind DIR DIR), "
    "or run it without packets: make demo DRIVER=simulated"
)


def is_inside() -> bool:
    return os.environ.get(INSIDE) == "1"


def enter(arguments: Sequence[str]) -> None:
    """Run `spbroker demo` with these arguments again, inside; does not return. Raises Fault (exit 3) where it may not.

    With the right to, only the network and the mounts are parted from; else the users too (a root without rights, as in a
    container, is a user like any other).
    """
    unshare = shutil.which("unshare", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if unshare is None:
        message = "the program unshare is missing (Debian's util-linux)"
        raise Fault(Exit.ENVIRONMENT_MISSING, message, hint="apt-get install util-linux")
    causes = []
    for flags, users in (("-nm", "0"), ("-Urnm", "1")):
        tried = subprocess.run([unshare, flags, "true"], capture_output=True, text=True)
        if tried.returncode == 0:
            again = [unshare, flags, sys.executable, "-m", "broker.cli", "demo", *arguments]
            os.execve(unshare, again, {**os.environ, INSIDE: "1", USERS: users})  # noqa: S606  the same program, inside
        said = tried.stderr.strip().removeprefix("unshare: ") or f"it ended with {tried.returncode}"
        causes.append(f"unshare {flags}: {said}")
    message = f"this kernel gives the demo no namespaces of its own: {'; '.join(causes)}"
    raise Fault(Exit.ENVIRONMENT_MISSING, message, hint=REMEDY)


def furnish() -> None:
    """Inside: a /run of our own for the names of namespaces, and the loopback device up. Raises Fault (exit 3)."""
    from lower_sp_clients.vim.linux.lab import loopback_up

    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, text=True)
    if mounted.returncode:
        message = f"a /run of its own cannot be mounted: {mounted.stderr.strip()}"
        raise Fault(Exit.ENVIRONMENT_MISSING, message, hint=REMEDY)
    os.makedirs("/run/netns", exist_ok=True)
    loopback_up()


def way_in(pid: int) -> list[str]:
    """The command line in front of a program that is to run inside, where process `pid` is."""
    users = ["-U", "--preserve-credentials"] if os.environ.get(USERS) == "1" else []
    return ["nsenter", *users, "-n", "-m", "-t", str(pid)]
