"""What can be said for certain of where two places are: a note may give them words of its own, or one for several.

Rules kept here
- Two places are apart where their countries differ. In one country a public name tells a place from every other public
  name, and what a supplier named itself it tells from the rest of its own note. What it was told under another's word may
  be any of them, but for what the same one named (`named_by`).
- Of what a note merged nothing is certain: two functions there are neither together nor apart.
"""

from __future__ import annotations

from broker.decompose.graph import Graph
from capability_registry.note import PlaceNaming

UNCERTAIN = -2
"""The location of what cannot be said to be where anything else is."""


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
    both = [p for p in (graph.place_known(x), graph.place_known(y)) if p is not None]
    namings, namers = {p.naming for p in both}, {p.named_by for p in both}
    if graph.place_supplier[x] == graph.place_supplier[y]:
        told_apart = len(both) == 2 and len(namers) == 1 and "" not in namers
        return told_apart or namings <= {PlaceNaming.PUBLIC, PlaceNaming.OWN}
    return namings <= {PlaceNaming.PUBLIC}
