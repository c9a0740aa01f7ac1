"""The functions that drivers of this project build themselves, and the parameters that each understands.

Rules enforced here
- A parameter that an implementation does not know is an error that names it: a misspelt `polcy` must not mean "accept".
- Parameters become frozen values once; a driver never looks into the mapping again.

forwarder  routes and nothing else; no parameters.
firewall   `deny`, `allow`: lists of `{protocol: tcp|udp|icmp, port: 1-65535}` (port optional, never with icmp);
           `policy`: `accept` (default) or `drop`. A flow's first packet is dropped if it matches a deny, else accepted
           if it matches an allow, else the policy decides; later packets and replies of an accepted flow pass.
           `icmp` means ICMPv6 too; ICMP errors about an accepted flow always pass, so that path MTU discovery works.
shaper     `rate_bps` (bits/s, required) and `burst_bytes`: a token bucket on what leaves each data port.
meter      counts what it forwards, by the data port of entry and by protocol; no parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORWARDER = "forwarder"
FIREWALL = "firewall"
SHAPER = "shaper"
METER = "meter"
IMPLEMENTATIONS = frozenset({FORWARDER, FIREWALL, SHAPER, METER})

PROTOCOLS = ("tcp", "udp", "icmp")
METERED = ("tcp", "udp", "icmp", "other")
"""What a meter tells apart."""

LEAST_RATE_BPS = 8_000
MOST_RATE_BPS = 32_000_000_000
LEAST_BURST_BYTES = 1_600
MOST_BURST_BYTES = 1 << 31
MOST_BURST_SECONDS = 60
"""Bounds of what a token bucket in the Linux kernel can count (32 bits of bytes per second, and of ticks)."""


@dataclass(frozen=True, slots=True)
class Match:
    """Packets of a protocol, to a destination port where one is given."""

    protocol: str
    port: int | None = None

    def covers(self, protocol: str, port: int | None) -> bool:
        return self.protocol == protocol and self.port in (None, port)


@dataclass(frozen=True, slots=True)
class FirewallRules:
    deny: tuple[Match, ...] = ()
    allow: tuple[Match, ...] = ()
    drop_by_default: bool = False

    def accepts(self, protocol: str, port: int | None = None) -> bool:
        """Whether the first packet of such a flow passes."""
        if any(match.covers(protocol, port) for match in self.deny):
            return False
        return any(match.covers(protocol, port) for match in self.allow) or not self.drop_by_default


@dataclass(frozen=True, slots=True)
class ShaperRate:
    """Bits per second, and the bytes that may leave at once."""

    rate_bps: int
    burst_bytes: int

    @classmethod
    def of(cls, rate_bps: int, burst_bytes: int | None = None) -> ShaperRate:
        """By default a burst lasts 20 ms, and holds at least ten full Ethernet frames."""
        return cls(rate_bps, burst_bytes or min(max(rate_bps // 8 // 50, 15_140), MOST_BURST_BYTES))


def firewall_rules(parameters: Mapping[str, Any]) -> FirewallRules:
    """Raises ValueError naming the parameter."""
    _only(FIREWALL, parameters, {"deny", "allow", "policy"})
    policy = parameters.get("policy", "accept")
    if policy not in ("accept", "drop"):
        raise ValueError(f"firewall parameter 'policy': {policy!r} is neither 'accept' nor 'drop'")
    return FirewallRules(_matches("deny", parameters), _matches("allow", parameters), policy == "drop")


def shaper_rate(parameters: Mapping[str, Any]) -> ShaperRate:
    """Raises ValueError naming the parameter."""
    _only(SHAPER, parameters, {"rate_bps", "burst_bytes"})
    if "rate_bps" not in parameters:
        raise ValueError("shaper parameter 'rate_bps' is required")
    rate = _whole("shaper parameter 'rate_bps'", parameters["rate_bps"], LEAST_RATE_BPS, MOST_RATE_BPS)
    burst = parameters.get("burst_bytes")
    if burst is not None:
        burst = _whole("shaper parameter 'burst_bytes'", burst, LEAST_BURST_BYTES, MOST_BURST_BYTES)
        if burst * 8 > rate * MOST_BURST_SECONDS:
            raise ValueError(
                f"shaper parameter 'burst_bytes': {burst} last longer than {MOST_BURST_SECONDS} s at {rate} bit/s"
            )
    return ShaperRate.of(rate, burst)


def check_parameters(implementation: str, parameters: Mapping[str, Any]) -> None:
    """Raise ValueError naming the implementation or the parameter that is not understood."""
    if implementation == FIREWALL:
        firewall_rules(parameters)
    elif implementation == SHAPER:
        shaper_rate(parameters)
    elif implementation in IMPLEMENTATIONS:
        _only(implementation, parameters, set())
    else:
        raise ValueError(f"no implementation {implementation!r}; there are {', '.join(sorted(IMPLEMENTATIONS))}")


def _only(implementation: str, parameters: Mapping[str, Any], known: set[str]) -> None:
    for name in parameters:
        if name not in known:
            raise ValueError(f"{implementation} has no parameter {name!r}")


def _whole(what: str, value: object, least: int, most: int) -> int:
    if isinstance(value, float) and value.is_integer():  # a number that came through JSON or protobuf Struct
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{what}: {value!r} is not a whole number of {least}-{most}")
    return value


def _matches(name: str, parameters: Mapping[str, Any]) -> tuple[Match, ...]:
    given = parameters.get(name, ())
    if not isinstance(given, list | tuple):
        raise ValueError(f"firewall parameter {name!r} is not a list")
    return tuple(_match(f"firewall parameter '{name}[{i}]'", rule) for i, rule in enumerate(given))


def _match(what: str, rule: object) -> Match:
    if not isinstance(rule, Mapping):
        raise ValueError(f"{what} is not a mapping of protocol and port")
    for key in rule:
        if key not in ("protocol", "port"):
            raise ValueError(f"{what} has no {key!r}")
    protocol, port = rule.get("protocol"), rule.get("port")
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        raise ValueError(f"{what}: protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    if port is None:
        return Match(protocol)
    if protocol == "icmp":
        raise ValueError(f"{what}: icmp has no port")
    return Match(protocol, _whole(f"{what}: port", port, 1, 65535))
