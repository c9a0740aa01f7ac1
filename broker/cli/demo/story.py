"""What the demo does, in order, and what the reader sees of it."""

from __future__ import annotations

import os
import secrets
import stat
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding

from broker.cli.connection import connected
from broker.cli.demo import enclosure
from broker.cli.demo.federation import OPERATORS, DemoFailed, Federation
from broker.cli.demo.views import inventory, orders, placed
from broker.cli.following import status_of
from broker.cli.order_file import read_order
from broker.cli.rendering import addressing_table
from service_model.families import ANY_FAMILY, BOTH
from service_model.outcomes import ServiceState, ServiceStatus
from service_model.spec import ServiceSpec

FROM, TO, REF = "north.client-1", "south.server-1", "my-first-service"
FAMILIES = ("--family", "ipv4", "--family", "ipv6")
READY_S, GONE_S = 40.0, 40.0


class Story:
    """One telling. `order` is the descriptor; `keep` leaves everything running at the end."""

    def __init__(self, source: Path, work: Path, order: Path, driver: str, keep: bool) -> None:
        self.source, self.work, self.order, self.driver, self.keep = source, work, order, driver, keep
        self.out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        self.federation = Federation(work, source, driver)
        self.lab: Any = None

    def tell(self) -> None:
        kept = False
        try:
            self._set_up()
            status = self._buy()
            if self.driver == "linux":
                self._prove(status)
            else:
                self.out.print("\n[bold yellow]NO PACKETS WERE SENT[/]: the domains are simulated.")
            self._levels()
            if self.keep:
                self._leave_running()
                kept = True
            else:
                self._end()
        finally:
            if not kept:
                self.federation.stop()
                if self.lab is not None:
                    self.lab.close()

    def _title(self, text: str) -> None:
        self.out.print(f"\n[bold]{text}[/]")

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.out.print(f"  [green]✓[/] {line}")

    def _command(self, *arguments: str) -> None:
        self.out.print(f"[dim]$ spbroker {' '.join(arguments)}[/]", soft_wrap=True)
        self.out.file.flush()
        self.federation.run(*arguments, visible=True)

    # the acts

    def _set_up(self) -> None:
        self._title("Four providers, each with its own process, database, keys and folder")
        self.federation.lay_out()
        os.environ["SPBROKER_HOME"] = str(self.work / "home")
        if self.driver == "linux":
            from broker.cli.demo.lab import DemoLab

            self.lab = DemoLab(self.source / "lab.yml")
        self.federation.found()
        self.federation.start()
        self.federation.administer()
        self.out.print("  aurora   sells to customers, owns nothing           buys from boreas and notos")
        self.out.print("  boreas   own domain in Amsterdam")
        self.out.print("  notos    own domain in Athens                       buys from abyss")
        self.out.print("  abyss    own domain in Ghent                        unknown to aurora and to the customer")
        aurora = self.federation.operators["aurora"]
        password = secrets.token_urlsafe(12)
        self.federation.run("--as", "aurora-operator", "passwd", "alice", "--password-stdin", stdin=password)
        self._title("The customer knows aurora alone")
        self.out.print(f"[dim]$ spbroker login {aurora.listen} --account alice --anchor aurora.json[/]")
        self.federation.log_in("alice", aurora, "alice", password)
        os.environ["SPBROKER_PROFILE"] = "alice"
        self._until_announced()
        self._command("notes")

    def _until_announced(self) -> None:
        """Until aurora's note reaches from end to end: notes travel up by themselves."""
        deadline = time.monotonic() + READY_S
        while True:
            note = self.federation.read("notes")
            ends = {entry["a"] for entry in note.get("matrix", ())} | {entry["b"] for entry in note.get("matrix", ())}
            if {FROM, TO} <= ends and any({e["a"], e["b"]} == {FROM, TO} for e in note["matrix"]):
                return
            if time.monotonic() > deadline:
                raise DemoFailed(f"aurora does not announce a way from {FROM} to {TO} after {READY_S:g} s")
            time.sleep(0.2)

    def _buy(self) -> ServiceStatus:
        self._title("One order")
        file = os.path.relpath(self.order)
        self._command("order", "-f", file, "--from", FROM, "--to", TO, *FAMILIES, "--ref", REF)
        with connected("alice") as connection:
            status = status_of(connection, REF)
            self.spec: ServiceSpec = replace(read_order(connection, self.order, FROM, TO), families=ANY_FAMILY)
        if status.state is not ServiceState.ACTIVE:
            raise DemoFailed(f"the service is {status.state.short}, not ACTIVE")
        return status

    def _prove(self, status: ServiceStatus) -> None:
        from broker.cli.demo import proofs

        assert status.choice is not None
        self._title("Packets")
        namespaces = self.lab.plug_in(self.spec, status.choice)
        pairs = proofs.sites(self.spec, status, namespaces)
        guarded = any("firewall" in f.type.name for f in self.spec.functions)
        if [a.address.version for a, _ in pairs] != list(BOTH):
            raise DemoFailed("PROOF FAILED: the service has an address of each family at each end")
        for a, b in pairs:
            self._say(proofs.reachability(a, b))
            self._say(proofs.path_mtu(a, b, status))
            if guarded:
                self._say(proofs.firewall(a, b))
        if not guarded:
            self.out.print("  (no firewall in this service, so no port to see dropped)")
        where = placed(OPERATORS)
        domains = proofs.Domains({name: op.config for name, op in self.federation.operators.items()}, where)
        try:
            self._say(domains.management(self.spec, status))
            for first, last in (way for a, b in pairs for way in ((a, b), (b, a))):
                self.out.print(Padding(proofs.hops(self.spec, domains, where, first, last), (1, 0, 0, 2)))
        finally:
            domains.close()

    def _levels(self) -> None:
        self._title("Addresses and labels at each level: what was constrained, chosen and bound")
        for operator in OPERATORS:
            for order in orders(operator):
                if order.status.state is not ServiceState.ACTIVE:
                    continue
                for part in order.segments:
                    whose = "in its own domain" if part.supplier == operator else f"bought from {part.supplier}"
                    self.out.print(f"\n  [bold]{operator}[/]: {part.alias}, {whose}")
                    table = addressing_table(spec=part.spec, choice=part.choice, binding=part.binding)
                    self.out.print(Padding(table, (0, 0, 0, 2)))

    def _end(self) -> None:
        self._title("The end")
        self._command("terminate", REF, "--wait")
        deadline = time.monotonic() + GONE_S
        while left := list(self._left()):
            if time.monotonic() > deadline:
                raise DemoFailed("PROOF FAILED: nothing is left: " + "; ".join(left))
            time.sleep(0.25)
        for operator in OPERATORS:
            self._say([f"{operator}: no hold, no label, no prefix, no namespace, no interface is left"])

    def _left(self) -> Iterable[str]:
        for operator in OPERATORS:
            found = inventory(operator)
            yield from (f"{operator}: {a.pool} {a.value} is {a.state.short}" for a in found.allocations)
            yield from (f"{operator}: hold {h.ref}" for h in found.holds)
            yield from (f"{operator}: {i.kind} {i.name}" for i in found.items)
            yield from (f"{operator}: {d.message}" for d in found.discrepancies)
        if self.lab is not None:
            mine = set(self.lab.lab.namespaces)
            yield from (f"namespace {n}" for n in sorted(os.listdir("/run/netns")) if n not in mine)

    def _leave_running(self) -> None:
        pids = [op.process.pid for op in self.federation.operators.values() if op.process is not None]
        (self.work / "pids").write_text("\n".join(map(str, pids)))
        way = " ".join(enclosure.way_in(pids[0])) + " " if self.driver == "linux" else ""
        home = f"SPBROKER_HOME={self.work / 'home'} SPBROKER_PROFILE=${{SPBROKER_PROFILE:-alice}}"
        _script(self.work / "spbroker", f'exec env {home} {way}{sys.executable} -m broker.cli "$@"')
        _script(self.work / "inside", f'exec {way}"${{@:-bash}}"')
        _script(self.work / "stop", f"kill {' '.join(map(str, pids))}; rm -f {self.work / 'pids'}")
        here = os.path.relpath(self.work)
        self._title("It is still running. Try")
        for line in (
            f"{here}/spbroker show {REF}",
            f"{here}/spbroker watch                          # and in another terminal:",
            f"{here}/spbroker terminate {REF}",
            f"SPBROKER_PROFILE=notos-operator {here}/spbroker inventory",
            f"{here}/inside ls /run/netns",
            f"{here}/inside nsenter --net=/run/netns/demo-client bash",
            f"{here}/stop                                   # ends it all",
        ):
            self.out.print(f"  {line}")


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
