"""Which functions of a mesh cannot be where they are together: tables that its bounds take in (`mesh_bounds`).

Rules kept here
- Two or three functions do not fit at one place; groups; distances in kilometres.
- What is ruled out here is ruled out whatever else is chosen. The search judges the rest, and this again.
- A table is taken in where it does not make elimination join too much: tables of at most `LARGEST` entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from math import prod

import numpy as np

from broker.decompose.elimination import Factor, widest
from broker.decompose.mesh_rules import ByHost
from broker.decompose.meshed import MeshLayers
from broker.decompose.piece import Figures, Flags
from broker.decompose.resources import within
from broker.decompose.rules import Apart, Near, Rule, Together
from broker.decompose.whereabouts import UNCERTAIN
from service_model.constraints import GroupScope
from service_model.outcomes import ReasonCode

LARGEST = 20_000


def apart(layers: MeshLayers, rules: Iterable[Rule]) -> list[Factor]:
    """Infinite where functions cannot be together, else zero."""
    sizes = [len(places) for places in layers.candidates]
    found = _tables(layers, rules)
    scopes = [tuple(sorted(f for f in (line.tail, line.head) if f is not None)) for line in layers.mesh.lines]
    out = []
    for scope in sorted(found, key=lambda s: (s not in scopes, prod(sizes[f] for f in s))):
        if widest([*scopes, scope], sizes) <= max(LARGEST, widest(scopes, sizes)):
            scopes.append(scope)
            out.append(Factor(scope, found[scope]))
    return out


def _tables(layers: MeshLayers, rules: Iterable[Rule]) -> dict[tuple[int, ...], Figures]:
    found: dict[tuple[int, ...], Figures] = {}

    def table(scope: tuple[int, ...]) -> Figures:
        return found.setdefault(scope, np.zeros([len(layers.candidates[f]) for f in scope]))

    function_at = {layer: f for f, layer in enumerate(layers.layer_of)}
    for rule in rules:
        if isinstance(rule, Together | Apart | Near | ByHost):
            for pair in combinations(sorted(function_at[layer] for layer in rule.members), 2):
                table(pair)[~_admitted(layers, rule, pair)] = np.inf
    for scope, places in _crowded(layers):
        table(scope)[tuple(layers.candidate_number[f][place] for f, place in zip(scope, places, strict=True))] = np.inf
    return {scope: table for scope, table in found.items() if table.any()}


def _admitted(layers: MeshLayers, rule: Together | Apart | Near | ByHost, pair: tuple[int, ...]) -> Flags:
    """Where two members of a rule may be, as far as the two alone tell."""
    here, there = (layers.candidates[f].tolist() for f in pair)
    if isinstance(rule, Together):
        x, y = (np.array([rule.location(place) for place in places]) for places in (here, there))
        same: Flags = (x[:, None] == y) & (y != UNCERTAIN)
        return same
    out = [[_both(rule, x, y) for y in there] for x in here]
    return np.array(out, dtype=np.bool_).reshape(len(here), len(there))


def _both(rule: Apart | Near | ByHost, x: int, y: int) -> bool:
    if isinstance(rule, ByHost):
        return x == y if rule.together else x == y or rule.apart(x, y)
    return rule.within(x, y) if isinstance(rule, Near) else rule.apart(x, y)


def _crowded(layers: MeshLayers) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Two or three functions and, for each, the place that does not hold them together."""
    graph = layers.graph
    if not layers.holds(ReasonCode.CAPACITY):
        return
    at: dict[int, list[int]] = {}
    for function, places in enumerate(layers.candidates):
        for place in places.tolist():
            at.setdefault(place, []).append(function)
    units = [layers.units(f) for f in range(len(layers.candidates))]
    by_host = any(group.scope is GroupScope.HOST for group in layers.spec.groups)
    for place, functions in at.items():
        if len(functions) < 2:
            continue
        most = float(graph.largest_bin[place])
        if not by_host and sum(units[f][place] for f in functions) <= most:
            continue
        bad: list[tuple[int, ...]] = []
        for pair in combinations(functions, 2):
            if by_host or units[pair[0]][place] + units[pair[1]][place] > most:
                bits = sum(1 << layers.layer_of[f] for f in pair)
                if not within(layers, ("place", place), bits):
                    bad.append(pair)
        total = sum(b.size * b.count for b in graph.here(place).capacity.bins)
        for three in combinations(functions, 3):
            if sum(units[f][place] for f in three) > total and not any(set(pair) < set(three) for pair in bad):
                bad.append(three)
        yield from ((scope, (place,) * len(scope)) for scope in bad)
