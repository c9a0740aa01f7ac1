"""The settings of a SAP in a Linux domain: where its devices are, and where its tunnel ends.

Rules enforced here
- Settings are read once, when the driver is made; a missing, unknown or malformed one is an error that names both.
- VXLAN: `namespace`, `local`, `remote` (addresses of one version), `port` (default 4789, RFC 7348, 5), `device` (the
  underlay's device, optional). One border namespace per interconnect: a namespace refuses a second device of the
  same VNI and port, so two interconnects that share one could not use the same label.
- ETHERNET: `namespace` and `device`, the access device. It stays where it is: it joins a bridge beside it.
- VLAN: `namespace` and `device`, the trunk. It stays where it is, and several SAPs may not share it with one id.
- Each may have `path_headers: nsh`: packets may bear a service path header there. What carries them needs an MTU of 22 bytes
  more (`HEADER_OVERHEAD`) than the SAP has, so it is the operator who says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from lower_sp_clients.vim.driver import SapPort
from lower_sp_clients.vim.soundness import ETHERNET, VLAN, VXLAN

VXLAN_PORT = 4789
_PATH_HEADERS = "path_headers"
HEADER_OVERHEAD = 22
"""Bytes that a path header takes outside: an Ethernet header, the base header and the service path header (RFC 8300, 2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VxlanBorder:
    sap: str
    namespace: str
    local: IPv4Address | IPv6Address
    remote: IPv4Address | IPv6Address
    port: int = VXLAN_PORT
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EthernetBorder:
    sap: str
    namespace: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VlanBorder:
    sap: str
    namespace: str
    device: str


Border = VxlanBorder | EthernetBorder | VlanBorder


def border_of(sap: SapPort) -> Border:
    """Read the settings. Raises ValueError naming the SAP and the setting."""
    if sap.encapsulation in (ETHERNET, VLAN):
        _only(sap, {"namespace", "device"})
        border = EthernetBorder if sap.encapsulation == ETHERNET else VlanBorder
        return border(sap=sap.id, namespace=_required(sap, "namespace"), device=_required(sap, "device"))
    if sap.encapsulation != VXLAN:
        raise ValueError(f"SAP {sap.id!r}: encapsulation {sap.encapsulation!r} is none of ETHERNET, VLAN and VXLAN")
    _only(sap, {"namespace", "local", "remote", "port", "device"})
    local, remote = _address(sap, "local"), _address(sap, "remote")
    if local.version != remote.version:
        raise ValueError(f"SAP {sap.id!r}: 'local' {local} and 'remote' {remote} are of different versions")
    port = sap.settings.get("port", str(VXLAN_PORT))
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"SAP {sap.id!r}: setting 'port' {port!r} is no UDP port")
    return VxlanBorder(
        sap=sap.id,
        namespace=_required(sap, "namespace"),
        local=local,
        remote=remote,
        port=int(port),
        device=sap.settings.get("device"),
    )


def bears_headers(sap: SapPort) -> bool:
    """Whether packets may bear path headers there. Raises ValueError naming the SAP where the setting is another word."""
    value = sap.settings.get(_PATH_HEADERS)
    if value not in (None, "nsh"):
        raise ValueError(f"SAP {sap.id!r}: setting 'path_headers' {value!r} is not 'nsh'")
    return value is not None


def borders_of(saps: Mapping[str, SapPort]) -> dict[str, Border]:
    return {name: border_of(sap) for name, sap in saps.items()}


def _only(sap: SapPort, known: set[str]) -> None:
    for name in sap.settings:
        if name not in known | {_PATH_HEADERS}:
            raise ValueError(f"SAP {sap.id!r}: {sap.encapsulation} has no setting {name!r}")


def _required(sap: SapPort, name: str) -> str:
    value = sap.settings.get(name)
    if not value or "/" in value:
        raise ValueError(f"SAP {sap.id!r}: setting {name!r} is missing or malformed")
    return value


def _address(sap: SapPort, name: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(_required(sap, name))
    except ValueError as error:
        raise ValueError(f"SAP {sap.id!r}: setting {name!r}: {error}") from error
