"""Making a segment plan real in the kernel, and taking a segment away again.

Rules enforced here
- The namespaces come first: whatever a crash leaves behind is then found under the segment's name.
- A veth or VXLAN device is created directly in the namespace that it is for, with its final name, in one request. (A
  VXLAN device keeps the namespace of the request as its underlay: that is the border namespace.)
- All devices are up before the first address and route; each namespace is marked complete at the very end.
- Ports of bridges forward when it is built: left to itself the kernel begins up to a second after a port has a carrier.
- Removal deletes the devices explicitly: a namespace alone is cleaned up some time later, and until then a label would
  still be in use. They bear one group number, so that each namespace's go in one request, eight times as fast.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lower_sp_clients.vim.driver import DriverError
from lower_sp_clients.vim.linux import headers, namespaces, trunks
from lower_sp_clients.vim.linux.forwarding import bridge_sysctls, configure_function, configure_ports
from lower_sp_clients.vim.linux.naming import BRIDGE, INSIDE, OUTSIDE, border_tag
from lower_sp_clients.vim.linux.plan import (
    AccessBridge,
    BridgeSpace,
    DeviceEnd,
    HeaderSpace,
    SegmentPlan,
    TrunkPort,
    Tunnel,
    Wire,
)
from lower_sp_clients.vim.linux.ruleset import Nft
from lower_sp_clients.vim.soundness import label_in_use

KERNEL_ERRORS = (NetlinkError, OSError)
"""What the kernel and its namespaces raise."""

DEVICE_GROUP = 0x5350
"""The group number (`ip link show group`) of every device made here. Groups are per namespace."""

TUNNEL_HEADERS = {4: 50, 6: 70}
"""Bytes of a VXLAN tunnel's headers, by the version of its outer IP (RFC 7348, 5)."""

_FORWARDING = 3
"""BR_STATE_FORWARDING of `linux/if_bridge.h`."""
CLEANING_SECONDS = 0.5
"""How long a VNI may still be in use by a namespace that somebody deleted by hand: the kernel cleans up later."""


def build(domain: str, plan: SegmentPlan, nft: Nft) -> None:
    """Build everything, where nothing of the segment is left. Raises DriverError, leaving what was made so far."""
    for name in sorted(plan.namespaces):
        with _told(f"namespace {name!r}"):
            namespaces.create(name)
    for bridge in plan.bridges:
        inside(bridge.name, partial(add_bridge, bridge=bridge))
    for access in plan.accesses:
        inside(access.border.namespace, partial(_add_access_bridge, domain=domain, segment=plan.segment, access=access))
    add_wires(plan.wires)
    add_tunnels(plan.tunnels)
    for access in plan.accesses:
        inside(access.border.namespace, partial(_join_access, domain=domain, segment=plan.segment, access=access))
    for port in plan.trunks:
        inside(port.border.namespace, partial(_join_trunk, domain=domain, segment=plan.segment, port=port))
    for header in plan.headers:
        inside(header.name, partial(_join_header, header=header))
    for bridge in plan.bridges:
        inside(bridge.name, partial(join_bridge, bridge=bridge))
    for space in plan.functions:
        inside(space.name, partial(configure_ports, space=space))
    for bridge in plan.bridges:
        inside(bridge.name, partial(forward, ports=bridge.members))
    for access in plan.accesses:
        inside(access.border.namespace, partial(forward, ports=(access.member, access.border.device)))
    for space in plan.functions:
        inside(space.name, partial(configure_function, space=space, nft=nft))


def add_wires(wires: Iterable[Wire]) -> None:
    """Raises DriverError."""
    for namespace, some in _grouped(wires, lambda w: w.a.namespace):
        inside(namespace, partial(_add_wires, wires=tuple(some)))


def add_tunnels(tunnels: Iterable[Tunnel]) -> None:
    """Raises DriverError."""
    for namespace, some in _grouped(tunnels, lambda t: t.border.namespace):
        inside(namespace, partial(_add_tunnels, tunnels=tuple(some)), what=f"border namespace {namespace!r}")


def remove_devices(namespace: str) -> None:
    """Delete every device of a service's or a lab's namespace but `lo`. Success when there is no such namespace."""

    def delete(ip: Any) -> None:
        _delete(ip, group=DEVICE_GROUP)
        for link in ip.get_links():
            if link.get("ifname") != "lo":  # somebody else put it there
                delete_device(ip, link["index"])

    with suppress(namespaces.NamespaceMissing):
        namespaces.run_in(namespace, lambda: _with_netlink(delete))


def add_wire(a: DeviceEnd, b: DeviceEnd, mtu: int) -> None:
    """A veth pair between two namespaces. Raises DriverError."""
    inside(a.namespace, lambda ip: _add_wires(ip, [Wire(a, b, mtu)]))


def delete_device(ip: Any, index: int) -> None:
    """Delete a device; success when it is already gone (its veth peer was deleted)."""
    _delete(ip, index=index)


def _delete(ip: Any, **which: int) -> None:
    try:
        ip.link("del", **which)
    except NetlinkError as error:
        # EOPNOTSUPP: a device that the kernel makes in every namespace (tunl0, sit0)
        if error.code not in (errno.ENODEV, errno.EOPNOTSUPP):
            raise


def inside(namespace: str, work: Callable[[Any], None], what: str | None = None) -> None:
    """Do it in a namespace. Raises DriverError that names it."""
    with _told(what or f"namespace {namespace!r}"):
        namespaces.run_in(namespace, lambda: _with_netlink(work))


def _with_netlink(work: Callable[[Any], None]) -> None:
    with IPRoute() as ip:
        work(ip)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Kernel errors become DriverErrors that name the object."""
    try:
        yield
    except namespaces.NamespaceMissing as error:
        raise DriverError(f"{what} does not exist") from error
    except NetlinkError as error:
        raise DriverError(f"{what}: {error.args[-1]}") from error
    except OSError as error:
        raise DriverError(f"{what}: {error.strerror or error}") from error


def _grouped(things: Iterable[Any], key: Callable[[Any], str]) -> Iterator[tuple[str, Iterable[Any]]]:
    return groupby(sorted(things, key=key), key)


def add_bridge(ip: Any, bridge: BridgeSpace) -> None:
    bridge_sysctls("default")  # devices made later inherit it: a bridge domain speaks no IPv6 of its own
    ip.link(
        "add", ifname=BRIDGE, kind="bridge", group=DEVICE_GROUP, mtu=bridge.mtu, br_mcast_snooping=0, br_stp_state=0
    )


def join_bridge(ip: Any, bridge: BridgeSpace) -> None:
    master = index_of(ip, BRIDGE)
    for member in bridge.members:
        ip.link("set", index=index_of(ip, member), master=master, mtu=bridge.mtu, state="up")
    ip.link("set", index=master, mtu=bridge.mtu, state="up")


def forward(ip: Any, ports: Iterable[str]) -> None:
    """Let ports of a bridge forward at once. One without a carrier does so when it has one."""
    for port in ports:
        try:
            ip.brport("set", index=index_of(ip, port), brport_state=_FORWARDING)
        except NetlinkError as error:
            if error.code != errno.ENETDOWN:
                raise


def _add_access_bridge(ip: Any, domain: str, segment: str, access: AccessBridge) -> None:
    border = access.border
    found = ip.link_lookup(ifname=border.device)
    if not found:
        raise DriverError(f"SAP {border.sap!r}: no device {border.device!r} in namespace {border.namespace!r}")
    device = ip.get_links(found[0])[0]
    if device.get("master"):
        raise label_in_use(access.attachment)
    if device.get("mtu") < access.mtu:
        raise DriverError(
            f"SAP {border.sap!r}: device {border.device!r} has MTU {device.get('mtu')}, the network needs {access.mtu}"
        )
    ip.link("add", ifname=access.bridge, kind="bridge", br_mcast_snooping=0, br_stp_state=0)
    bridge = index_of(ip, access.bridge)
    ip.link("set", index=bridge, ifalias=border_tag(domain, segment))
    bridge_sysctls(access.bridge)
    ip.link("set", index=device["index"], master=bridge)


def _join_access(ip: Any, domain: str, segment: str, access: AccessBridge) -> None:
    bridge, member = index_of(ip, access.bridge), index_of(ip, access.member)
    ip.link("set", index=member, ifalias=border_tag(domain, segment))
    bridge_sysctls(access.member)
    ip.link("set", index=member, master=bridge, state="up")
    ip.link("set", index=bridge, mtu=access.mtu, state="up")


def _join_trunk(ip: Any, domain: str, segment: str, port: TrunkPort) -> None:
    bridge_sysctls(port.member)
    trunks.join(ip, domain, segment, port)


def _join_header(ip: Any, header: HeaderSpace) -> None:
    for device in (INSIDE, OUTSIDE):
        bridge_sysctls(device)
    headers.join(ip, header.leaving, header.entering)


def _add_wires(ip: Any, wires: Iterable[Wire]) -> None:
    for wire in wires:
        peer: dict[str, Any] = {"ifname": wire.b.device, "mtu": wire.mtu, "group": DEVICE_GROUP}
        if wire.b.namespace != wire.a.namespace:
            peer["net_ns_fd"] = str(namespaces.DIRECTORY / wire.b.namespace)
        with _told(f"veth of {wire.a.namespace}:{wire.a.device} to {wire.b.namespace}:{wire.b.device}"):
            split = {"gso_max_segs": 1} if wire.split else {}
            ip.link("add", ifname=wire.a.device, kind="veth", group=DEVICE_GROUP, mtu=wire.mtu, peer=peer, **split)


def _add_tunnels(ip: Any, tunnels: Iterable[Tunnel]) -> None:
    for tunnel in tunnels:
        border = tunnel.border
        six = "6" if border.local.version == 6 else ""
        options = {
            "group": DEVICE_GROUP,
            "vxlan_id": tunnel.attachment.label,
            "vxlan_port": border.port,
            "vxlan_learning": 0,
            f"vxlan_local{six}": str(border.local),
            f"vxlan_group{six}": str(border.remote),
        }
        if not six:
            options["vxlan_df"] = 1  # what the underlay does not carry is told to the sender, never fragmented
        if border.device is not None:
            options["vxlan_link"] = index_of(ip, border.device)
        _check_underlay(ip, tunnel)
        target = str(namespaces.DIRECTORY / tunnel.end.namespace)
        request = {"ifname": tunnel.end.device, "kind": "vxlan", "mtu": tunnel.mtu, "net_ns_fd": target, **options}
        deadline = time.monotonic() + CLEANING_SECONDS
        while not _added(ip, request):
            if time.monotonic() > deadline:
                raise label_in_use(tunnel.attachment)
            time.sleep(0.02)


def _check_underlay(ip: Any, tunnel: Tunnel) -> None:
    """Whether what a service may send fits into the underlay with the tunnel's headers: nothing is fragmented there."""
    border = tunnel.border
    index = ip.link_lookup(ifname=border.device) if border.device is not None else _towards(ip, border.remote)
    for device in ip.get_links(*index) if index else ():
        needed = tunnel.mtu + TUNNEL_HEADERS[border.remote.version]
        if device.get("mtu") < needed:
            raise DriverError(
                f"SAP {border.sap!r}: underlay {device.get('ifname')!r} has MTU {device.get('mtu')}, "
                f"VXLAN with {tunnel.mtu} bytes needs {needed}"
            )


def _towards(ip: Any, remote: IPv4Address | IPv6Address) -> list[int]:
    """The device by which an address is reached; none where there is no way to it (yet)."""
    try:
        return [route.get("oif") for route in ip.route("get", dst=str(remote))]
    except NetlinkError:
        return []


def _added(ip: Any, request: dict[str, Any]) -> bool:
    """Create a device; False when the kernel says that it exists."""
    try:
        ip.link("add", **request)
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            return False
        raise
    return True


def index_of(ip: Any, device: str) -> int:
    """The index of a device. Raises DriverError when it is not there."""
    found = ip.link_lookup(ifname=device)
    if not found:
        raise DriverError(f"device {device!r} is not there")
    return int(found[0])


def mark_complete(namespace: str, mark: str) -> None:
    """Write the mark on the namespace's `lo`: from now on it counts as built."""
    inside(namespace, lambda ip: ip.link("set", index=1, ifalias=mark))
