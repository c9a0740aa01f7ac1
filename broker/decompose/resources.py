"""What several moves of one service draw on together, and whether it is enough.

Rules kept here
- A resource is drawn on by amounts that add up: labels of an interconnect, bandwidth of a SAP, way or shared limit,
  functions of a supplier. Of a place the amount is a bit per function, and whether they fit is judged by packing them.
- A resource is only counted where a route that was found overdraws it (see `labelling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.decompose.layered import Layers, Move
from capability_registry.hosting import fits
from service_model.outcomes import ReasonCode

Resource = tuple[str, int | str]
"""`("labels", interconnect)`, `("sap", index)`, `("way", number)`, `("shared", index)`, `("pool", index)` (the
labels of a shared limit), `("functions", supplier)`, or `("place", number)`."""

CLASS_OF = {
    "labels": ReasonCode.LABELS_EXHAUSTED,
    "sap": ReasonCode.BANDWIDTH,
    "way": ReasonCode.BANDWIDTH,
    "shared": ReasonCode.BANDWIDTH,
    "pool": ReasonCode.LABELS_EXHAUSTED,
    "functions": ReasonCode.CAPACITY,
    "place": ReasonCode.CAPACITY,
}

_ADMITTED_ALONE = {"labels", "sap", "way"}
"""What is drawn on once has enough: else the move would not be admitted."""


def uses(layers: Layers, move: Move) -> Iterator[tuple[Resource, int]]:
    """What a move draws on. For a place the amount is the bit of the layer that places. For a shared limit see `limited`."""
    bps, graph = layers.q.bandwidth_bps, layers.graph
    if move.way >= 0:
        yield ("way", move.way), bps
    if move.entry >= 0:
        crossing = graph.crossing[move.entry]
        assert crossing is not None
        yield ("labels", crossing.id), 1 + layers.need[move.layer]
        yield ("sap", crossing.source), bps
        yield ("sap", crossing.target), bps
    elif move.place >= 0:
        yield ("place", move.place), 1 << move.layer
        yield ("functions", int(graph.place_supplier[move.place])), 1


def limited(layers: Layers, move: Move) -> Iterator[tuple[Resource, float]]:
    """What a move draws on shared limits."""
    if move.way >= 0:
        for index, coefficient in layers.graph.limits(move.way):
            yield ("shared", index), coefficient * layers.q.bandwidth_bps
            if layers.graph.limit(index).labels:
                yield ("pool", index), coefficient * (1 + layers.need[move.layer])


def draws(layers: Layers, move: Move, shared: bool = True) -> Iterable[tuple[Resource, float]]:
    """All that a move draws on, without shared limits where they are not asked for."""
    return (*uses(layers, move), *limited(layers, move)) if shared and layers.limited else uses(layers, move)


def at_ends(layers: Layers) -> tuple[tuple[Resource, float], ...]:
    """What the service draws on by its ends alone. Where we hand over that is a label, too, unless this side alone has one."""
    graph, out = layers.graph, list[tuple[Resource, float]]()
    for end, sap in zip(layers.mesh.ends, layers.q.saps, strict=True):
        out.append((("sap", sap), layers.q.bandwidth_bps))
        if (joint := graph.crossing[sap]) is not None:
            free = graph.sap_offer(sap).free
            if (free if end.labels is None else free & end.labels) <= joint.labels:
                out.append((("labels", joint.id), 1))
    return tuple(out)


def within(layers: Layers, resource: Resource, amount: float) -> bool:
    """Whether the resource has so much."""
    kind, key = resource
    if not layers.holds(CLASS_OF[kind]):
        return True
    if kind != "place":
        return amount <= most(layers, resource)
    index = int(key)
    here = {layer: request.id for layer, request in layers.requests.items() if int(amount) >> layer & 1}
    units = {id: layers.chosen(layer, index)[1].units for layer, id in here.items()}
    groups = layers.spec.groups if layers.holds(ReasonCode.AFFINITY) else ()
    return fits(layers.graph.here(index).capacity.bins, units, groups)


def most(layers: Layers, resource: Resource) -> float:
    """How much there is of what adds up, anything but a place, without what is kept for others."""
    return _stock(layers, resource) - layers.q.kept.get(resource, 0)


def _stock(layers: Layers, resource: Resource) -> float:
    kind, key = resource
    graph = layers.graph
    if kind == "labels":
        return len(graph.labels_of[str(key)][2])
    index = int(key)
    if kind == "sap":
        return graph.sap_offer(index).bandwidth_bps
    if kind == "shared":
        return graph.limit(index).limit_bps
    if kind == "pool":
        return graph.limit(index).labels
    if kind == "functions":
        return graph.suppliers[index].note.max_functions
    return graph.between(index).point.bandwidth_bps


def overdrawn(layers: Layers, moves: Iterable[Move]) -> set[Resource]:
    """What the moves of one route draw too much from, together with the ends."""
    sums: dict[Resource, float] = {}
    again: set[Resource] = set()
    for drawn in (at_ends(layers), *(draws(layers, move) for move in moves)):
        for resource, amount in drawn:
            if resource in sums:
                again.add(resource)
                sums[resource] += amount
            else:
                sums[resource] = amount
    again |= layers.q.kept.keys()  # of which less may be left than a move alone was admitted for
    return {
        r for r, amount in sums.items() if (r in again or r[0] not in _ADMITTED_ALONE) and not within(layers, r, amount)
    }
