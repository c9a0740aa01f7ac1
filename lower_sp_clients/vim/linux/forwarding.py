"""A function's ports, addresses, routing tables, shaper and rules, set from inside its namespace.

Rules enforced here
- Only data ports forward. A management port's packets meet a table that has `unreachable` alone, and no data port's
  table leads to it.
- A port answers ARP for its own addresses only, and no reverse-path filter drops what a path sends round.
- IPv6 addresses are usable at once (no duplicate address detection: addresses are planned), and nothing is learnt from
  router advertisements.
- Who does not answer ARP or neighbour discovery is asked again after `NEIGHBOUR_RETRY_MS`, not after the kernel's second: that
  is what a path costs at most beyond its building when what stands beside a function was made anew. It is given up after as
  long as by the kernel itself: a bridge may take a second until it forwards to a new port.
"""

from __future__ import annotations

from collections.abc import Set
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from typing import Any

from lower_sp_clients.vim.driver import FlowMatch, Route
from lower_sp_clients.vim.implementations import ShaperRate
from lower_sp_clients.vim.linux.namespaces import has_ipv6, write_sysctl
from lower_sp_clients.vim.linux.naming import port_alias
from lower_sp_clients.vim.linux.plan import FunctionSpace, PlannedPort
from lower_sp_clients.vim.linux.ruleset import Nft, ruleset

MAIN_TABLE = 254
ETHERNET_HEADER = 18
"""Bytes, with one VLAN tag."""
NEIGHBOUR_RETRY_MS, NEIGHBOUR_TIME_MS = 50, 3000
_IFA_F_NODAD = 0x02
_FAMILIES = (AF_INET, AF_INET6)


def configure_ports(ip: Any, space: FunctionSpace) -> None:
    """Sysctls, aliases and devices up: before any address, in every namespace of the segment."""
    _namespace_sysctls()
    ip.link("set", index=1, state="up")
    for port in space.ports:
        for key, value in _port_sysctls(port).items():
            write_sysctl(key, value)
        index = _index(ip, port.device)
        alias = port_alias(port.index, port.name, management=port.management)
        known = {} if port.hardware_address is None else {"address": port.hardware_address}
        ip.link("set", index=index, ifalias=alias, **known)
        ip.link("set", index=index, state="up")


def configure_function(ip: Any, space: FunctionSpace, nft: Nft) -> None:
    """Addresses, tables, rules, shaper, ruleset. The ruleset comes before the routes: nothing passes unfiltered."""
    text = ruleset(space)
    if text is not None:
        nft.load(text)
    set_forwarding(ip, space, frozenset())


def set_forwarding(ip: Any, space: FunctionSpace, there: Set[tuple[str, IPv4Interface | IPv6Interface]]) -> None:
    """Addresses, shaper and tables, over what is `there` (devices and their addresses): nothing is taken away."""
    indices = {port.name: _index(ip, port.device) for port in space.ports}
    for port in space.ports:
        for interface in port.interfaces:
            if (port.device, interface) not in there:
                add_address(ip, indices[port.name], interface)
        if space.rate is not None and not port.management and not _shaped(ip, indices[port.name]):
            _shape(ip, indices[port.name], space.rate)
    ruled = {(family, rule.get("priority")) for family in _FAMILIES for rule in ip.get_rules(family=family)}
    for port in space.ports:
        _add_table(ip, space, port, indices, ruled)
    for route in space.routes:
        _add_route(ip, route, indices, MAIN_TABLE)


def tables_of(space: FunctionSpace) -> set[tuple[int, int, IPv4Network | IPv6Network]]:
    """Family, table and destination of every route that a function without flows has."""
    out = {(_family(r.destination), MAIN_TABLE, r.destination) for r in space.routes}
    connected = _connected(space, {port.name: 0 for port in space.ports})
    for port in space.ports:
        if not port.management:
            out |= {
                (_family(prefix), port.table, prefix) for prefix in (*connected, *(r.destination for r in port.routes))
            }
        out |= {(AF_INET, port.table, ip_network("0.0.0.0/0")), (AF_INET6, port.table, ip_network("::/0"))}
    return out


def _shaped(ip: Any, index: int) -> bool:
    return any(q["index"] == index and q.get("kind") == "tbf" for q in ip.get_qdiscs())


def bridge_sysctls(device: str) -> None:
    """A device that only carries other people's frames has no IPv6 of its own."""
    write_sysctl(f"ipv6/conf/{device}/disable_ipv6", 1)


def _namespace_sysctls() -> None:
    for key, value in {
        "ipv4/ip_forward": 1,
        "ipv4/conf/all/rp_filter": 0,
        "ipv4/conf/default/rp_filter": 0,
        "ipv4/conf/all/send_redirects": 0,
        "ipv4/conf/all/accept_redirects": 0,
        "ipv4/icmp_errors_use_inbound_ifaddr": 1,
        "ipv6/conf/all/disable_ipv6": 0,
        "ipv6/conf/default/disable_ipv6": 0,
        "ipv6/conf/all/forwarding": 1,
        "ipv6/conf/all/accept_redirects": 0,
    }.items():
        write_sysctl(key, value)


def _port_sysctls(port: PlannedPort) -> dict[str, int]:
    four, six = f"ipv4/conf/{port.device}", f"ipv6/conf/{port.device}"
    return {
        **_neighbour_sysctls(f"ipv4/neigh/{port.device}"),
        **_neighbour_sysctls(f"ipv6/neigh/{port.device}"),
        f"{four}/forwarding": int(not port.management),
        f"{four}/rp_filter": 0,
        f"{four}/send_redirects": 0,
        f"{four}/arp_ignore": 1,
        f"{four}/arp_announce": 2,
        f"{six}/disable_ipv6": 0,
        f"{six}/accept_dad": 0,
        f"{six}/dad_transmits": 0,
        f"{six}/accept_ra": 0,
        f"{six}/autoconf": 0,
    }


def _neighbour_sysctls(of: str) -> dict[str, int]:
    return {
        f"{of}/retrans_time_ms": NEIGHBOUR_RETRY_MS,
        f"{of}/mcast_solicit": NEIGHBOUR_TIME_MS // NEIGHBOUR_RETRY_MS,
    }


def _index(ip: Any, device: str) -> int:
    return int(ip.link_lookup(ifname=device)[0])


def add_address(ip: Any, index: int, interface: IPv4Interface | IPv6Interface) -> None:
    options: dict[str, Any] = {}
    if interface.version == 6:
        options["flags"] = _IFA_F_NODAD
    elif interface.network.prefixlen < 31:
        options["broadcast"] = str(interface.network.broadcast_address)
    ip.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen, **options)


def _add_table(
    ip: Any, space: FunctionSpace, port: PlannedPort, indices: dict[str, int], ruled: Set[tuple[int, int]]
) -> None:
    if not port.management:
        for prefix, index in _connected(space, indices).items():
            ip.route(
                "replace", family=_family(prefix), dst=str(prefix), oif=index, table=port.table, scope=_scope(prefix)
            )
        for route in port.routes:
            _add_route(ip, route, indices, port.table)
    for flow in port.flows:
        for route in flow.routes:
            _add_route(ip, route, indices, flow.table)
        for family in {_family(route.destination) for route in flow.routes}:
            match = _match(flow.flow, family)
            ip.rule("add", family=family, iifname=port.device, table=flow.table, priority=flow.table, **match)
    for family in _FAMILIES if has_ipv6() else _FAMILIES[:1]:
        everything = "0.0.0.0/0" if family == AF_INET else "::/0"
        ip.route("replace", family=family, dst=everything, type="unreachable", table=port.table, priority=65535)
        if (family, port.table) not in ruled:
            ip.rule("add", family=family, iifname=port.device, table=port.table, priority=port.table)


def _match(flow: FlowMatch, family: int) -> dict[str, Any]:
    """What a rule says of a flow's packets."""
    protocol = {"tcp": IPPROTO_TCP, "udp": IPPROTO_UDP, "icmp": IPPROTO_ICMP if family == AF_INET else IPPROTO_ICMPV6}
    ports = {"dport_range": flow.destination_port, "sport_range": flow.source_port}
    return {"ip_proto": protocol[flow.protocol]} | {
        k: f"{port}:{port}" for k, port in ports.items() if port is not None
    }


def _connected(space: FunctionSpace, indices: dict[str, int]) -> dict[IPv4Network | IPv6Network, int]:
    found: dict[IPv4Network | IPv6Network, int] = {}
    for port in space.ports:
        if not port.management:
            for interface in port.interfaces:
                found.setdefault(interface.network, indices[port.name])
    return found


def _add_route(ip: Any, route: Route, indices: dict[str, int], table: int) -> None:
    prefix = route.destination
    ip.route(
        # "replace": a route of the blueprint for a connected prefix is the more deliberate of the two
        "replace",
        family=_family(prefix),
        dst=str(prefix),
        gateway=str(route.next_hop),
        oif=indices[route.egress],
        table=table,
    )


def _shape(ip: Any, index: int, rate: ShaperRate) -> None:
    bytes_per_second = max(rate.rate_bps // 8, 1)
    burst = max(rate.burst_bytes, ip.get_links(index)[0].get("mtu") + ETHERNET_HEADER)  # a larger frame never gets out
    # a queue of 50 ms beyond the burst: long enough for a TCP sender to see delay before loss
    ip.tc("add", "tbf", index, root=True, rate=bytes_per_second, burst=burst, latency="50ms")


def _family(prefix: IPv4Network | IPv6Network) -> int:
    return AF_INET if prefix.version == 4 else AF_INET6


def _scope(prefix: IPv4Network | IPv6Network) -> int:
    return 253 if prefix.version == 4 else 0  # link; IPv6 has no scopes of routes
