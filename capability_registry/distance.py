"""How far places are from each other: the same figure for whoever plans with them and whoever has them."""

from __future__ import annotations

import math

from capability_registry.note import Place


def kilometres(x: Place | None, y: Place | None) -> float:
    """Along the great circle (haversine, mean earth radius 6371 km); infinite where one is not known, does not tell where it
    lies, or stands for several places. Parts of one site are at no distance from each other."""
    if x is None or y is None or x.merged or y.merged:
        return math.inf
    if x.location == y.location:
        return 0.0
    if not (x.located and y.located):
        return math.inf
    north, south = math.radians(x.latitude), math.radians(y.latitude)
    half = math.sin((north - south) / 2) ** 2
    half += math.cos(north) * math.cos(south) * math.sin(math.radians(x.longitude - y.longitude) / 2) ** 2
    return 2 * 6371.0 * math.asin(min(1.0, math.sqrt(half)))
