"""A domain as it is bought without the brokers between: its interconnects name as peers the domains at their other side.

Rules kept here
- It sells what the domain sells, at the same price; only names of peers differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.hierarchies.sellers import Leaf
from capability_registry.note import CapabilityNote
from service_model.outcomes import Refused, Reserved
from service_model.spec import ServiceSpec


class Neighbour:
    """`peers`: by interconnect, who is at its other side."""

    def __init__(self, leaf: Leaf, peers: Mapping[str, str]) -> None:
        self.sp_id, self._leaf, self._peers = leaf.sp_id, leaf, peers
        self._known: tuple[CapabilityNote, CapabilityNote] | None = None

    def refresh(self) -> None:
        self._leaf.refresh()

    def note(self) -> CapabilityNote:
        told = self._leaf.note()
        if self._known is None or self._known[0] is not told:
            saps = tuple(replace(s, peer=self._peers.get(s.interconnect, s.peer)) for s in told.saps)
            self._known = told, replace(told, saps=saps)
        return self._known[1]

    def reserve(self, ref: str, version: int, spec: ServiceSpec) -> Reserved | Refused:
        return self._leaf.reserve(ref, version, spec)

    def release(self, ref: str) -> None:
        self._leaf.release(ref)
