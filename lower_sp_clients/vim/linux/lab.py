"""The cabling that an operator would have, in namespaces: borders, customers' hosts and the wires between them.

Rules enforced here
- Only what a lab made does it take away, all of it, also when the setting up failed half-way (use it as a context).
- Every name begins with the lab's token, so that labs run side by side.
- IPv6 addresses are usable at once; a wire is up when `wire` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from types import TracebackType
from typing import Self

from pyroute2 import IPRoute

from lower_sp_clients.vim.linux import build, namespaces
from lower_sp_clients.vim.linux.forwarding import add_address
from lower_sp_clients.vim.linux.plan import DeviceEnd

Prefix = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class WireEnd:
    """One end of a wire: `namespace` as `Lab.namespace` returned it, the device's name there, its addresses."""

    namespace: str
    device: str
    interfaces: tuple[Interface, ...] = ()


class Lab:
    """Named namespaces and wires that vanish with it."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._made: list[str] = []

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those that it made, in order."""
        return tuple(self._made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take everything away; again is harmless."""
        while self._made:
            name = self._made[-1]
            build.remove_devices(name)
            namespaces.delete(name)
            self._made.pop()

    def namespace(self, name: str) -> str:
        """Make a namespace with `lo` up; the full name. Raises FileExistsError."""
        full = f"{self._token}-{name}"
        namespaces.create(full)
        self._made.append(full)
        namespaces.run_in(full, _quiet)
        return full

    def wire(self, a: WireEnd, b: WireEnd, *, mtu: int = 1500) -> None:
        """A wire between two namespaces, both ends up and addressed."""
        build.add_wire(DeviceEnd(a.namespace, a.device), DeviceEnd(b.namespace, b.device), mtu)
        for end in (a, b):
            _set_up(end.namespace, end.device)
        for end in (a, b):
            self.address(end.namespace, end.device, end.interfaces)

    def address(self, namespace: str, device: str, interfaces: Sequence[Interface]) -> None:
        """Give a device addresses."""

        def work() -> None:
            with IPRoute() as ip:
                for interface in interfaces:
                    add_address(ip, build.index_of(ip, device), interface)

        namespaces.run_in(namespace, work)

    def route(self, namespace: str, destination: Prefix, gateway: Address) -> None:
        """Send what is for `destination` to `gateway`."""

        def work() -> None:
            with IPRoute() as ip:
                ip.route("add", dst=str(destination), gateway=str(gateway))

        namespaces.run_in(namespace, work)

    def host(
        self,
        name: str,
        border: WireEnd,
        interfaces: Sequence[Interface],
        routes: Sequence[tuple[Prefix, Address]] = (),
        *,
        mtu: int = 1500,
    ) -> str:
        """A customer's host on the wire to `border` (the access device of an ETHERNET SAP); its namespace."""
        namespace = self.namespace(name)
        self.wire(WireEnd(namespace, "eth0", tuple(interfaces)), border, mtu=mtu)
        for destination, gateway in routes:
            self.route(namespace, destination, gateway)
        return namespace


def _quiet() -> None:
    namespaces.write_sysctl("ipv6/conf/default/accept_dad", 0)
    namespaces.write_sysctl("ipv6/conf/default/accept_ra", 0)
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")


def _set_up(namespace: str, device: str) -> None:
    def work() -> None:
        with IPRoute() as ip:
            ip.link("set", index=build.index_of(ip, device), state="up")

    namespaces.run_in(namespace, work)


def loopback_up() -> None:
    """Bring up `lo` in the namespace that this process is in: a new one has it down."""
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")
