"""What README.md tells each of its readers to do works as it stands there: a federation is made and used with it.

The blocks are run as they are, in a folder that has the checkout's `config`, with free ports in the place of those written.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.markdown import ROOT, blocks

README = ROOT / "README.md"
MAY_TAKE_S = 180.0
NOTES_MAY_TAKE_S = 40.0
_PORT = re.compile(r"127\.0\.0\.1:(74\d\d)")


@dataclass(frozen=True)
class Checkout:
    """A folder to read the README in; `ports` are those written and those used."""

    folder: Path
    ports: Mapping[str, str]

    def on_our_ports(self, text: str) -> str:
        return _PORT.sub(lambda found: f"127.0.0.1:{self.ports[found[1]]}", text)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
            "SPBROKER_HOME": str(self.folder / "home"),
        }

    def start(self, command: list[str], output: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, name: str) -> str:
        """What the blocks of this name print, one after the other. They have to succeed."""
        return self.finish(name, self.begin(name))

    def begin(self, name: str) -> subprocess.Popen[bytes]:
        found = blocks(README, "run", name)
        assert found, f"README.md has no block {name!r}"
        text = self.on_our_ports("".join(block.text for block in found))
        script = self.folder / f"{name}.{found[0].language}"
        script.write_text(text)
        interpreter = {"sh": ["bash", "-e", "-o", "pipefail"], "python": [sys.executable]}[found[0].language]
        return self.start([*interpreter, str(script)], self.folder / f"{name}.out")

    def finish(self, name: str, process: subprocess.Popen[bytes]) -> str:
        code = process.wait(timeout=MAY_TAKE_S)
        printed = (self.folder / f"{name}.out").read_text()
        assert code == 0, f"{name} ended with {code}:\n{printed}"
        return printed

    def spbroker(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "broker.cli", *arguments]
        with (self.folder / "password").open() as password:
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment(), stdin=password, capture_output=True, text=True
            )
        return done.stdout + done.stderr

    def until_sold(self, sap: str, sold: bool = True) -> None:
        """Until alice's note has the SAP, or has it no more: notes travel up by themselves."""
        deadline = time.monotonic() + NOTES_MAY_TAKE_S
        while (sap in (told := self.spbroker("--as", "alice", "notes"))) is not sold:
            assert time.monotonic() < deadline, told
            time.sleep(0.3)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The federation that the operator's section makes; its processes end with the test."""
    folder = tmp_path_factory.mktemp("readme")
    written = {port for page in (README, *(ROOT / "config").rglob("*.yml")) for port in _PORT.findall(page.read_text())}
    made = Checkout(folder, dict(zip(sorted(written), free_ports(len(written)), strict=True)))
    shutil.copytree(ROOT / "config", folder / "config")
    for file in (folder / "config").rglob("*.yml"):
        file.write_text(made.on_our_ports(file.read_text()))
    program = folder / "bin" / "spbroker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m broker.cli "$@"\n')
    program.chmod(0o755)
    operator = made.begin("operator")
    try:
        made.finish("operator", operator)
        login = ["login", made.on_our_ports("127.0.0.1:7411"), "--account", "alice", "--password-stdin"]
        made.spbroker("--as", "alice", *login, "--anchor", "lab/aurora/data/anchor.json")
        made.until_sold("south.server-1")
        yield made
    finally:
        os.killpg(operator.pid, signal.SIGTERM)  # the brokers are in the session that we started


def free_ports(count: int) -> list[str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [str(sock.getsockname()[1]) for sock in held]
    finally:
        for sock in held:
            sock.close()


def test_an_operator_chains_four_brokers_with_documents(checkout: Checkout) -> None:
    printed = (checkout.folder / "operator.out").read_text()
    assert printed.count("\napplied\n") == 4
    assert "nothing differs" in printed
    assert "records and infrastructure agree" in printed
    assert (checkout.folder / "lab/aurora/exported/suppliers.yml").is_file()


def test_a_customer_orders_sees_and_ends_a_service(checkout: Checkout) -> None:
    printed = checkout.run("customer")
    shown = blocks(README, "shown", "order")[0].text
    assert shown in printed
    assert "my-first-service has ended" in printed


def test_a_provider_buys_a_segment_with_the_generated_stubs(checkout: Checkout) -> None:
    held, committed = checkout.run("buyer").splitlines()
    assert re.fullmatch(r"held for \d+ s at [\d.]+ EUR/h, labels \{'(west|east)': \d+, '(west|east)': \d+\}", held)
    assert committed == "committed"


def test_what_is_drained_is_no_longer_sold(checkout: Checkout) -> None:
    assert "DRAINING" in checkout.run("operator-draining")
    checkout.until_sold("south.server-1", sold=False)
