"""A graph that follows another is the graph from scratch, and leaves the other as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from address_planner.labels import LabelSet
from broker.decompose.difference import NEW, difference
from broker.decompose.graph import Graph, graph_of
from broker.decompose.ordered import Ordered
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.note import Encapsulation, Lifecycle, Place, SharedLimit
from tests.support.planning import entry, kind, offer, point, sap, snapshot, view

ALIASES = "abcdef"
JOINTS = ("ab", "bc", "cd", "de", "ef", "fa")
"""Interconnects of a ring; the first of the two decides labels."""
PEERS = [*(f"sp-{alias}" for alias in ALIASES), "sp-far"]
TYPES = [(kind(name), flavour) for name in "xyz" for flavour in (None, "default", "other")]
FIGURES = [
    *("once", "hour", "delay", "way_most_bps", "way_mtu", "way_lan", "way_swaps", "way_told", "way_a", "way_b"),
    *("sap_mtu", "sap_bps", "sap_country", "largest_bin", "place_lan", "place_alike", "place_country"),
]
ARCS = ["target", "way", "first", "onto"]
BACKWARDS = ["order", "heads", "tails", "first", "placed", "from_place", "left"]
FAN = ["way", "joins", "ends", "tails", "sources", "begins"]


def drawn(rng: random.Random, alias: str) -> SupplierView:
    """A supplier with whatever a note may say: few names, so that they meet."""
    saps = []
    for n, to in enumerate(["", *(joint for joint in JOINTS if alias in joint)]):
        if rng.random() < 0.2:
            continue
        right = f"sp-{to.replace(alias, '')}" if to else ""
        one = sap(f"n{n if rng.random() < 0.95 else 0}", rng.choice("PQ"), to, right)
        saps.append(
            replace(
                one,
                peer=right if rng.random() < 0.9 else rng.choice(PEERS),
                decides_labels=to[:1] == alias if rng.random() < 0.9 else rng.random() < 0.5,
                encapsulation=Encapsulation.VLAN if rng.random() < 0.9 else Encapsulation.VXLAN,
                labels=LabelSet(((100, rng.randint(100, 103)),)),
                mtu=rng.choice([1500, 9000]),
            )
        )
    saps = rng.sample(saps, len(saps))
    functions = [offer(rng.choice("xyz"), place, rng.randint(1, 3)) for place in rng.sample("PQR", rng.randint(0, 2))]
    ends: list[str] = [s.id for s in saps] + [f.place for f in functions]
    matrix = []
    for _ in range(rng.randint(0, 3) if len(ends) > 1 else 0):
        a, b = rng.sample(ends, 2)
        matrix.append(entry(a, b, *(point(rng.randint(1, 3), rng.randint(1, 3)) for _ in range(rng.randint(1, 2)))))
    shared = [SharedLimit(id="s", limit_bps=5, coefficients={f"{m.a}|{m.b}": 1.0}) for m in matrix[: rng.randint(0, 1)]]
    made = view(
        alias, saps, matrix, functions, bins=rng.randint(1, 3), usable=rng.random() < 0.9, sp_id=f"sp-{alias}",
        lifecycle=rng.choice([Lifecycle.ACTIVE] * 5 + [Lifecycle.WITHDRAWING]),
        currency=rng.choice(["EUR"] * 6 + ["CHF"]), shared=tuple(shared),
    )  # fmt: skip
    names = {rng.choice([s.id, f"{alias}.{s.id}"]): s.id for s in saps}
    return replace(made, saps=names)


def changed(rng: random.Random, before: SupplierView) -> SupplierView:
    """The supplier after a change of one thing."""
    note = before.note
    what = rng.choice(
        ["kept", "usable", "figures", "labels", "country", "border", "border", "lose a way", "withdraw", "anything"]
    )
    if what == "kept":
        return replace(before, kept=rng.random())
    if what == "usable":
        return replace(before, usable=not before.usable)
    if what == "figures":
        cost, delay = rng.randint(1, 9), rng.randint(1, 9)
        return replace(
            before,
            note=replace(
                note,
                matrix=tuple(
                    entry(e.a, e.b, *(point(cost + n, delay) for n in range(len(e.points)))) for e in note.matrix
                ),
            ),
        )
    if what == "labels":
        some = LabelSet(((100, rng.randint(100, 110)),))
        return replace(before, note=replace(note, saps=tuple(replace(s, labels=some) for s in note.saps)))
    if what == "border" and note.saps:
        one = rng.choice(note.saps)
        other = rng.choice([replace(one, decides_labels=not one.decides_labels), replace(one, peer=rng.choice(PEERS))])
        return replace(before, note=replace(note, saps=tuple(other if s is one else s for s in note.saps)))
    if what == "country":
        country = rng.choice(["DE", "NL", "ZZ"])
        return replace(before, note=replace(note, places=tuple(Place(id=p.id, country=country) for p in note.places)))
    if what == "lose a way":
        return replace(before, note=replace(note, matrix=note.matrix[1:]))
    if what == "withdraw":
        return replace(before, note=replace(note, lifecycle=Lifecycle.WITHDRAWING))
    return drawn(rng, before.alias)


def sequence(rng: random.Random, length: int) -> Iterator[Snapshot]:
    """Snapshots one after another: suppliers change, come and go."""
    views = {alias: drawn(rng, alias) for alias in rng.sample(ALIASES, rng.choice([0, 3, 5, 6]))}
    for _ in range(length):
        yield snapshot(*(views[alias] for alias in sorted(views)))
        for alias in rng.sample(ALIASES, rng.choice([0, 1, 1, 1, 2, 4])):
            if alias not in views:
                views[alias] = drawn(rng, alias)
            elif rng.random() < 0.2:
                del views[alias]
            else:
                views[alias] = changed(rng, views[alias])


def look_at(rng: random.Random, graph: Graph) -> None:
    """Some of what is made when it is looked at."""
    for name in rng.sample(FIGURES, rng.randint(0, len(FIGURES))):
        graph.figures(name)
    if rng.random() < 0.7:
        for node in range(graph.arcs.nodes):
            graph.leading_from(node)
    for key in rng.sample(TYPES, rng.randint(0, len(TYPES))):
        graph.offering(*key)


def told(graph: Graph) -> dict[str, Any]:
    """Everything that a graph says, as plain values."""
    numbers = {name: getattr(graph, name) for name in ("sap_first", "place_first", "way_first", "shared_first")}
    arcs = {f"arcs {name}": getattr(graph.arcs, name) for name in ARCS}
    for fan in ("arriving", "leaving", "passing"):
        arcs |= {f"{fan} {name}": getattr(getattr(graph.arcs, fan), name) for name in FAN}
    arcs |= {f"backwards {name}": getattr(graph.arcs.backwards, name) for name in BACKWARDS}
    arrays = numbers | arcs | {name: graph.figures(name) for name in FIGURES}
    arrays |= {
        "peer": graph.peer,
        "labels": graph.label_count,
        "owner": graph.sap_supplier,
        "host": graph.place_supplier,
    }
    out: dict[str, Any] = {name: (array.dtype.kind, array.tolist()) for name, array in arrays.items()}
    for key in TYPES:
        found = graph.offering(*key)
        figures = ("at", "once", "hour", "delay", "units", "most_bps")
        out[f"offering {key}"] = found and ([getattr(found, f).tolist() for f in figures], found.ports)
    crossings = [graph.crossing[s] for s in range(graph.sap_count)]
    return out | {
        "suppliers": graph.suppliers,
        "numbers": dict(graph.supplier_number),
        "notes": [piece.note for piece in graph.pieces],
        "leading": [graph.leading_from(node) for node in range(graph.arcs.nodes)],
        "beside": [a.tolist() for a in graph.beside],
        "crossings": [c and (c.id, c.source, c.target, c.labels) for c in crossings],
        "free": graph.labels_of,
        "joined": (graph.joined, {id: graph.joined_by(id) for id in JOINTS}),
        "unjoined": graph.unjoined,
        "announced": list(graph.announced.items()),
        "named": {name: graph.sap_named(name) for a in ALIASES for n in range(3) for name in (f"n{n}", f"{a}.n{n}")},
        "own": {(a, f"n{n}"): graph.sap_at(a, f"n{n}") for a in ALIASES for n in range(3)},
        "places": {place: graph.places_named(place) for place in "PQRS"},
        "limits": [graph.limits(way) for way in range(int(graph.way_first[-1]))],
    }


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(2, 7))
def test_a_graph_after_changes_is_the_graph_from_scratch(rng: random.Random, length: int) -> None:
    graph: Graph | None = None
    for now in sequence(rng, length):
        graph = Graph(now, graph)
        look_at(rng, graph)
        assert told(Graph(now, graph)) == told(Graph(now))
    assert graph is not None
    assert told(graph) == told(Graph(graph.snapshot))


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_graph_that_is_in_use_stays_as_it_was(rng: random.Random) -> None:
    graphs: list[tuple[Graph, dict[str, Any]]] = []
    for now in sequence(rng, 5):
        graph = Graph(now, graphs[-1][0] if graphs else None)
        graphs.append((graph, told(graph)))
    for graph, before in graphs:
        assert told(graph) == before


def test_arrays_of_a_graph_cannot_be_written_to() -> None:
    graph = Graph(snapshot(view("a", [sap("u", "P"), sap("v", "P")], [entry("u", "v", point(1, 1))])))
    for array in (graph.once, graph.peer, graph.label_count, graph.figures("way_a")):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_what_changes_no_way_shares_arcs_and_other_arrays() -> None:
    first = view("a", [sap("u", "P"), sap("v", "P")], [entry("u", "v", point(1, 1))])
    before = Graph(snapshot(first, view("b", [sap("u", "P")], [])))
    arcs, delay, once = before.arcs, before.delay, before.once
    dearer = replace(first, note=replace(first.note, matrix=(entry("u", "v", point(2, 1)),)))
    after = Graph(snapshot(dearer, before.suppliers[1]), before)
    assert after.arcs is arcs
    assert after.delay is delay
    assert (once.tolist(), after.once.tolist()) == ([1e9], [2e9])
    assert after.pieces[1] is before.pieces[1]


def test_the_graph_of_a_snapshot_is_made_after_the_nearest_one() -> None:
    near = [view(f"s{n}", [sap("u", "P")], []) for n in range(4)]
    far = snapshot(*(view(f"t{n}", [sap("u", "P")], []) for n in range(3)))
    pieces = graph_of(snapshot(*near)).pieces
    graph_of(far)
    assert graph_of(snapshot(*near[:3])).pieces == pieces[:3]


def test_suppliers_that_come_and_go_stay_in_the_order_of_their_aliases() -> None:
    known = Ordered(view(alias, [], []) for alias in "db")
    known.put(view("c", [], []))
    former = known.all()
    known.remove("d")
    known.remove("d")
    known.put(view("a", [], []))
    known.put(other := view("c", [], []))
    assert [v.alias for v in former] == ["b", "c", "d"]
    assert [v.alias for v in known.all()] == ["a", "b", "c"]
    assert known["c"] is other
    assert known.get("d") is None


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_what_stays_is_where_the_difference_says(before: list[int], now: list[int]) -> None:
    things = [object() for _ in range(10)]
    x, y = [things[i] for i in before], [things[i] for i in now]
    found = difference(x, y)
    made = [
        (step.now + k, None if step.before == NEW else step.before + k)
        for step in found.steps
        for k in range(step.length)
    ]
    assert [i for i, _ in made] == list(range(len(y)))
    assert all(x[j] is y[i] for i, j in made if j is not None)
    kept = [j for _, j in made if j is not None]
    assert kept == sorted(set(kept))
    assert list(found.fresh) == [i for i, j in made if j is None]
    assert list(found.gone) == [j for j in range(len(x)) if j not in kept]
    firsts = np.arange(len(x) + 1)
    parts = found.array(np.array(before, dtype=np.int64), firsts, lambda i: np.array([now[i]], dtype=np.int64))
    assert parts.tolist() == now
