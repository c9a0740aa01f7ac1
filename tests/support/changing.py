"""Snapshots that change as they do in a day: figures, labels, ways, SAPs, places, suppliers, outages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.note import BorderEntry, BorderPoint, CapabilityNote, Lifecycle, Outage, SharedLimit
from service_model.money import Price
from tests.support.planning import NOW, offer, random_snapshot

COUNTRIES = ("AT", "BE", "CH")
MECHANISMS = ("VRF", "VXLAN")


def rich_snapshot(seed: int, suppliers: int) -> Snapshot:
    """As `random_snapshot`; what its ways say is drawn as well."""
    rng, snap = random.Random(f"rich/{seed}"), random_snapshot(seed, suppliers, labels=30, joints=suppliers)
    views = tuple(
        replace(v, note=replace(v.note, matrix=tuple(_drawn(e, rng) for e in v.note.matrix))) for v in snap.suppliers
    )
    return replace(snap, suppliers=views)


_TAKEN = (NO_LABEL, NO_LABEL, NO_LABEL, LabelSet(((1, 25),)), LabelSet(((5, 12),)))


def _drawn(entry: BorderEntry, rng: random.Random) -> BorderEntry:
    return replace(entry, points=tuple(_way(p, rng) for p in entry.points))


def _way(was: BorderPoint, rng: random.Random) -> BorderPoint:
    return replace(
        was,
        swaps_labels=rng.random() < 0.5,
        lan=rng.random() < 0.7,
        availability=rng.choice((1.0, 0.999, 0.9)),
        isolation=tuple(m for m in MECHANISMS if rng.random() < 0.6),
        countries=tuple(sorted(rng.sample(COUNTRIES, rng.randint(0, 2)))),
        labels_a=rng.choice(_TAKEN),
        labels_b=rng.choice(_TAKEN),
    )


def changed(snapshot: Snapshot, rng: random.Random, away: list[SupplierView]) -> Snapshot:
    """After one change; `away`: suppliers that may come back."""
    views = list(snapshot.suppliers)
    what = rng.random()
    if what < 0.08 and len(views) > 1:
        away.append(views.pop(rng.randrange(len(views))))
    elif what < 0.2 and away:
        views.append(away.pop(rng.randrange(len(away))))
    elif what < 0.25:
        at = rng.randrange(len(views))
        views[at] = replace(views[at], usable=not views[at].usable)
    elif views:
        at = rng.randrange(len(views))
        note = rng.choice(_CHANGES)(views[at].note, rng)
        names = {f"{views[at].alias}.{s.id}": s.id for s in note.saps}
        views[at] = replace(views[at], note=note, saps=names)
    views.sort(key=lambda view: view.alias)
    return replace(snapshot, number=snapshot.number + 1, suppliers=tuple(views))


def _figure(note: CapabilityNote, rng: random.Random) -> CapabilityNote:
    if not note.matrix:
        return note
    at = rng.randrange(len(note.matrix))
    entry = note.matrix[at]
    number = rng.randrange(len(entry.points))
    p = entry.points[number]
    changes: tuple[Callable[[], BorderPoint], ...] = (
        lambda: replace(p, price=Price(once=rng.choice((p.price.once + 1, p.price.once // 2, p.price.once * 0)))),
        lambda: replace(p, delay_us=rng.choice((p.delay_us + 3, p.delay_us // 2, 0))),
        lambda: replace(p, bandwidth_bps=rng.choice((0, 1, 2, 3, 8, 10))),
        lambda: replace(p, mtu=rng.choice((1500, 9000))),
        lambda: _way(p, rng),
    )
    p = rng.choice(changes)()
    points = (*entry.points[:number], p, *entry.points[number + 1 :])
    return replace(note, matrix=(*note.matrix[:at], replace(entry, points=points), *note.matrix[at + 1 :]))


def _sap(note: CapabilityNote, rng: random.Random) -> CapabilityNote:
    if not note.saps:
        return note
    at = rng.randrange(len(note.saps))
    sap = note.saps[at]
    labels = rng.choice(
        (sap.labels - LabelSet.of([rng.randint(1, 40)]), sap.labels | LabelSet.of([rng.randint(1, 40)]))
    )
    sap = rng.choice(
        (
            replace(sap, labels=labels),
            replace(sap, labels=LabelSet.of(rng.sample(range(1, 40), rng.randint(0, 3)))),
            replace(sap, bandwidth_bps=rng.choice((0, 1, 2, 5, 9, 10))),
            replace(sap, mtu=rng.choice((1500, 9000))),
            replace(sap, place=f"elsewhere-{rng.randint(0, 2)}"),
        )
    )
    return replace(note, saps=(*note.saps[:at], sap, *note.saps[at + 1 :]))


def _ways(note: CapabilityNote, rng: random.Random) -> CapabilityNote:
    """An entry goes, comes, or gets another way."""
    matrix = list(note.matrix)
    ids = [s.id for s in note.saps] + sorted({f.place for f in note.functions})
    if matrix and rng.random() < 0.5:
        at = rng.randrange(len(matrix))
        entry = matrix.pop(at)
        if len(entry.points) > 1 and rng.random() < 0.5:
            matrix.insert(at, replace(entry, points=entry.points[1:]))
    elif len(ids) > 1 and note.matrix:
        a, b = rng.sample(ids, 2)
        like = rng.choice(note.matrix)
        matrix.insert(rng.randint(0, len(matrix)), _drawn(replace(like, a=a, b=b), rng))
    return replace(note, matrix=tuple(matrix))


def _saps(note: CapabilityNote, rng: random.Random) -> CapabilityNote:
    """A SAP goes, or the order of them is another."""
    saps = list(note.saps)
    if len(saps) > 1 and rng.random() < 0.5:
        saps.pop(rng.randrange(len(saps)))
    rng.shuffle(saps)
    return replace(note, saps=tuple(saps))


def _functions(note: CapabilityNote, rng: random.Random) -> CapabilityNote:
    functions = list(note.functions)
    if functions and rng.random() < 0.6:
        functions.pop(rng.randrange(len(functions)))
    else:
        functions.append(offer(rng.choice("xy"), f"{note.sp_id.removeprefix('sp-')}p{rng.randint(0, 2)}", 1, 1, 1))
    return replace(note, functions=tuple(functions))


def _outages(note: CapabilityNote, rng: random.Random) -> CapabilityNote:
    start = NOW + timedelta(minutes=rng.randint(-5, 10))
    outages = tuple(
        Outage(subject=s.id, start=start, end=start + timedelta(minutes=rng.randint(1, 9)))
        for s in note.saps
        if rng.random() < 0.4
    )
    return replace(note, outages=outages)


def _limits(note: CapabilityNote, rng: random.Random) -> CapabilityNote:
    keys = [f"{e.a}|{e.b}" for e in note.matrix if rng.random() < 0.5]
    shared = (SharedLimit(id="l", limit_bps=rng.randint(1, 9), coefficients=dict.fromkeys(keys, 1.0)),)
    return replace(note, shared=shared if keys else ())


def _standing(note: CapabilityNote, rng: random.Random) -> CapabilityNote:
    return replace(
        note,
        lifecycle=rng.choice((Lifecycle.ACTIVE, Lifecycle.ACTIVE, Lifecycle.WITHDRAWING)),
        expires=NOW + timedelta(minutes=rng.randint(1, 60)),
    )


_CHANGES = (_figure, _figure, _figure, _sap, _sap, _ways, _ways, _saps, _functions, _outages, _limits, _standing)
