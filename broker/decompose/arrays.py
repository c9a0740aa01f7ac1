"""The figures of a graph's pieces in arrays: over its ways, its SAPs and its places.

Rules kept here
- An array is joined when it is asked for first, or taken over from a former graph with the parts of new pieces put in.
- Nobody can write to it: the next graph may have the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.decompose.numbering import Renumbering
from broker.decompose.piece import Countries, Figures, Flags, Numbers
from broker.decompose.reading import Reading
from service_model.constraints import Countries as Admitted

_FIGURES: dict[str, tuple[str, Any]] = {
    "once": ("way", np.float64),
    "hour": ("way", np.float64),
    "delay": ("way", np.float64),
    "way_most_bps": ("way", np.float64),
    "way_mtu": ("way", np.float64),
    "way_lan": ("way", np.bool_),
    "way_swaps": ("way", np.bool_),
    "way_told": ("way", np.bool_),
    "sap_mtu": ("sap", np.float64),
    "sap_bps": ("sap", np.float64),
    "sap_country": ("sap", np.object_),
    "largest_bin": ("place", np.float64),
    "place_lan": ("place", np.bool_),
    "place_alike": ("place", np.int64),
    "place_country": ("place", np.object_),
    "way_a": ("way", np.int64),
    "way_b": ("way", np.int64),
}
"""The arrays of pieces that are joined: over what they are, and of what. `way_a` and `way_b` are nodes."""
ENDS = ("way_a", "way_b")


class Arrays(Reading):
    _arrays: dict[str, NDArray[Any]]

    def moved(self, former: Mapping[str, NDArray[Any]], moved: Renumbering) -> dict[str, NDArray[Any]]:
        """Arrays of a former graph as they are now; the same ones where nothing in them is another."""
        return {
            name: (moved.nodes_at if name in ENDS else moved.array)(known, _FIGURES[name][0], partial(self._part, name))
            for name, known in former.items()
        }

    def _part(self, name: str, supplier: int) -> NDArray[Any]:
        own: NDArray[Any] = getattr(self.pieces[supplier], name)
        return self.nodes_of(supplier, own) if name in ENDS else own

    def figures(self, name: str) -> NDArray[Any]:
        """The pieces' arrays of this name, one after another."""
        known = self._arrays.get(name)
        if known is None:
            parts = [self._part(name, i) for i in range(len(self.pieces))]
            known = np.concatenate(parts) if parts else np.zeros(0, _FIGURES[name][1])
            known.setflags(write=False)
            self._arrays[name] = known
        return known

    @cached_property
    def once(self) -> Figures:
        return self.figures("once")

    @cached_property
    def hour(self) -> Figures:
        return self.figures("hour")

    @cached_property
    def delay(self) -> Figures:
        return self.figures("delay")

    @cached_property
    def way_most_bps(self) -> Figures:
        return self.figures("way_most_bps")

    @cached_property
    def way_mtu(self) -> Figures:
        return self.figures("way_mtu")

    @cached_property
    def way_lan(self) -> Flags:
        return self.figures("way_lan")

    @cached_property
    def way_swaps(self) -> Flags:
        return self.figures("way_swaps")

    @cached_property
    def way_told(self) -> Flags:
        """The ways that tell labels of their own."""
        return self.figures("way_told")

    @cached_property
    def sap_mtu(self) -> Figures:
        return self.figures("sap_mtu")

    @cached_property
    def sap_bps(self) -> Figures:
        return self.figures("sap_bps")

    @cached_property
    def sap_country(self) -> Countries:
        return self.figures("sap_country")

    @cached_property
    def place_alike(self) -> Numbers:
        """Of each place how many before it the first is that may be one thing with it; -1: none may."""
        return self.figures("place_alike")

    @cached_property
    def largest_bin(self) -> Figures:
        return self.figures("largest_bin")

    @cached_property
    def place_lan(self) -> Flags:
        return self.figures("place_lan")

    @cached_property
    def place_country(self) -> Countries:
        return self.figures("place_country")

    @cached_property
    def beside(self) -> tuple[Numbers, Numbers]:
        """Pairs of ways that the same entry of a note announces: the slower ones, and the faster beside each."""
        same = (np.diff(self.figures("way_a")) == 0) & (np.diff(self.figures("way_b")) == 0)
        first = np.flatnonzero(same)
        slower = np.where(self.delay[first] > self.delay[first + 1], first, first + 1)
        return slower, 2 * first + 1 - slower

    def isolated(self, mechanisms: Iterable[str]) -> Flags:
        """The ways that offer all of these."""
        wanted = set(mechanisms)
        offered = [wanted.issubset(w.point.isolation) for piece in self.pieces for w in piece.ways]
        return np.array(offered, dtype=np.bool_)

    def staying(self, countries: Admitted) -> Flags:
        """The ways that pass these countries alone. One that does not tell passes anything."""
        stays = [
            bool(w.point.countries) and all(countries.admit(c) for c in w.point.countries)
            for piece in self.pieces
            for w in piece.ways
        ]
        return np.array(stays, dtype=np.bool_)
