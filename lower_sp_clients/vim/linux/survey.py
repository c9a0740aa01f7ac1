"""Looking at what is in the kernel: items by tag, whether a segment is complete and unchanged, counters.

Rules enforced here
- Only names and tags decide what belongs to a segment; nothing is remembered between calls.
- A segment is complete when exactly its planned namespaces exist and each bears the mark that was written after the
  last step. The mark holds the plan's digest and a fingerprint of devices, their programs, addresses, routes,
  rules, shapers and nftables as they were then, so a part that somebody took away or added is noticed.
- What is lost of a segment is judged by the fingerprints alone, whatever plan had made it. Where a namespace is gone that is the
  loss: what was joined to it has changed with it.
- Whatever the kernel does by itself (link-local addresses, local and cached routes) is in no fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute

from lower_sp_clients.vim.driver import Attachment, Item, Loss, PortCounters
from lower_sp_clients.vim.linux import namespaces, naming, trunks
from lower_sp_clients.vim.linux.naming import NamespaceName, PortAlias
from lower_sp_clients.vim.linux.plan import AccessBridge, BridgeSpace, FunctionSpace, HeaderSpace, SegmentPlan
from lower_sp_clients.vim.linux.ruleset import Nft, ruleset, values
from lower_sp_clients.vim.linux.saps import Border, VlanBorder

NAMESPACE = "namespace"
INTERFACE = "interface"
FILTER = "filter"

_RTPROT_KERNEL = 2
_RTM_F_CLONED = 0x200
_LOCAL_TABLE = 255


def service_namespaces(domain: str) -> list[NamespaceName]:
    """The namespaces of this domain's services."""
    found = (NamespaceName.parse(text, domain) for text in namespaces.names())
    return [name for name in found if name is not None]


def items(domain: str, borders: Iterable[Border]) -> tuple[Item, ...]:
    """Everything of the domain: its namespaces, and in the border namespaces its devices (`border:device`) and its filters
    on trunks (`border:trunk:vlan`)."""
    borders = tuple(borders)
    services = service_namespaces(domain)
    found = [Item(segment=name.segment, kind=NAMESPACE, name=str(name)) for name in services]
    segments = {name.segment for name in services}
    for namespace in sorted({border.namespace for border in borders}):
        found += [
            Item(segment=segment, kind=INTERFACE, name=f"{namespace}:{device}")
            for device, segment, _ in border_devices(domain, namespace, segments)
        ]
    for trunk in trunks_of(borders):
        found += [
            Item(
                segment=segment,
                kind=FILTER,
                name=f"{trunk.namespace}:{trunk.device}:{vlan}",
                sap=trunk.sap,
                label=vlan,
            )
            for segment, vlan in trunks.owned(domain, trunk)
        ]
    return tuple(found)


def trunks_of(borders: Iterable[Border]) -> list[VlanBorder]:
    """One border for each trunk."""
    return list({(b.namespace, b.device): b for b in borders if isinstance(b, VlanBorder)}.values())


def border_devices(domain: str, border: str, segments: Iterable[str]) -> list[tuple[str, str, int]]:
    """Device, segment, index of what the domain made in a border namespace; empty where there is none.

    `segments` are those that may own a device which a crash left without its alias.
    """
    tag = naming.border_tag(domain, "")
    by_prefix = {naming.border_prefix(domain, segment): segment for segment in segments}

    def look() -> list[tuple[str, str, int]]:
        found = []
        with IPRoute() as ip:
            for link in ip.get_links():
                device, alias = link.get("ifname"), link.get("ifalias") or ""
                if alias.startswith(tag):
                    found.append((device, alias.removeprefix(tag), link["index"]))
                else:
                    owner = next((s for prefix, s in by_prefix.items() if device.startswith(prefix)), None)
                    if owner is not None and not alias:
                        found.append((device, owner, link["index"]))
        return found

    try:
        return namespaces.run_in(border, look)
    except namespaces.NamespaceMissing:
        return []


def marks(plan: SegmentPlan, nft: Nft) -> dict[str, str]:
    """The mark that each namespace of the plan should bear if it is now as it was built."""
    return {space.name: _mark(plan, space, nft) for space in plan.spaces}


def is_complete(domain: str, plan: SegmentPlan, nft: Nft) -> bool:
    """Whether the kernel holds this plan, whole and unchanged."""
    there = {str(name) for name in service_namespaces(domain) if name.segment == plan.segment}
    if there != plan.namespaces:
        return False
    try:
        borne = {name: namespaces.run_in(name, _borne) for name in plan.namespaces}
        return (
            all(mark.startswith(f"{plan.digest}:") for mark in borne.values())
            and borne == marks(plan, nft)
            and all(_access_complete(access) for access in plan.accesses)
            and all(trunks.is_joined(domain, plan.segment, port) for port in plan.trunks)
        )
    except namespaces.NamespaceMissing:
        return False


def losses(domain: str, plans: Iterable[SegmentPlan], nft: Nft) -> dict[str, tuple[Loss, ...]]:
    """By segment, what is gone or changed of those that were built whole by these plans, or by others of the same parts."""
    there = {str(name) for name in service_namespaces(domain)}
    found = {plan.segment: _lost(domain, plan, nft, there) for plan in plans}
    return {segment: lost for segment, lost in found.items() if lost}


def _lost(domain: str, plan: SegmentPlan, nft: Nft, there: set[str]) -> tuple[Loss, ...]:
    gone = [space.name for space in plan.spaces if space.name not in there]
    if gone:
        return tuple(_loss(domain, name, "is gone") for name in gone)
    lost = [
        _loss(domain, s.name, "is not as it was built")
        for s in plan.spaces
        if not _there(partial(_as_built, plan, s, nft))
    ]
    lost += [_unjoined(access.attachment) for access in plan.accesses if not _there(partial(_access_complete, access))]
    joined = partial(trunks.is_joined, domain, plan.segment)
    lost += [_unjoined(port.attachment) for port in plan.trunks if not _there(partial(joined, port))]
    return tuple(lost)


def _unjoined(attachment: Attachment) -> Loss:
    return Loss(what=f"network {attachment.network!r} is not joined to SAP {attachment.sap!r}")


def _there(is_whole: Callable[[], bool]) -> bool:
    try:
        return is_whole()
    except namespaces.NamespaceMissing:
        return False


def _loss(domain: str, space: str, how: str) -> Loss:
    name = NamespaceName.parse(space, domain)
    assert name is not None, "the plan is of this domain"
    if name.kind == naming.FUNCTION:
        return Loss(what=f"function {name.id!r} {how}", function=name.id)
    what = "network" if name.kind == naming.NETWORK else "what bears path headers at"
    return Loss(what=f"{what} {name.id!r} {how}")


def _as_built(plan: SegmentPlan, space: FunctionSpace | BridgeSpace | HeaderSpace, nft: Nft) -> bool:
    borne = namespaces.run_in(space.name, _borne)
    return borne.partition(":")[2] == _mark(plan, space, nft).partition(":")[2]


def read_ports(name: NamespaceName) -> list[PortCounters]:
    """Counters of a function's ports. Raises NamespaceMissing."""
    found = []
    for alias, stats in namespaces.run_in(str(name), _aliased):
        found.append(
            PortCounters(
                function=name.id,
                port=alias.port,
                rx_packets=stats["rx_packets"],
                rx_bytes=stats["rx_bytes"],
                tx_packets=stats["tx_packets"],
                tx_bytes=stats["tx_bytes"],
            )
        )
    return found


def read_values(name: NamespaceName, nft: Nft) -> dict[str, float]:
    """The function's own counters: nftables', and packets that a shaper dropped. Raises NamespaceMissing."""

    def read() -> dict[str, float]:
        found = values(name.id, nft.counters(), [alias for alias, _ in _aliased()])
        with IPRoute() as ip:
            shapers = [q for q in ip.get_qdiscs() if q.get("kind") == "tbf"]
        if shapers:
            drops = [(q.get("stats2") or {}).get("stats_queue", {}).get("drops", 0) for q in shapers]
            found[f"{name.id}.dropped"] = sum(drops)
        return found

    return namespaces.run_in(str(name), read)


def _aliased() -> list[tuple[PortAlias, dict[str, int]]]:
    with IPRoute() as ip:
        links = [(PortAlias.parse(link.get("ifalias") or ""), link.get("stats64")) for link in ip.get_links()]
    return sorted(((alias, stats) for alias, stats in links if alias is not None), key=lambda pair: pair[0].index)


def _borne() -> str:
    with IPRoute() as ip:
        return ip.get_links(1)[0].get("ifalias") or ""


def _mark(plan: SegmentPlan, space: FunctionSpace | BridgeSpace | HeaderSpace, nft: Nft) -> str:
    filtered = isinstance(space, FunctionSpace) and ruleset(space) is not None

    def look() -> str:
        listing = nft.listing() if filtered else ""
        with IPRoute() as ip:
            state = [_links(ip), _programs(ip), _addresses(ip), _routes(ip), _policy(ip), _shapers(ip), listing]
        return hashlib.sha256(repr(state).encode()).hexdigest()[:32]

    return f"{plan.digest}:{namespaces.run_in(space.name, look)}"


def _links(ip: Any) -> list[tuple[object, ...]]:
    return [
        (link["index"], link.get("ifname"), link.get("mtu"), link.get("address"), link["flags"] & 1, link.get("master"))
        for link in ip.get_links()
    ]


def _programs(ip: Any) -> list[tuple[object, ...]]:
    found = [(link["index"], link.get_nested("IFLA_XDP", "IFLA_XDP_PROG_ID")) for link in ip.get_links()]
    return [entry for entry in found if entry[1] is not None]


def _addresses(ip: Any) -> list[tuple[object, ...]]:
    found = [(entry["index"], entry.get("address"), entry["prefixlen"]) for entry in ip.get_addr()]
    return sorted(entry for entry in found if not ip_address(str(entry[1])).is_link_local)


def _routes(ip: Any) -> list[tuple[object, ...]]:
    found = []
    for family in (AF_INET, AF_INET6):
        for route in ip.get_routes(family=family):
            table = route.get("table")
            if route["proto"] == _RTPROT_KERNEL or route["flags"] & _RTM_F_CLONED or table == _LOCAL_TABLE:
                continue
            key = (family, table, route.get("dst"), route["dst_len"], route["type"], route.get("gateway"))
            found.append((*key, route.get("oif")))
    return sorted(found, key=repr)


def _policy(ip: Any) -> list[tuple[object, ...]]:
    found = []
    for family in (AF_INET, AF_INET6):
        for rule in ip.get_rules(family=family):
            flow = [rule.get(key) for key in ("ip_proto", "sport_range", "dport_range")]
            found.append((family, rule.get("priority"), rule.get("iifname"), rule.get("table"), *flow))
    return sorted(found, key=repr)


def _shapers(ip: Any) -> list[tuple[object, ...]]:
    return sorted((q["index"], q.get("kind")) for q in ip.get_qdiscs() if q.get("kind") == "tbf")


def _access_complete(access: AccessBridge) -> bool:
    def look() -> bool:
        with IPRoute() as ip:
            links = {link.get("ifname"): link for link in ip.get_links()}
        bridge = links.get(access.bridge)
        members = (links.get(access.member), links.get(access.border.device))
        return bridge is not None and all(m is not None and m.get("master") == bridge["index"] for m in members)

    return namespaces.run_in(access.border.namespace, look)
