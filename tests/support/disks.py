"""Small disks that only one process and its children see: mounted in a mount namespace of that process, gone with it.

A disk is filled, made read-only and broken for real; nothing of it is seen, or left, outside.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

APART = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
TMPFS = 'mount -t tmpfs -o size="$1",mode=700 none "$2" && shift 2 && exec "$@"'
EXT4 = 'mount -o loop,errors=remount-ro "$1" "$2" && shift 2 && exec "$@"'


def on_small_disk(directory: Path, size: str, *line: str) -> list[str]:
    """The command `line` with a disk of `size` ("2m") mounted at `directory`, for it alone."""
    return [*APART, TMPFS, "small-disk", size, str(directory), *line]


def made_disk(image: Path) -> Path:
    """A file of 8 MiB with an empty file system in it, of which every block is for whoever comes."""
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run([*APART, 'mkfs.ext4 -q -m 0 "$1"', "made-disk", str(image)], check=True)
    return image


def on_disk(image: Path, directory: Path, *line: str) -> list[str]:
    """The command `line` with the disk in `image` mounted at `directory`, for it alone; what it writes stays in the image. The
    disk becomes read-only when an error is met, as a server's does; `mount -o remount,abort` is one."""
    return [*APART, EXT4, "disk", str(image), str(directory), *line]


def seen_by(pid: int, path: Path) -> Path:
    """The file at `path` as that process sees it."""
    return Path(f"/proc/{pid}/root") / path.relative_to("/")


def require_disks(kind: str = "tmpfs") -> None:
    """Skip where this user or machine cannot mount. `kind`: `tmpfs` or `ext4`, which takes a loop device."""
    if kind == "ext4" and shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip("no mkfs.ext4: apt-get install e2fsprogs")
    probe = 'd=$(mktemp -d) && mount -t tmpfs none "$d" && umount "$d"; c=$?; rmdir "$d"; exit $c'
    if kind == "ext4":
        probe = (
            'd=$(mktemp -d) && truncate -s 8m "$d/i" && mkdir "$d/m" && mkfs.ext4 -q "$d/i" && mount -o loop "$d/i" "$d/m"'
            ' && umount "$d/m"; c=$?; rm -r "$d"; exit $c'
        )
    try:
        done = subprocess.run([*APART, probe], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare: apt-get install util-linux")
    if done.returncode != 0:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
