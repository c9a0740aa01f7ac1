"""What a live service has at its suppliers, as free to a newer version of it: their notes with that added. Pure.

A note does not tell whose what is taken is, so it is added where the service is known to have it: labels and bandwidth at
its SAPs, its functions' units as a host of its own, bandwidth between the points that it is at. Which of a supplier's ways it
takes is not known above, nor who has that after the live version's end; so this is a hint as notes are, and the supplier's
answer decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from address_planner.labels import LabelSet
from broker.decompose.plan import Snapshot
from broker.orders.records import Order, Segment
from capability_registry.note import Bin, BorderEntry, CapabilityNote, Period, PlaceCapacity, SapOffer, SharedLimit
from service_model.spec import FunctionRequest


def free_to_it(order: Order) -> tuple[Segment, ...]:
    """The live segments that a version which is being reserved may build on: of a healing, those that are not lost."""
    if order.healing is None or not order.being_healed:
        return order.segments
    stays = {(s.alias, s.ref) for s in order.healing.segments if s.stands and s.ref not in order.healing.lost}
    return tuple(s for s in order.segments if (s.alias, s.ref) in stays)


def with_own(snapshot: Snapshot, live: Iterable[Segment]) -> Snapshot:
    """The snapshot as a newer version of the service with these segments is planned over it."""
    notes = {view.alias: view.note for view in snapshot.suppliers}
    for segment in live:
        if segment.wanted and segment.choice is not None and segment.alias in notes:
            notes[segment.alias] = _added(notes[segment.alias], segment)
    views = tuple(
        replace(view, note=notes[view.alias]) if notes[view.alias] is not view.note else view
        for view in snapshot.suppliers
    )
    return replace(snapshot, suppliers=views)


def _added(note: CapabilityNote, segment: Segment) -> CapabilityNote:
    spec, choice = segment.spec, segment.choice
    labels: dict[str, list[int]] = {}
    for end in spec.ends:
        if choice is not None and (label := choice.labels.get(end.id)) is not None:
            labels.setdefault(end.sap, []).append(label)
    places = {f.id: f.places[0] for f in spec.functions if len(f.places) == 1}
    points = {*labels, *places.values()}
    units = Counter[str]()
    for function in spec.functions:
        if (place := places.get(function.id)) is not None:
            units[place] += _units(note, function, place)

    def sap(offer: SapOffer) -> SapOffer:
        own = LabelSet.of(labels.get(offer.id, ()))
        return replace(offer, labels=offer.labels | own, bandwidth_bps=offer.bandwidth_bps + spec.bandwidth_bps)

    def entry(known: BorderEntry) -> BorderEntry:
        if known.a not in points or known.b not in points:
            return known
        more = (replace(p, bandwidth_bps=p.bandwidth_bps + spec.bandwidth_bps) for p in known.points)
        return replace(known, points=tuple(more))

    def capacity(known: PlaceCapacity) -> PlaceCapacity:
        own = units[known.place]
        return replace(known, bins=_with_bin(known.bins, own)) if own else known

    def in_period(period: Period) -> Period:
        ends = {f"{a}|{b}" for a in points for b in points}
        return replace(
            period,
            capacities=tuple(map(capacity, period.capacities)),
            saps={id: bps + spec.bandwidth_bps * (id in labels) for id, bps in period.saps.items()},
            ways={k: bps + spec.bandwidth_bps * (k.partition("#")[0] in ends) for k, bps in period.ways.items()},
            shared=tuple(map(limited, period.shared)),
        )

    def limited(limit: SharedLimit) -> SharedLimit:
        return replace(limit, limit_bps=limit.limit_bps + spec.bandwidth_bps)

    return replace(
        note,
        saps=tuple(sap(offer) if offer.id in labels else offer for offer in note.saps),
        matrix=tuple(map(entry, note.matrix)),
        guarded=tuple(map(entry, note.guarded)),
        capacities=tuple(map(capacity, note.capacities)),
        shared=tuple(map(limited, note.shared)),
        periods=tuple(map(in_period, note.periods)),
    )


def _units(note: CapabilityNote, function: FunctionRequest, place: str) -> int:
    """Capacity units of its flavour there; 0 where the supplier does not say."""
    offer = next((o for o in note.functions if (o.type, o.place) == (function.type, place)), None)
    if offer is None:
        return 0
    named = (f for f in offer.flavours if function.flavour in (None, f.name))
    flavour = next(named, None)
    return flavour.units if flavour is not None else 0


def _with_bin(bins: tuple[Bin, ...], size: int) -> tuple[Bin, ...]:
    counts = Counter({b.size: b.count for b in bins})
    counts[size] += 1
    return tuple(Bin(size=s, count=counts[s]) for s in sorted(counts, reverse=True))
