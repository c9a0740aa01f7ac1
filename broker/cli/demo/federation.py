"""Four operators as four folders and four processes, set up with the command line that any operator uses.

Rules kept here
- Each operator has its own folder: `config` (what it administers), `data` (keys, settings, database), `broker.log`.
- Nothing is known to a broker but its own folder and the anchors that partners handed over.
- Processes end with the demo, unless they are to be kept; they are ended by their own pid.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault

OPERATORS = ("aurora", "boreas", "notos", "abyss")
START_S = 40.0


class DemoFailed(Fault):
    """A proof of the demo does not hold, or a part of it did not start."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(Exit.FAILED, message, hint=hint)


@dataclass(slots=True)
class Operator:
    """One SP of the demo. `listen` is where people log in."""

    name: str
    folder: Path
    listen: str
    password: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"


@dataclass(slots=True)
class Federation:
    """`work` is the demo's folder, made anew; `source` the folder with one configuration per operator."""

    work: Path
    source: Path
    driver: str
    operators: dict[str, Operator] = field(default_factory=dict)

    def lay_out(self) -> None:
        """Copy each operator's configuration, on free ports."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        ports = _free_ports(self.source)
        for name in OPERATORS:
            folder = self.work / name
            shutil.copytree(self.source / name, folder / "config")
            for file in (folder / "config").glob("*.yml"):
                text = re.sub(r"127\.0\.0\.1:(\d+)", lambda m: f"127.0.0.1:{ports[m[1]]}", file.read_text())
                if self.driver == "simulated":
                    text = text.replace("driver: linux", "driver: simulated")
                file.write_text(text)
            node = folder / "config" / "node.yml"
            listen = yaml.safe_load(node.read_text())["listen"]
            self.operators[name] = Operator(name, folder, listen, secrets.token_urlsafe(18))

    def found(self) -> None:
        """`spbroker init` for each: keys, certificates, store and the first operator account."""
        self._each(self._init)

    def _init(self, op: Operator) -> None:
        settings = yaml.safe_load((op.config / "node.yml").read_text())
        self.run(
            "init",
            str(op.data),
            "--sp-id",
            settings["sp_id"],
            "--listen",
            settings["listen"],
            "--listen-partners",
            settings["listen_partners"],
            "--operator",
            "operator",
            "--password-stdin",
            stdin=op.password,
        )
        (op.config / "node.yml").unlink()  # it is in `data` now; what is left is what is administered

    def start(self) -> None:
        """`spbroker serve` for each, and wait until all listen."""
        for op in self.operators.values():
            op.process = subprocess.Popen(
                [sys.executable, "-m", "broker.cli", "serve", str(op.data)],
                stdout=op.log.open("ab"),
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        for op in self.operators.values():
            while not _listens(op.listen):
                if op.process is not None and op.process.poll() is not None:
                    raise DemoFailed(f"{op.name} did not start:\n{op.log.read_text()[-2000:]}")
                if time.monotonic() > deadline:
                    raise DemoFailed(f"{op.name} does not listen at {op.listen} after {START_S:g} s", f"see {op.log}")
                time.sleep(0.05)

    def administer(self) -> None:
        """Log in as each operator and apply its folder."""
        self._each(self._administer)

    def _administer(self, op: Operator) -> None:
        self.log_in(f"{op.name}-operator", op, "operator", op.password)
        self.run("--as", f"{op.name}-operator", "apply", "-f", str(op.config), "--reason", "the demo begins")

    def log_in(self, profile: str, op: Operator, account: str, password: str) -> None:
        anchor = str(op.data / "anchor.json")
        line = ["--as", profile, "login", op.listen, "--account", account, "--anchor", anchor, "--password-stdin"]
        self.run(*line, stdin=password)

    def run(self, *arguments: str, stdin: str | None = None, visible: bool = False) -> str:
        """One `spbroker` command line. Visible: its output goes where ours does. Raises DemoFailed when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "broker.cli", *arguments],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            stdout=None if visible else subprocess.PIPE,
            stderr=None if visible else subprocess.PIPE,
            text=True,
            env=self.environment(),
        )
        if done.returncode:
            told = "" if visible else f":\n{done.stdout or ''}{done.stderr or ''}"
            raise DemoFailed(f"spbroker {' '.join(arguments)} ended with {done.returncode}{told}")
        return done.stdout or ""

    def read(self, *arguments: str) -> Any:
        """What one `spbroker … --json` command shows."""
        return json.loads(self.run(*arguments, "--json"))

    def environment(self) -> dict[str, str]:
        return {**os.environ, "SPBROKER_HOME": str(self.work / "home")}

    def stop(self) -> None:
        """End the brokers: SIGTERM, and after a while SIGKILL."""
        running = [op.process for op in self.operators.values() if op.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _each(self, work: Any) -> None:
        with ThreadPoolExecutor(len(self.operators)) as pool:
            list(pool.map(work, self.operators.values()))


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=0.5):
            return True
    except OSError:
        return False


def _free_ports(source: Path) -> dict[str, str]:
    """A free port for each that the folders name; the named one where it is free."""
    named = sorted({m for file in source.glob("*/*.yml") for m in re.findall(r"127\.0\.0\.1:(\d+)", file.read_text())})
    held: list[socket.socket] = []
    out: dict[str, str] = {}
    try:
        for port in named:
            for candidate in (int(port), 0):
                sock = socket.socket()
                held.append(sock)
                try:
                    sock.bind(("127.0.0.1", candidate))
                except OSError:
                    continue
                out[port] = str(sock.getsockname()[1])
                break
    finally:
        for sock in held:
            sock.close()
    return out


def arguments_of(nsd: Path | None, keep: bool, driver: str, work: Path, source: Path) -> Sequence[str]:
    """The demo's own arguments again, for the process inside."""
    out = ["--driver", driver, "--work", str(work), "--source", str(source)]
    if nsd is not None:
        out += ["--nsd", str(nsd)]
    return [*out, "--keep"] if keep else out
