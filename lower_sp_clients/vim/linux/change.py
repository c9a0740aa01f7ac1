"""A segment that is built becomes another one, in place: only what differs is touched.

Rules enforced here
- Devices, addresses, routes and namespaces that both plans have stay as they are, and with them the traffic over them. A
  port that joins another network is taken out and put in again: for that moment it is away.
- Namespaces and rulesets come first, then devices, then routes, each of which changes at once; what is no longer wanted
  goes last. So a port is away for as long as the kernel takes to make it, and no longer.
- Where access devices, trunks or tables of flows differ, or packets bear path headers, it is not changed in place but built
  anew (`can`).
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from socket import AF_INET, AF_INET6
from typing import Any

from lower_sp_clients.vim.linux import build, namespaces
from lower_sp_clients.vim.linux.forwarding import configure_ports, set_forwarding, tables_of
from lower_sp_clients.vim.linux.namespaces import write_sysctl
from lower_sp_clients.vim.linux.plan import DeviceEnd, FunctionSpace, SegmentPlan
from lower_sp_clients.vim.linux.ruleset import TABLE, Nft, ruleset

_KERNEL = 2
"""RTPROT_KERNEL: routes that follow from addresses."""


def can(former: SegmentPlan, wanted: SegmentPlan) -> bool:
    """Whether the one becomes the other in place."""
    if former.headers or wanted.headers or (former.accesses, former.trunks) != (wanted.accesses, wanted.trunks):
        return False
    joined = {(a.border.namespace, a.member) for a in wanted.accesses}
    joined |= {(t.border.namespace, t.member) for t in wanted.trunks}
    moved = set(former.wires) ^ set(wanted.wires)
    if any((end.namespace, end.device) in joined for wire in moved for end in (wire.a, wire.b)):
        return False
    spaces = {space.name: space for space in former.functions}
    return all(_alike(spaces[space.name], space) for space in wanted.functions if space.name in spaces)


def _alike(x: FunctionSpace, y: FunctionSpace) -> bool:
    """Whether a function differs in ports, addresses, routes and rules alone."""
    flows = any(port.flows for port in (*x.ports, *y.ports))
    return (x.rate, x.metered, x.firewall is None) == (y.rate, y.metered, y.firewall is None) and not flows


def change(former: SegmentPlan, wanted: SegmentPlan, nft: Nft) -> None:
    """Make `former`, which is complete, be `wanted`. Raises DriverError and what the kernel raises, half done."""
    old_wires, old_tunnels = set(former.wires), set(former.tunnels)
    new_wires = [wire for wire in wanted.wires if wire not in old_wires]
    new_tunnels = [tunnel for tunnel in wanted.tunnels if tunnel not in old_tunnels]
    gone = [end for wire in old_wires - set(wanted.wires) for end in (wire.a, wire.b)]
    tunnels = {tunnel.end for tunnel in old_tunnels - set(wanted.tunnels)}
    taken = {end for wire in new_wires for end in (wire.a, wire.b)} | {tunnel.end for tunnel in new_tunnels}
    before = {space.name: space for space in former.functions}
    for name in sorted(wanted.namespaces - former.namespaces):
        namespaces.create(name)
    for space in wanted.functions:
        _load(space, before.get(space.name), nft)
    for end in {*tunnels, *(end for end in gone if end in taken)}:  # its label or name is wanted for what comes
        _delete(end)
    bridges = [bridge for bridge in wanted.bridges if bridge not in former.bridges]
    for bridge in bridges:
        if bridge.name not in former.namespaces:
            build.inside(bridge.name, partial(build.add_bridge, bridge=bridge))
    build.add_wires(new_wires)
    build.add_tunnels(new_tunnels)
    renewed = {bridge.name for bridge in bridges} | {end.namespace for end in taken}
    for bridge in wanted.bridges:
        if bridge.name in renewed:
            build.inside(bridge.name, partial(build.join_bridge, bridge=bridge))
    changed = [s for s in wanted.functions if before.get(s.name) != s or s.name in renewed]
    for space in changed:
        build.inside(space.name, partial(configure_ports, space=space))
    for bridge in wanted.bridges:
        if bridge.name in renewed:
            build.inside(bridge.name, partial(build.forward, ports=bridge.members))
    for space in changed:
        build.inside(space.name, partial(_reconfigure, space=space))
    for end in gone:
        if end not in taken and end.namespace in wanted.namespaces:
            _delete(end)
    for name in sorted(former.namespaces - wanted.namespaces):
        build.remove_devices(name)
        namespaces.delete(name)


def _delete(end: DeviceEnd) -> None:
    def work(ip: Any) -> None:
        for index in ip.link_lookup(ifname=end.device):
            build.delete_device(ip, index)

    build.inside(end.namespace, work)


def _load(space: FunctionSpace, before: FunctionSpace | None, nft: Nft) -> None:
    """The function's ruleset, at once in place of the one before, where they differ."""
    text = ruleset(space)
    if text is not None and (before is None or ruleset(before) != text):
        instead = f"table {TABLE}\ndelete table {TABLE}\n{text}"
        namespaces.run_in(space.name, lambda: nft.load(instead))


def _reconfigure(ip: Any, space: FunctionSpace) -> None:
    """Addresses and tables as they are wanted: what is new first."""
    write_sysctl("ipv4/conf/all/promote_secondaries", 1)  # an address that goes takes no other of its prefix with it
    had = _addresses(ip, space)
    set_forwarding(ip, space, frozenset(had))
    wanted = {(port.device, interface) for port in space.ports for interface in port.interfaces}
    tables = tables_of(space)
    for route in _routes(ip):
        if route not in tables:
            family, table, destination = route
            ip.route("del", family=family, table=table, dst=str(destination))
    priorities = {port.table for port in space.ports}
    for family in (AF_INET, AF_INET6):
        for rule in ip.get_rules(family=family):
            priority = rule.get("priority") or 0
            if 1000 <= priority < 30_000 and priority not in priorities:
                ip.rule("del", family=family, priority=priority, table=rule.get("table"), iifname=rule.get("iifname"))
    for device, interface in had - wanted:
        for index in ip.link_lookup(ifname=device):
            ip.addr("del", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)


def _addresses(ip: Any, space: FunctionSpace) -> set[tuple[str, Any]]:
    names = {index: port.device for port in space.ports for index in ip.link_lookup(ifname=port.device)}
    found = ((names.get(a["index"]), ip_interface(f"{a.get('address')}/{a['prefixlen']}")) for a in ip.get_addr())
    return {(name, interface) for name, interface in found if name is not None and not interface.is_link_local}


def _routes(ip: Any) -> set[tuple[int, int, IPv4Network | IPv6Network]]:
    """Family, table and destination of every route that was set here."""
    out: set[tuple[int, int, IPv4Network | IPv6Network]] = set()
    for family, everything in ((AF_INET, ip_network("0.0.0.0/0")), (AF_INET6, ip_network("::/0"))):
        for route in ip.get_routes(family=family):
            table = route.get("table")
            if route["proto"] == _KERNEL or route["flags"] & 0x200 or table == 255:
                continue
            destination = route.get("dst")
            known = everything if destination is None else ip_network(f"{destination}/{route['dst_len']}")
            out.add((family, table, known))
    return out
