"""Firewall and meter as nftables rulesets: the text that is loaded, and the counters read back.

Rules enforced here
- Everything is in one table, `inet spb`, hooked on *forward* only: a function filters and counts what passes it.
- Replies and ICMP errors of an accepted flow pass before any rule is looked at (conntrack established, related).
- Named counters alone carry figures, so that they are read with one command whatever the rules are.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from lower_sp_clients.vim.driver import DriverError
from lower_sp_clients.vim.implementations import METERED, FirewallRules, Match
from lower_sp_clients.vim.linux.naming import PortAlias
from lower_sp_clients.vim.linux.plan import FunctionSpace, PlannedPort

TABLE = "inet spb"
SECONDS = 10.0
"""The longest that one call of `nft` may take."""

_L4 = {"tcp": "tcp", "udp": "udp", "icmp": "{ icmp, ipv6-icmp }"}


def ruleset(space: FunctionSpace) -> str | None:
    """What to load in a function's namespace; None when it needs no nftables."""
    if space.firewall is not None:
        return _firewall(space.firewall)
    if space.metered:
        return _meter([port for port in space.ports if not port.management])
    return None


def _table(counters: Sequence[str], rules: Sequence[str]) -> str:
    lines = [f"table {TABLE} {{"]
    lines += [f"  counter {name} {{\n  }}" for name in counters]
    lines += ["  chain forward {", "    type filter hook forward priority 0; policy accept;"]
    lines += [f"    {rule}" for rule in rules]
    return "\n".join([*lines, "  }", "}", ""])


def _firewall(rules: FirewallRules) -> str:
    accept, drop = "counter name accepted accept", "counter name dropped drop"
    return _table(
        ("accepted", "dropped"),
        (
            f"ct state established,related {accept}",
            *(f"{_condition(match)} {drop}" for match in rules.deny),
            *(f"{_condition(match)} {accept}" for match in rules.allow),
            drop if rules.drop_by_default else accept,
        ),
    )


def _condition(match: Match) -> str:
    if match.port is not None:
        return f"{match.protocol} dport {match.port}"
    return f"meta l4proto {_L4[match.protocol]}"


def _meter(ports: Sequence[PlannedPort]) -> str:
    conditions = {name: f"meta l4proto {_L4[name]}" for name in _L4}
    conditions["other"] = "meta l4proto != { tcp, udp, icmp, ipv6-icmp }"
    return _table(
        [f"p{port.index}_{name}" for port in ports for name in METERED],
        [
            f'iifname "{port.device}" {conditions[name]} counter name p{port.index}_{name}'
            for port in ports
            for name in METERED
        ],
    )


def values(function: str, counters: dict[str, tuple[int, int]], ports: Sequence[PortAlias]) -> dict[str, float]:
    """`fw.dropped`, `fw.dropped_bytes`, `meter.input.tcp`, `meter.input.tcp_bytes` from counters and their ports."""
    named: dict[str, str] = {"accepted": "accepted", "dropped": "dropped"}
    for port in ports:
        named |= {f"p{port.index}_{name}": f"{port.port}.{name}" for name in METERED}
    found: dict[str, float] = {}
    for counter, (packets, size) in counters.items():
        if counter in named:
            found[f"{function}.{named[counter]}"] = packets
            found[f"{function}.{named[counter]}_bytes"] = size
    return found


class Nft:
    """The `nft` binary. Its methods act on the namespace of the calling thread, which the child inherits."""

    def __init__(self, binary: str = "nft") -> None:
        self._binary = binary

    @property
    def installed(self) -> bool:
        return shutil.which(self._binary) is not None

    def load(self, text: str) -> None:
        self._run("-f", "-", text=text)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes of each named counter; empty when there are none (or no `nft` that could have made any)."""
        if not self.installed:
            return {}
        listing: dict[str, Any] = json.loads(self._run("-j", "list", "counters"))
        found = [entry["counter"] for entry in listing["nftables"] if "counter" in entry]
        return {counter["name"]: (counter["packets"], counter["bytes"]) for counter in found}

    def listing(self) -> str:
        """The rules without their counts: equal while nobody changed them."""
        return self._run("-s", "list", "ruleset")

    def _run(self, *arguments: str, text: str = "") -> str:
        try:
            done = subprocess.run(
                [self._binary, *arguments], input=text, text=True, capture_output=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DriverError(f"{self._binary} could not be run: {error}") from error
        if done.returncode != 0:
            raise DriverError(f"{self._binary} {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout
