"""VLANs (IEEE 802.1Q) on a trunk without the kernel's VLAN devices: a filter at each side puts on and takes off the tag.

    service ─ veth ─ member ═ tag on ═> trunk device ═ tag off ═> member ─ veth ─ service

Rules enforced here
- A filter on the trunk has the VLAN id as its priority, so the kernel refuses a second one: the id is in use, whoever took it.
- Its name is the segment's tag and the id: it is found again from the kernel alone.
- The trunk stays where it is, with what else goes over it. The hook for filters (`clsact`) stays on it: it does nothing alone.
- A frame has the trunk's MTU and four bytes more (IEEE 802.3-2022, 3.2.7): the tag takes nothing of what a service may send.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lower_sp_clients.vim.driver import DriverError
from lower_sp_clients.vim.linux import bpf, namespaces, naming, vlan_tags
from lower_sp_clients.vim.linux.plan import TrunkPort
from lower_sp_clients.vim.linux.saps import VlanBorder
from lower_sp_clients.vim.soundness import label_in_use

INGRESS = 0xFFFFFFF2
"""What a device receives, at its `clsact`."""
_ALL = 0x0003
"""ETH_P_ALL."""


def hook(ip: Any, index: int) -> None:
    """Let a device have filters. Raises NetlinkError."""
    try:
        ip.tc("add", "clsact", index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def attach(ip: Any, index: int, program: bytes, name: str, priority: int) -> None:
    """Put a program on what a device receives. Raises NetlinkError (EEXIST where the priority is taken) and OSError."""
    with bpf.loaded(program, bpf.Kind.FILTER) as descriptor:
        ip.tc(
            "add-filter", "bpf", index, 1, parent=INGRESS, fd=descriptor, name=name, direct_action=True,
            prio=priority, protocol=_ALL,
        )  # fmt: skip


def join(ip: Any, domain: str, segment: str, port: TrunkPort) -> None:
    """Join a member, which is there, to its trunk. Raises DriverError, NetlinkError and OSError."""
    border, vlan = port.border, port.attachment.label
    trunk = next(iter(ip.get_links(*ip.link_lookup(ifname=border.device))), None) if _there(ip, border.device) else None
    if trunk is None:
        raise DriverError(f"SAP {border.sap!r}: no device {border.device!r} in namespace {border.namespace!r}")
    if trunk.get("mtu") < port.mtu:
        raise DriverError(
            f"SAP {border.sap!r}: device {border.device!r} has MTU {trunk.get('mtu')}, the network needs {port.mtu}"
        )
    name, (member,) = filter_name(domain, segment, vlan), ip.link_lookup(ifname=port.member)
    ip.link("set", index=member, ifalias=naming.border_tag(domain, segment))
    for index in (trunk["index"], member):
        hook(ip, index)
    attach(ip, member, vlan_tags.tagging(vlan, trunk["index"]), name, vlan)
    try:
        attach(ip, trunk["index"], vlan_tags.untagging(vlan, member), name, vlan)
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            raise label_in_use(port.attachment) from None
        raise
    ip.link("set", index=member, state="up")


def _there(ip: Any, device: str) -> bool:
    return bool(ip.link_lookup(ifname=device))


def filter_name(domain: str, segment: str, vlan: int) -> str:
    return f"{naming.border_tag(domain, segment)}:{vlan}"


def _filters(ip: Any, device: str) -> Iterator[tuple[int, str, int]]:
    """Of the filters on what a device receives: the device's index, name and priority."""
    for index in ip.link_lookup(ifname=device):
        for found in ip.get_filters(index=index, parent=INGRESS):
            options = found.get("TCA_OPTIONS")
            name = options.get("TCA_BPF_NAME") if found.get("TCA_KIND") == "bpf" and options is not None else None
            if name is not None:
                yield index, name, found["info"] >> 16


def owned(domain: str, border: VlanBorder) -> list[tuple[str, int]]:
    """Segment and VLAN id of each filter that the domain has on a trunk; none where there is no such trunk."""
    tag = naming.border_tag(domain, "")

    def look(ip: Any) -> list[tuple[str, int]]:
        names = {name for _, name, _ in _filters(ip, border.device) if name.startswith(tag)}
        split = (name.removeprefix(tag).rpartition(":") for name in names)
        return sorted((segment, int(vlan)) for segment, _, vlan in split)

    return _inside(border, look) or []


def remove(domain: str, segment: str, borders: Iterable[VlanBorder]) -> None:
    """Take the segment's filters off the trunks."""
    tag = f"{naming.border_tag(domain, segment)}:"

    def work(ip: Any, border: VlanBorder) -> None:
        for index, name, priority in list(_filters(ip, border.device)):
            if name.startswith(tag):
                ip.tc("del-filter", "bpf", index, 1, parent=INGRESS, prio=priority, protocol=_ALL)

    for border in borders:
        _inside(border, lambda ip, border=border: work(ip, border))  # type: ignore[misc]


def is_joined(domain: str, segment: str, port: TrunkPort) -> bool:
    """Whether both filters are there, and the member is up."""

    def look(ip: Any) -> bool:
        name, members = filter_name(domain, segment, port.attachment.label), ip.link_lookup(ifname=port.member)
        there = all(any(found == name for _, found, _ in _filters(ip, d)) for d in (port.border.device, port.member))
        return there and bool(members) and bool(ip.get_links(*members)[0]["flags"] & 1)

    return bool(_inside(port.border, look))


def _inside(border: VlanBorder, work: Callable[[Any], Any]) -> Any:
    """What `work` finds in the border's namespace; None where there is none."""

    def run() -> Any:
        with IPRoute() as ip:
            return work(ip)

    with suppress(namespaces.NamespaceMissing):
        return namespaces.run_in(border.namespace, run)
    return None
