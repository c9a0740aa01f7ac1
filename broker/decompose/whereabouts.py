"""What can be said for certain of where two places are: a note may give them words of its own, or one for several.

Rules kept here
- Two places are apart where their countries differ, and where their coordinates are further from one another than two operators'
  figures for one building are (`ONE_PLACE_KM`). In one country a public name tells a place from every other public
  name, and what a supplier named itself it tells from the rest of its own note. What it was told under another's word may
  be any of them, but for what the same one named (`named_by`).
- Hosts of two places are not the same where the places are apart, and where they are in other pools (`Share`): which, is told of
  every part of a site, since a function may be at any.
- Of what a note merged nothing is certain: two functions there are neither together nor apart.
"""

from __future__ import annotations

import math

from broker.decompose.graph import Graph
from capability_registry.note import PlaceNaming

UNCERTAIN = -2
"""The location of what cannot be said to be where anything else is."""


ONE_PLACE_KM = 10.0
"""By how much (km) two operators' coordinates of one building may differ."""


def location(graph: Graph, place: int) -> int:
    """The same number for places that are certainly one."""
    known = graph.place_known(place)
    return UNCERTAIN if known is not None and known.merged else graph.site(place)


def apart(graph: Graph, x: int, y: int) -> bool:
    """Whether two places are certainly not one."""
    if graph.site(x) == graph.site(y):
        return False
    if None not in (here := graph.place_country[x], there := graph.place_country[y]) and here != there:
        return True
    if ONE_PLACE_KM < graph.km_between(x, y) < math.inf:
        return True
    both = [p for p in (graph.place_known(x), graph.place_known(y)) if p is not None]
    namings, namers = {p.naming for p in both}, {p.named_by for p in both}
    if graph.place_supplier[x] == graph.place_supplier[y]:
        told_apart = len(both) == 2 and len(namers) == 1 and "" not in namers
        return told_apart or namings <= {PlaceNaming.PUBLIC, PlaceNaming.OWN}
    return namings <= {PlaceNaming.PUBLIC}


def hosts_apart(graph: Graph, x: int, y: int) -> bool:
    """Whether certainly no host of the one is a host of the other."""
    if apart(graph, x, y):
        return True
    here, there = _pools(graph, x), _pools(graph, y)
    return bool(here) and bool(there) and here.isdisjoint(there)


def _pools(graph: Graph, place: int) -> frozenset[str]:
    """The pools that a function there may draw on; empty where not all are told."""
    piece, known = graph.pieces[int(graph.place_supplier[place])], graph.place_known(place)
    if known is not None and known.merged:
        return frozenset()
    drawn = [piece.places[n].capacity.shares for n in piece.sites[graph.here(place).site]]
    return frozenset(piece.note.shares[n].token for shares in drawn for n in shares) if all(drawn) else frozenset()
