"""The bounds that guide the search of a chain, beside the moves that they bound."""

from __future__ import annotations

import random

import pytest

from broker.decompose.bounds import Bounds, Weighting
from broker.decompose.graph import graph_of
from broker.decompose.layered import ChainLayers, Question
from broker.decompose.plan import Avoid
from broker.decompose.search import _asked
from tests.support.planning import NOW, chain_spec, lan, random_snapshot


def question(seed: int) -> Question | None:
    """A chain with up to three functions, with LANs beside some, over three suppliers; some ways are to be avoided. None
    where a word is unknown."""
    rng = random.Random(seed)
    snap = random_snapshot(seed, 3, joints=2)
    types = [rng.choice("xy") for _ in range(rng.randint(0, 3))]
    joined = [lan("m", "f0:mgmt", "f1:mgmt")] if len(types) > 1 and rng.random() < 0.5 else []
    spec = chain_spec("s0.uni", rng.choice(["s1.uni", "s2.uni"]), types, joined, bandwidth_bps=rng.choice([0, 1, 2]))
    some = [v for v in snap.suppliers if rng.random() < 0.5]
    ways = {(v.alias, x.id, y.id) for v in some for x, y in [rng.sample(v.note.saps, 2)]}
    asked = _asked(spec, graph_of(snap), NOW, Avoid(ways=frozenset(ways)))
    return asked if isinstance(asked, Question) else None


@pytest.mark.parametrize("weighting", [(1.0, 0.0), (0.0, 1.0), (1.0, 7.0)])
def test_a_bound_is_the_least_that_a_move_and_the_bound_behind_it_take(weighting: Weighting) -> None:
    price, time = weighting
    led = stuck = 0
    for seed, asked in enumerate(filter(None, map(question, range(90)))):
        layers = ChainLayers(asked)
        bounds = Bounds(layers).exact(weighting)
        assert bounds[layers.target] == 0
        seen, open_ = {layers.origin, layers.target}, [layers.origin]
        while open_:
            state = open_.pop()
            moves = layers.moves(state)
            ahead = [price * move.cost + time * move.delay + bounds[move.target] for move in moves]
            assert bounds[state] == min(ahead, default=float("inf")), (seed, state)
            led += bounds[state] != float("inf")
            stuck += bounds[state] == float("inf")
            new = {move.target for move in moves} - seen
            seen |= new
            open_ += sorted(new)
    assert led > 200
    assert stuck > 20
