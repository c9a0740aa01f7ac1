"""One wholesaler that two middle SPs sell: from what the one joins to it to what only the other does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service_model.outcomes import ReasonCode, Refused, Reserved, ServiceState
from tests.support.orders import CONFIRM, CTX
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

EAST, MIDDLE, WEST = Site("east", ("firewall",)), Site("middle", ("meter",)), Site("west", ("shaper",))
WHOLESALER = Sp("w", (MIDDLE,))
EASTERN = Sp("m", (Sp("e", (EAST,)), WHOLESALER))
ORDER = chain("m.e.east.uni", "n.v.west.uni", "firewall", "meter", "shaper")
LINE = ("east", "middle", "west")


def top(*, hands_over: bool) -> Sp:
    western = Sp("n", (replace(WHOLESALER, sold_besides=hands_over), Sp("v", (WEST,))))
    return Sp("t", (EASTERN, western), (POOL,))


async def test_it_is_delivered_where_the_one_hands_over_to_the_other(tmp_path: Path) -> None:
    async with Stack(top(hands_over=True), tmp_path, line=LINE) as stack:
        customer = stack.customer()
        assert isinstance(await customer.reserve("r", 1, ORDER, CTX), Reserved)
        await customer.commit("r", 1, CONFIRM, CTX)
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.5)
        [order] = stack.broker("t").orders()
        assert [s.alias for s in order.segments] == ["m", "n"]
        held = {name: [h for h in stack.vim(name).holds() if h.state is ServiceState.ACTIVE] for name in LINE}
        assert {name: len(some) for name, some in held.items()} == dict.fromkeys(LINE, 1)
        labels = {name: dict(some[0].choice.labels) for name, some in held.items() if some[0].choice is not None}
        met = [set(labels[a].values()) & set(labels[b].values()) for a, b in (("east", "middle"), ("middle", "west"))]
        assert all(met), f"at each interconnect both sides have one label: {labels}"
        await customer.terminate("r", CTX)
        await stack.ends_empty()


@pytest.mark.parametrize("hands_over", [True, False])
async def test_without_handing_over_it_is_refused_and_nothing_is_left(tmp_path: Path, hands_over: bool) -> None:
    async with Stack(top(hands_over=hands_over), tmp_path, line=LINE) as stack:
        answer = await stack.customer().reserve("r", 1, ORDER, CTX)
        assert isinstance(answer, Reserved) == hands_over
        if isinstance(answer, Refused):
            assert answer.reasons[0].code is ReasonCode.NO_PATH
        await stack.customer().release("r", 1, CTX)
        await stack.ends_empty()


async def test_what_ends_in_the_wholesaler_is_bought_of_either_as_before(tmp_path: Path) -> None:
    async with Stack(top(hands_over=True), tmp_path, line=LINE) as stack:
        for ref, a, b in (("r", "m.e.east.uni", "m.w.middle.uni"), ("s", "n.w.middle.uni", "n.v.west.uni")):
            assert isinstance(await stack.customer().reserve(ref, 1, chain(a, b, "meter"), CTX), Reserved)
            await stack.customer().release(ref, 1, CTX)
            await stack.ends_empty()
