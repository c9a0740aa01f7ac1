"""The demo as a reader runs it: a program of its own, with packets, without, unprivileged, and where a proof fails."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.driver_bench import require_packets

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "demo"
MAY_TAKE_S = 240
NOBODY = 65534
OPERATORS = ("aurora", "boreas", "notos", "abyss")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SPBROKER") and k != "FORCE_COLOR"}
    return {**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "PYTHONUTF8": "1", "COLUMNS": "200", **more}


def run(line: Sequence[str | Path], env: Mapping[str, str], cwd: Path) -> Ran:
    """Both streams in one text."""
    done = subprocess.run(
        [str(part) for part in line],
        env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=MAY_TAKE_S, errors="replace",
    )  # fmt: skip
    return Ran(done.returncode, done.stdout)


def demo(cwd: Path, *arguments: str | Path, before: Sequence[str] = (), **more: str) -> Ran:
    """`spbroker demo` with its folder below `cwd`."""
    line = [*before, sys.executable, "-m", "broker.cli", "demo", "--work", cwd / "work", *arguments]
    return run(line, environment(**more), cwd)


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that have something to do with `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line and int(entry.name) != os.getpid():
                found.append(f"{entry.name}: {line}")
    return found


def nothing_runs(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while left := processes_of(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for one demo; whatever is kept there is ended."""
    yield tmp_path
    stop = tmp_path / "work" / "stop"
    if stop.exists():
        subprocess.run([str(stop)], check=False, capture_output=True)
    nothing_runs(tmp_path)


@pytest.mark.packets
def test_an_unprivileged_reader_keeps_the_demo_and_plays_with_it(tmp_path: Path) -> None:
    require_packets()
    home = unprivileged_home()
    before = unprivileged(home) if os.geteuid() == 0 else []
    able = subprocess.run([*before, "unshare", "-Urnm", "true"], capture_output=True, text=True)
    if able.returncode:
        excuse = f"this kernel gives users no namespaces: {able.stderr.strip()}"
        if os.environ.get("SPBROKER_REQUIRE_PACKETS") == "1":
            pytest.fail(excuse)
        pytest.skip(excuse)
    work = home / "work"
    env = environment(HOME=str(home))
    try:
        told = demo(home, "--keep", before=before, HOME=str(home))
        assert told.code == 0, told.out
        assert "All proofs hold" in told.out
        assert "ICMP client → web" in told.out
        assert "TCP port 23 of 10." in told.out
        assert "TCP port 23 of fd64:" in told.out
        assert "client → web over IPv6, 20 answered" in told.out
        shown = run([*before, work / "spbroker", "show", "my-first-service", "--json"], env, home)
        assert shown.code == 0, shown.out
        assert json.loads(shown.out)["state"].endswith("ACTIVE")
        listed = run([*before, work / "spbroker", "services"], env, home)
        assert "my-first-service" in listed.out
        namespaces = run([*before, work / "inside", "ls", "/run/netns"], env, home).out.split()
        assert {"demo-client", "demo-server"} <= set(namespaces)
        ended = run([*before, work / "spbroker", "terminate", "my-first-service", "--wait"], env, home)
        assert ended.code == 0, ended.out
        assert "has ended" in ended.out
        again = demo(home, before=before, HOME=str(home))
        assert again.code == 2
        assert "still running" in again.out
        assert run([*before, work / "stop"], env, home).code == 0
        nothing_runs(home)
        assert not (work / "pids").exists()
    finally:
        if (work / "pids").exists():
            run([*before, work / "stop"], env, home)
        shutil.rmtree(home)


def unprivileged(home: Path) -> list[str]:
    """What runs a command as nobody. Where the way to the interpreter or to the checkout leads through a folder of root's
    own, both are shown to it in a mount namespace, at their own paths."""
    line = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    needed = dict.fromkeys(Path(p).resolve() for p in (sys.base_prefix, sys.prefix, ROOT))
    closed = {path: way for path in needed if (way := closed_way(path)) is not None}
    if not closed:
        return line
    stash = {path: home / f"stash-{number}" for number, path in enumerate(closed)}
    script = ["set -e"]
    script += [f"mkdir -p '{kept}'; mount --bind '{path}' '{kept}'" for path, kept in stash.items()]
    script += [f"mount -t tmpfs -o mode=755 tmpfs '{way}'" for way in dict.fromkeys(closed.values())]
    script += [f"mkdir -p '{path}'; mount --bind '{kept}' '{path}'" for path, kept in stash.items()]
    script += [f'exec {" ".join(line)} "$@"']
    return ["unshare", "-m", "sh", "-c", "; ".join(script), "sh"]


def closed_way(path: Path) -> Path | None:
    """The first folder on the way to `path` that others may not pass."""
    return next((p for p in reversed((path, *path.parents)) if not p.stat().st_mode & stat.S_IXOTH), None)


def unprivileged_home() -> Path:
    """A folder that an unprivileged user owns and can reach, unlike pytest's own."""
    home = Path(tempfile.mkdtemp(prefix="spbroker-demo-"))
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    return home


@pytest.mark.packets
def test_a_published_descriptor_is_delivered_with_packets_and_nothing_is_left(folder: Path) -> None:
    descriptors = os.environ.get("SPBROKER_DESCRIPTORS", "")
    nsd = Path(descriptors, "sonata-empty-service", "nsd.yml")
    if not descriptors or not nsd.is_file():
        pytest.skip("SPBROKER_DESCRIPTORS does not name a folder with sonata-empty-service/nsd.yml")
    require_packets()
    told = demo(folder, "--nsd", nsd)
    assert told.code == 0, told.out
    assert "All proofs hold" in told.out
    for operator in OPERATORS:
        assert f"{operator}: no hold, no label, no prefix, no namespace, no interface is left" in told.out
    nothing_runs(folder)


def test_without_packets_the_demo_says_so(folder: Path) -> None:
    told = demo(folder, "--driver", "simulated")
    assert told.code == 0, told.out
    assert "NO PACKETS WERE SENT" in told.out
    assert "ICMP" not in told.out
    assert "All proofs hold" in told.out
    nothing_runs(folder)


@pytest.mark.packets
def test_a_proof_that_does_not_hold_ends_the_demo_with_8(folder: Path) -> None:
    require_packets()
    changed = folder / "changed"
    shutil.copytree(CONFIG, changed)
    network = changed / "boreas" / "network.yml"
    text = network.read_text()
    assert "mtu: 1450 " in text
    network.write_text(text.replace("remote: 192.0.2.1}", "remote: 192.0.2.9}"))  # nobody is there
    assert network.read_text() != text
    told = demo(folder, "--source", changed)
    assert told.code == 8, told.out
    assert "PROOF FAILED: ICMP client → web" in told.out
    assert "All proofs hold" not in told.out
    nothing_runs(folder)


def test_where_namespaces_are_not_possible_cause_and_remedy_are_told(folder: Path) -> None:
    broken = folder / "bin" / "unshare"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    broken.chmod(0o755)
    told = demo(folder, PATH=f"{broken.parent}:{os.environ['PATH']}")
    assert told.code == 3
    assert "Operation not permitted" in told.out
    assert "DRIVER=simulated" in told.out
    assert not (folder / "work").exists()


def test_a_source_that_is_no_demo_is_named(folder: Path) -> None:
    told = demo(folder, "--source", folder)
    assert told.code == 2
    assert "lab.yml" in told.out
