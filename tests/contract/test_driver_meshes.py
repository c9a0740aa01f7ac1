"""Trees, shared functions and diamonds across two domains: every driver sends each packet of either family through the
functions of its path and no other, and the reply through the same in reverse."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from service_model.families import families_of
from service_model.flows import Flow, FlowProtocol
from tests.support.built_mesh import built, places
from tests.support.driver_bench import Bench, SimulatedBench, linux_or_skip
from tests.support.meshes import service

BOTH, SIX = families_of((4, 6)), families_of((6,))
TCP_80, ICMP = Flow(protocol=FlowProtocol.TCP, port=80), Flow(protocol=FlowProtocol.ICMP)


@pytest_asyncio.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.packets)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Bench = SimulatedBench() if request.param == "simulated" else linux_or_skip(f"m{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


async def test_a_tree_leads_to_each_sink_through_its_own_functions(bench: Bench) -> None:
    tree = await built(bench, service("a f g b", "a f h c", families=BOTH), places("a f h c", "g b"), second="c")
    assert await tree.crossed("a", "b") == {"f", "g"}
    assert await tree.crossed("a", "c") == {"f", "h"}
    assert await tree.crossed("c", "a") == {"f", "h"}
    assert not await tree.asked("b", "c"), "no path leads from sink to sink"
    assert not await tree.asked("b", "c", version=6)


async def test_two_paths_share_a_function_and_stay_apart(bench: Bench) -> None:
    shared = await built(
        bench, service("a f g b", "c h f k d", families=SIX), places("a f c h", "g b k d"), second="c d"
    )
    assert await shared.crossed("a", "b") == {"f", "g"}
    assert await shared.crossed("c", "d") == {"h", "f", "k"}
    assert not await shared.asked("a", "d", version=6), "what enters f from a has no way to d"


async def test_a_path_that_visits_a_domain_twice_is_one_service_there(bench: Bench) -> None:
    back = await built(bench, service("a f g h b"), places("a f h b", "g"), second="b")
    assert [part.key for part in back.service.parts.segments] == ["left.1", "right.1"]
    assert [len(part.spec.paths) for part in back.service.parts.segments] == [2, 1]
    assert await back.crossed("a", "b") == {"f", "g", "h"}
    assert await back.crossed("b", "a") == {"f", "g", "h"}


async def test_flows_take_the_branches_of_a_diamond(bench: Bench) -> None:
    spec = service("a s g j b", "a s h j b", flows={"w0": (TCP_80, ICMP)}, families=BOTH)
    diamond = await built(bench, spec, places("a s g", "h j b"))
    assert await diamond.crossed("a", "b", port=80) == {"s", "g", "j"}
    assert await diamond.crossed("a", "b", port=81) == {"s", "h", "j"}
    assert await diamond.crossed("a", "b") == {"s", "g", "j"}
    assert await diamond.crossed("b", "a") == {"s", "g", "j"}
