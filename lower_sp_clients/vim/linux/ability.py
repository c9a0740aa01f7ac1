"""What this machine lets the driver do, tried in a namespace that vanishes: nothing else is announced.

Rules enforced here
- A facility is tried, not looked up: a kernel module that is missing or a right that is not granted shows the same way.
- What every service needs (namespaces, veth, bridges) is an error; the rest is left out of the offer, with the reason
  and the remedy.
- VLANs and path headers are made by programs (`trunks`, `headers`): the kernel needs no devices of that kind, the caller the
  right to load programs, which nobody has in a user namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lower_sp_clients.vim.driver import DriverError, DriverOffer
from lower_sp_clients.vim.implementations import FIREWALL, FORWARDER, METER, SHAPER
from lower_sp_clients.vim.linux import headers, namespaces, trunks, vlan_tags
from lower_sp_clients.vim.linux.naming import BRIDGE
from lower_sp_clients.vim.linux.ruleset import Nft
from lower_sp_clients.vim.soundness import ETHERNET, VLAN, VXLAN
from service_model.path_headers import Mark

RIGHTS = (
    "run as root or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN (or inside `unshare -Urnm` with a tmpfs on /run)"
)


NO_VLAN = "VLAN: "
"""How the reason begins why there are none."""


@dataclass(frozen=True, slots=True)
class _Tried:
    vxlan: str | None
    vlan: str | None
    tbf: str | None
    nftables: str | None
    ipv6: str | None
    headers: str | None


def detect(nft: Nft, headed: frozenset[str] = frozenset()) -> DriverOffer:
    """The offer; `headed`: the SAPs whose settings ask for path headers. Raises DriverError when no service could be built at
    all."""
    try:
        tried = namespaces.run_in_new(lambda: _try_all(nft))
        namespaces.DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    except PermissionError as error:
        raise DriverError(f"network namespaces are not permitted: {RIGHTS}") from error
    except NetlinkError as error:
        raise DriverError(f"this kernel makes no veth or bridge: {error}") from error
    except OSError as error:
        raise DriverError(f"network namespaces cannot be used: {error}") from error
    missing = []
    implementations, encapsulations = {FORWARDER}, {ETHERNET}
    if tried.nftables is None:
        implementations |= {FIREWALL, METER}
    else:
        missing.append(f"firewall, meter: {tried.nftables}")
    if tried.tbf is None:
        implementations.add(SHAPER)
    else:
        missing.append(f"shaper: {tried.tbf}; load the kernel module sch_tbf")
    if tried.vxlan is None:
        encapsulations.add(VXLAN)
    else:
        missing.append(f"VXLAN: {tried.vxlan}; load the kernel module vxlan")
    if tried.vlan is None:
        encapsulations.add(VLAN)
    else:
        missing.append(f"{NO_VLAN}{tried.vlan}; it takes cls_bpf, sch_ingress and CAP_BPF outside user namespaces")
    if tried.ipv6 is not None:
        missing.append(f"IPv6: {tried.ipv6}; start the kernel without ipv6.disable")
    if headed and tried.headers is not None:
        missing.append(f"path headers: {tried.headers}; they take XDP and CAP_BPF outside user namespaces")
    return DriverOffer(
        implementations=frozenset(implementations),
        encapsulations=frozenset(encapsulations),
        lan=True,
        probes=True,
        path_headers=headed if tried.headers is None else frozenset(),
        missing=tuple(missing),
        versions=frozenset({4, 6} if tried.ipv6 is None else {4}),
    )


def _try_all(nft: Nft) -> _Tried:
    with IPRoute() as ip:
        ip.link("add", ifname=BRIDGE, kind="bridge")
        ip.link("add", ifname="a", kind="veth", peer={"ifname": "b"})
        index = ip.link_lookup(ifname="a")[0]
        vxlan = _refusal(ip.link, "add", ifname="v", kind="vxlan", vxlan_id=1, vxlan_port=4789)
        tbf = _refusal(ip.tc, "add", "tbf", index, root=True, rate=125_000, burst=15_140, latency="50ms")
        vlan = _refusal(_filtered, ip, index)
        ipv6 = _refusal(ip.addr, "add", index=index, address="fd00::1", prefixlen=64)
        header = _refusal(headers.receive, ip, index, headers.taking_off(Mark(2, 1), index))
        header = header or _refusal(headers.receive, ip, index, headers.putting_on(Mark(2, 1), index))
    return _Tried(vxlan=vxlan, vlan=vlan, tbf=tbf, nftables=_nftables(nft), ipv6=ipv6, headers=header)


def _filtered(ip: Any, index: int) -> None:
    trunks.hook(ip, index)
    trunks.attach(ip, index, vlan_tags.untagging(1, index), "try", 1)
    trunks.attach(ip, index, vlan_tags.tagging(1, index), "try", 2)


def _refusal(call: Any, *arguments: Any, **options: Any) -> str | None:
    try:
        call(*arguments, **options)
    except NetlinkError as error:
        return str(error.args[-1])
    except OSError as error:
        return str(error.strerror or error)
    return None


def _nftables(nft: Nft) -> str | None:
    if not nft.installed:
        return "the nft binary is missing: apt-get install nftables"
    try:
        nft.load("table inet spb {\n  counter c {\n  }\n  chain f {\n ct state new counter name c accept\n  }\n}\n")
    except DriverError as error:
        return str(error)
    return None
