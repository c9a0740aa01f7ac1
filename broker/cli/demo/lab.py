"""The demo's cables and the customer's two computers, from `lab.yml`. Only with the Linux driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import yaml

from lower_sp_clients.vim.linux.lab import Lab, WireEnd
from service_model.outcomes import AddressingChoice
from service_model.spec import ServiceSpec

DEVICE = "eth0"


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A computer of the customer's: its namespace, and what its access port is called by the provider."""

    namespace: str
    sap: str


class DemoLab:
    """Cables first, before the brokers; the computers' addresses when the service told them."""

    def __init__(self, file: Path) -> None:
        plan: Mapping[str, Any] = yaml.safe_load(file.read_text())
        self.lab = Lab(plan["token"])
        self._namespaces: dict[str, str] = {}
        for wire in plan["wires"]:
            self.lab.wire(self._end(wire["a"]), self._end(wire["b"]), mtu=wire["mtu"])
        self.hosts = tuple(self._host(h) for h in plan["hosts"])

    def _host(self, host: Mapping[str, Any]) -> HostPlan:
        """A computer on its cable, without an address yet."""
        namespace = self.lab.namespace(host["name"])
        self.lab.wire(WireEnd(namespace, DEVICE), self._end(host["border"]), mtu=host["mtu"])
        return HostPlan(namespace, host["sap"])

    def _end(self, end: Mapping[str, str]) -> WireEnd:
        name = end["namespace"]
        if name not in self._namespaces:
            self._namespaces[name] = self.lab.namespace(name)
        addresses = (ip_interface(end["address"]),) if "address" in end else ()
        return WireEnd(self._namespaces[name], end["device"], addresses)

    def plug_in(self, spec: ServiceSpec, choice: AddressingChoice) -> dict[str, str]:
        """Each host with the addresses that the service gave its end, and routes to the other's: end id → namespace."""
        out = {}
        for host in self.hosts:
            end = next(e.id for e in spec.ends if e.sap == host.sap)
            link = next(link for link in spec.links if end in link.points)
            chosen = choice.link(link.id)
            assert chosen is not None
            beyond: Sequence[Any] = [p for other, ps in choice.reach.items() if other != end for p in ps]
            for stack in chosen.stacks:
                assert stack.prefix is not None
                gateway = next(stack.addresses[p] for p in link.points if p != end)
                interface = ip_interface(f"{stack.addresses[end]}/{stack.prefix.prefixlen}")
                self.lab.address(host.namespace, DEVICE, (interface,))
                for prefix in (p for p in beyond if p.version == stack.prefix.version):
                    self.lab.route(host.namespace, prefix, gateway)
            out[end] = host.namespace
        return out

    def close(self) -> None:
        self.lab.close()
