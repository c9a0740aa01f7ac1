"""A supplier that announces more than it has: its refusal costs it the order, not the customer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from capability_registry.note import Bin, PlaceCapacity
from lower_sp_clients.supplier import Context
from service_model.outcomes import ReasonCode, Refused, Reserved
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

CTX = Context()
SPEC = chain("a.s1.uni", "d.s4.uni", "meter", "meter")


def federation(*between: Sp) -> Sp:
    middle = Either(between) if len(between) > 1 else between[0]
    return Sp("top", (Sp("a", (Site("s1", ()),)), middle, Sp("d", (Site("s4", ()),))), pools=(POOL,))


LIAR, HONEST = Sp("b", (Site("s2", ("meter",), hosts=(1,)),)), Sp("c", (Site("s3", ("meter",), cost=5),))


def lie(stack: Stack) -> None:
    """What the liar says has room for a hundred."""
    catalogue = stack.nodes["top"].catalogue
    note = catalogue.note("b")
    assert note is not None
    boasted = tuple(PlaceCapacity(place=c.place, bins=(Bin(size=100, count=1),), lan=True) for c in note.capacities)
    catalogue.put("b", replace(note, capacities=boasted))


async def test_capacity_lies_are_refused_and_the_order_goes_to_who_has_it(tmp_path: Path) -> None:
    async with Stack(federation(LIAR, HONEST), tmp_path) as stack:
        lie(stack)
        answer = await stack.customer().reserve("r", 1, SPEC, CTX)
        assert isinstance(answer, Reserved), answer
        (order,) = (o for o in stack.broker("top").orders() if o.ref == "r")
        assert order.crankbacks
        held = {s.alias for s in order.segments if s.wanted and s.spec.functions}
        assert "c" in held
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_capacity_lies_of_the_only_supplier_end_in_a_refusal_that_says_why_and_leave_nothing(
    tmp_path: Path,
) -> None:
    async with Stack(federation(LIAR), tmp_path) as stack:
        lie(stack)
        answer = await stack.customer().reserve("r", 1, SPEC, CTX)
        assert isinstance(answer, Refused)
        assert answer.reasons[0].code in (ReasonCode.SEGMENT_REFUSED, ReasonCode.CAPACITY)
        await stack.ends_empty()
