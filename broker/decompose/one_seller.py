"""That a service does not buy one thing twice of two sellers, as a rule over the moves of a route (`rules.Rule`).

Rules kept here
- What is drawn on a pool through one seller is that seller's to judge: its note says what there is. Through several it is
  together within what each of them says (`sellers`).
- Ends draw on their SAPs, a line on the SAPs and ways that it passes and on places where it ends, a function on its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from broker.decompose.layered import Layers, Move

_Drawn = tuple[frozenset[int], float, float]
"""On one pool: by which sellers, and how much: bit/s, units."""
_NOTHING: _Drawn = (frozenset(), 0.0, 0.0)
SHARED = "shares"
"""What the rule about them is called: it is none of the spec's."""


@dataclass(frozen=True, slots=True)
class OneSeller:
    """On a pool that several sell, a service draws through one of them, or not more than all of them say (`Sellers`). It
    remembers what is drawn on each."""

    subject: str
    layers: Layers = field(compare=False)
    start: Mapping[int, _Drawn] = field(compare=False)
    """What the ends draw."""
    known: dict[Move, tuple[tuple[int, _Drawn], ...]] = field(compare=False, default_factory=dict)

    @classmethod
    def of(cls, layers: Layers) -> OneSeller:
        bps = max(layers.q.bandwidth_bps, 1)
        out: dict[int, _Drawn] = {}
        for sap in (*layers.tails, *layers.heads):
            for pool, seller, times in layers.graph.sellers.of_sap(sap) if sap >= 0 else ():
                out[pool] = _more(out.get(pool, _NOTHING), (frozenset({seller}), times * bps, 0.0))
        return cls(SHARED, layers, out)

    @property
    def _bps(self) -> int:
        return max(self.layers.q.bandwidth_bps, 1)

    def after(self, memory: Mapping[int, _Drawn], move: Move) -> Mapping[int, _Drawn] | None:
        drawn = self._drawn(move)
        return self._with(memory, drawn) if drawn or memory is self.start else memory

    def spreads(self, memory: Mapping[int, _Drawn], ways: Iterable[int], saps: Iterable[int]) -> bool:
        """Whether LANs may draw on these ways and SAPs besides."""
        sellers = self.layers.graph.sellers
        draws = (*(d for way in ways for d in sellers.of_way(way)), *(d for sap in saps for d in sellers.of_sap(sap)))
        return (
            self._with(memory, tuple((p, (frozenset({s}), times * self._bps, 0.0)) for p, s, times in draws))
            is not None
        )

    def _with(self, memory: Mapping[int, _Drawn], drawn: tuple[tuple[int, _Drawn], ...]) -> Mapping[int, _Drawn] | None:
        sellers, out = self.layers.graph.sellers, dict(memory)
        for pool, amount in drawn:
            out[pool] = _more(out.get(pool, _NOTHING), amount)
        changed = out if memory is self.start else [pool for pool, _ in drawn]
        return out if all(len(out[p][0]) < 2 or sellers.enough(*out[p]) for p in changed) else None

    def covers(self, x: Mapping[int, _Drawn], y: Mapping[int, _Drawn]) -> bool:
        for pool, (who, bps, units) in x.items():
            others, more_bps, more_units = y.get(pool, _NOTHING)
            if not who <= others or bps > more_bps or units > more_units:
                return False
        return True

    def _drawn(self, move: Move) -> tuple[tuple[int, _Drawn], ...]:
        known = self.known.get(move)
        if known is None:
            known = self.known[move] = tuple(self._found(move))
        return known

    def _found(self, move: Move) -> Iterator[tuple[int, _Drawn]]:
        graph = self.layers.graph
        passed = list(graph.sellers.of_way(move.way)) if move.way >= 0 else []
        if move.entry >= 0 and (crossing := graph.crossing[move.entry]) is not None:
            passed += [*graph.sellers.of_sap(crossing.source), *graph.sellers.of_sap(crossing.target)]
        for pool, seller, times in passed:
            yield pool, (frozenset({seller}), times * self._bps, 0.0)
        if move.entry < 0 and move.place >= 0:
            units = self.layers.chosen(move.layer, move.place)[1].units
            for pool, seller, times in graph.sellers.of_place(move.place):
                yield pool, (frozenset({seller}), 0.0, float(times * max(units, 1)))


def _more(x: _Drawn, y: _Drawn) -> _Drawn:
    return x[0] | y[0], x[1] + y[1], x[2] + y[2]
