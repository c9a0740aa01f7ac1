"""A domain as it is bought without the brokers between: its interconnects name as peers the domains at their other side.

Rules kept here
- It sells what the domain sells, at the same price; only names of peers differ, and which interconnects are seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from benchmarks.hierarchies.sellers import Leaf
from capability_registry.note import CapabilityNote
from service_model.outcomes import Refused, Reserved
from service_model.spec import ServiceSpec


class Neighbour:
    """`peers`: by interconnect, who is at its other side; `hidden`: interconnects that are not seen."""

    def __init__(self, leaf: Leaf, peers: Mapping[str, str], sp_id: str = "", hidden: Collection[str] = ()) -> None:
        self.sp_id, self._leaf, self._peers, self._hidden = sp_id or leaf.sp_id, leaf, peers, hidden
        self._known: tuple[CapabilityNote, CapabilityNote] | None = None

    def refresh(self) -> None:
        self._leaf.refresh()

    def note(self) -> CapabilityNote:
        told = self._leaf.note()
        if self._known is None or self._known[0] is not told:
            saps = tuple(
                replace(s, peer=self._peers.get(s.interconnect, s.peer))
                for s in told.saps
                if s.interconnect not in self._hidden
            )
            self._known = told, replace(told, sp_id=self.sp_id, saps=saps)
        return self._known[1]

    def reserve(self, ref: str, version: int, spec: ServiceSpec) -> Reserved | Refused:
        return self._leaf.reserve(ref, version, spec)

    def release(self, ref: str) -> None:
        self._leaf.release(ref)
