"""Proofs with real packets, from the customer's two computers. Each either holds or ends the demo."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table

from broker.bootstrap.domains import sap_ports
from broker.cli.demo.federation import DemoFailed
from broker.cli.demo.views import Placed
from broker.settings.administered import DomainDoc
from broker.settings.problems import read
from lower_sp_clients.vim.driver import PortCounters, ProbePath
from lower_sp_clients.vim.linux import packets
from lower_sp_clients.vim.linux.driver import LinuxDriver
from service_model.outcomes import ServiceStatus
from service_model.spec import LinkKind, ServiceSpec, split_point
from service_model.words import Address

BURST = 20
PORT, DENIED = 7007, 23


@dataclass(frozen=True, slots=True)
class Site:
    """One of the customer's computers: its namespace and address."""

    end: str
    namespace: str
    address: Address


def sites(spec: ServiceSpec, status: ServiceStatus, namespaces: Mapping[str, str]) -> list[tuple[Site, Site]]:
    """The computers at the first and the last hop of the service's path, by each family that it has."""
    choice = status.choice
    assert choice is not None
    known = {end: [a for link in choice.links for a in link.all_addresses(end)] for end in namespaces}
    first, last = (spec.paths[0].hops[n] for n in (0, -1))
    return [
        (Site(first, namespaces[first], a), Site(last, namespaces[last], b))
        for a in known[first]
        for b in known[last]
        if a.version == b.version
    ]


def _must(holds: bool, what: str, why: str = "") -> str:
    if not holds:
        raise DemoFailed(f"PROOF FAILED: {what}{f': {why}' if why else ''}")
    return what


def reachability(a: Site, b: Site) -> Iterator[str]:
    """ICMP and TCP in both directions."""
    for here, there in ((a, b), (b, a)):
        echo = packets.ping(here.namespace, there.address)
        yield _must(
            echo.ok,
            f"ICMP {here.end} → {there.end} ({there.address}) answered in {(echo.seconds or 0) * 1000:.2f} ms",
            echo.detail,
        )
        tcp = packets.tcp_echo(there.namespace, here.namespace, there.address, port=PORT)
        what = f"TCP {here.end} → {there.end} over IPv{there.address.version}: 1 MiB there and back unchanged"
        yield _must(tcp.ok, what, tcp.detail)


def path_mtu(a: Site, b: Site, status: ServiceStatus) -> Iterator[str]:
    """The path's MTU is exactly the smallest that was bound, found by packets that may not be fragmented."""
    binding = status.binding or status.choice
    assert binding is not None
    bound = min(link.mtu for link in binding.links if link.mtu)
    for here, there in ((a, b), (b, a)):
        found = packets.path_mtu(here.namespace, there.address, upper=2000)
        yield _must(
            found == bound,
            f"path MTU {here.end} → {there.end} of IPv{there.address.version} is {found} bytes, as bound ({bound})",
            f"bound is {bound}, found {found}",
        )


def firewall(a: Site, b: Site) -> Iterator[str]:
    """The denied port is dropped, while a listener waits there; another port of the same computer is open."""
    with packets.listening(b.namespace, b.address, DENIED), packets.listening(b.namespace, b.address, PORT):
        for port, expected in ((DENIED, packets.Verdict.DROPPED), (PORT, packets.Verdict.OPEN)):
            verdict = packets.tcp_verdict(a.namespace, b.address, port)
            yield _must(verdict is expected, f"TCP port {port} of {b.address} is {verdict}", f"expected {expected}")


class Domains:
    """The operators' domains as their drivers see them: counters of every function's ports, packets between functions."""

    def __init__(self, folders: Mapping[str, Path], where: Mapping[str, Placed]) -> None:
        self._where = where
        self._drivers: dict[tuple[str, str], LinuxDriver] = {}
        for place in where.values():
            key = (place.operator, place.domain)
            if key not in self._drivers:
                doc = _domain(folders[place.operator], place.domain)
                self._drivers[key] = LinuxDriver(f"{place.operator}-{place.domain}", sap_ports(doc))

    def read(self) -> dict[tuple[str, str], PortCounters]:
        """(function, port) to its counters."""
        out = {}
        for key, driver in self._drivers.items():
            for segment in {p.segment for p in self._where.values() if (p.operator, p.domain) == key}:
                measured = asyncio.run(driver.measure(segment))
                out.update({(c.function, c.port): c for c in measured.ports})
        return out

    def management(self, spec: ServiceSpec, status: ServiceStatus) -> Iterator[str]:
        """On each LAN the first function reaches every other, in whichever domain it is."""
        binding = status.binding or status.choice
        assert binding is not None
        for lan in (link for link in spec.links if link.kind is LinkKind.LAN):
            bound = binding.link(lan.id)
            assert bound is not None
            ports = [p for p in lan.points if bound.all_addresses(p)]
            for near, far, target in ((ports[0], p, a) for p in ports[1:] for a in bound.all_addresses(p)):
                function, port = split_point(near)
                where = self._where[function]
                path = ProbePath(segment=where.segment, function=function, port=port, target=target, size=bound.mtu)
                echo = asyncio.run(self._drivers[where.operator, where.domain].probe(path))
                yield _must(
                    echo.ok,
                    f"{lan.id}: {near} reaches {far} ({target}) with {bound.mtu} bytes",
                    echo.detail,
                )

    def close(self) -> None:
        for driver in self._drivers.values():
            driver.close()


def _domain(folder: Path, name: str) -> DomainDoc:
    for file in sorted(folder.glob("*.yml")):
        for data in yaml.safe_load_all(file.read_text()):
            doc = read(data) if data["kind"] == "domain" and data["name"] == name else None
            if isinstance(doc, DomainDoc):
                return doc
    raise DemoFailed(f"no domain {name} in {folder}")


def hops(spec: ServiceSpec, domains: Domains, where: Mapping[str, Placed], a: Site, b: Site) -> Table:
    """Send a burst from `a` to `b` and show what each port on the way counted, in the order of that way."""
    way = spec.paths[0].hops[1:-1] if a.end == spec.paths[0].hops[0] else spec.paths[0].hops[-2:0:-1]
    before = domains.read()
    answered = sum(packets.ping(a.namespace, b.address).ok for _ in range(BURST))
    after = domains.read()
    what = f"{BURST} echo requests {a.end} → {b.end} over IPv{b.address.version}"
    title = f"{what}, {answered} answered: packets counted"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, min_width=len(title))
    for column in ("hop", "function", "runs at", "port", "in", "out"):
        table.add_column(column, justify="right" if column in ("hop", "in", "out") else "left")
    for number, point in enumerate(way, 1):
        function, port = split_point(point)
        delta_in = after[function, port].rx_packets - before[function, port].rx_packets
        delta_out = after[function, port].tx_packets - before[function, port].tx_packets
        table.add_row(
            str(number),
            function,
            f"{where[function].operator}/{where[function].domain}",
            port,
            str(delta_in),
            str(delta_out),
        )
        _must(min(delta_in, delta_out) >= BURST, f"{point} saw the burst", f"{delta_in} in, {delta_out} out")
    _must(answered == BURST, "every echo was answered", f"{answered} of {BURST}")
    return table
