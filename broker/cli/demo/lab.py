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


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A computer of the customer's: at which access device, and which SAP that is to the customer."""

    name: str
    border: WireEnd
    sap: str
    mtu: int


class DemoLab:
    """Wires first, before the brokers; hosts when the service told them their addresses."""

    def __init__(self, file: Path) -> None:
        plan: Mapping[str, Any] = yaml.safe_load(file.read_text())
        self.lab = Lab(plan["token"])
        self._namespaces: dict[str, str] = {}
        for wire in plan["wires"]:
            self.lab.wire(self._end(wire["a"]), self._end(wire["b"]), mtu=wire["mtu"])
        self.hosts = tuple(
            HostPlan(h["name"], self._end(h["border"]), h["sap"], h["mtu"]) for h in plan["hosts"]
        )

    def _end(self, end: Mapping[str, str]) -> WireEnd:
        name = end["namespace"]
        if name not in self._namespaces:
            self._namespaces[name] = self.lab.namespace(name)
        addresses = (ip_interface(end["address"]),) if "address" in end else ()
        return WireEnd(self._namespaces[name], end["device"], addresses)

    def plug_in(self, spec: ServiceSpec, choice: AddressingChoice) -> dict[str, str]:
        """Each host with the address that the service gave its end, and a route to what lies at the other. End id → namespace."""
        out = {}
        for host in self.hosts:
            end = next(e.id for e in spec.ends if e.sap == host.sap)
            link = next(link for link in spec.links if end in link.points)
            chosen = choice.link(link.id)
            assert chosen is not None
            assert chosen.prefix is not None
            gateway = next(chosen.addresses[p] for p in link.points if p != end)
            interface = ip_interface(f"{chosen.addresses[end]}/{chosen.prefix.prefixlen}")
            beyond: Sequence[Any] = [p for other, ps in choice.reach.items() if other != end for p in ps]
            routes = [(prefix, gateway) for prefix in beyond]
            out[end] = self.lab.host(host.name, host.border, (interface,), routes, mtu=min(host.mtu, chosen.mtu))
        return out

    def close(self) -> None:
        self.lab.close()
