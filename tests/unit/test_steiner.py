"""The cheapest tree that joins some points, against every set of arcs; and what grows where there are many."""

from __future__ import annotations

import random
from itertools import combinations, product

import pytest

from capability_registry import steiner
from capability_registry.steiner import Tree, cheapest_tree

Arc = tuple[int, int, float]


def joined(arcs: list[Arc], met: tuple[int, ...]) -> bool:
    """Whether the arcs are one tree, and every vertex of `met` is on it."""
    part = {v: v for x, y, _ in arcs for v in (x, y)} | {v: v for v in met}
    for x, y, _ in arcs:
        if part[x] == part[y]:
            return False
        part = {v: part[x] if p == part[y] else p for v, p in part.items()}
    return len(set(part.values())) == 1


def best(arcs: list[Arc], terminals: list[tuple[int, ...]]) -> float | None:
    """By looking at every set of arcs."""
    sets = (list(chosen) for n in range(len(arcs) + 1) for chosen in combinations(arcs, n))
    weights = [sum(w for *_, w in chosen) for chosen in sets if any(joined(chosen, met) for met in product(*terminals))]
    return min(weights, default=None)


def drawn(seed: int, terminals: int) -> tuple[int, list[Arc], list[tuple[int, ...]]]:
    rng = random.Random(seed)
    size = 7
    arcs = [(*rng.sample(range(size), 2), float(rng.randint(1, 9))) for _ in range(rng.randint(6, 10))]
    return size, arcs, [tuple(rng.sample(range(size), rng.choice([1, 1, 2]))) for _ in range(terminals)]  # type: ignore[return-value]


def found(size: int, arcs: list[Arc], terminals: list[tuple[int, ...]]) -> Tree | None:
    tails, heads, weights = [x for x, _, _ in arcs], [y for _, y, _ in arcs], [w for *_, w in arcs]
    tree = cheapest_tree(size, tails, heads, weights, terminals)
    if tree is not None:
        assert joined([arcs[n] for n in tree.arcs], tree.met)
        assert tree.weight == sum(arcs[n][2] for n in tree.arcs)
        assert all(vertex in group for vertex, group in zip(tree.met, terminals, strict=True))
    return tree


@pytest.mark.parametrize("terminals", [1, 2, 3, 4])
def test_the_tree_is_the_cheapest_there_is(terminals: int) -> None:
    none = 0
    for seed in range(25):
        size, arcs, groups = drawn(seed, terminals)
        tree = found(size, arcs, groups)
        none += tree is None
        assert (tree.weight if tree else None) == best(arcs, groups), seed
    assert none < 20


def test_of_parallel_arcs_the_cheapest_is_taken() -> None:
    tree = found(2, [(0, 1, 5.0), (1, 0, 2.0), (0, 1, 3.0)], [(0,), (1,)])
    assert tree is not None
    assert tree.arcs == (1,)


def test_many_terminals_are_joined_for_less_than_twice_the_least() -> None:
    worst = 1.0
    for seed in range(60):
        rng = random.Random(seed)
        arcs = [(*rng.sample(range(16), 2), float(rng.randint(1, 9))) for _ in range(45)]
        groups = [(v,) for v in rng.sample(range(16), steiner.EXACT)]
        exact = found(16, arcs, groups)  # type: ignore[arg-type]
        again = [*groups, groups[0]]  # one more that costs nothing, so it is grown
        grown = found(16, arcs, again)  # type: ignore[arg-type]
        assert (exact is None) == (grown is None)
        if exact is not None and grown is not None:
            worst = max(worst, grown.weight / exact.weight)
    assert 1.0 < worst < 2.0
