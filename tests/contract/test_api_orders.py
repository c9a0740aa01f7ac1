"""Orders and questions over the wire, through RemoteSp."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import grpc
import pytest

from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import OutcomeUnknown, ServiceNotFound
from service_model.healing import HealPhase, HealPolicy
from service_model.money import FREE, Price
from service_model.outcomes import (
    AddressingChoice,
    Committed,
    Healing,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from service_model.quotes import Qualification, Quote
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.api_calls import (
    CTX,
    SPEC,
    people,
    token_of,
    wrong,
)
from tests.support.api_node import ApiNode
from tests.support.fake_supplier import HOLD_S, MAX_BANDWIDTH_BPS


async def test_an_order_goes_from_hold_to_end(node: ApiNode, remote: RemoteSp) -> None:
    held = await remote.reserve("r-1", 1, SPEC, CTX)
    assert held == Reserved(
        ref="r-1", version=1, choice=AddressingChoice(labels={"a": 150, "b": 0}), remaining_s=HOLD_S
    )
    longer = await remote.extend("r-1", 1, 120.0, CTX)
    assert isinstance(longer, Reserved)
    assert longer.remaining_s == 120.0
    binding = AddressingChoice(labels={"a": 150, "b": 0}, reach={"a": ()})
    assert await remote.commit("r-1", 1, binding, CTX) == Committed(ref="r-1", version=1)
    status = await remote.status("r-1", CTX)
    assert (status.state, status.binding) == (ServiceState.ACTIVE, binding)
    await remote.terminate("r-1", CTX)
    assert (await remote.status("r-1", CTX)).state is ServiceState.TERMINATED


async def test_a_wish_to_heal_and_how_far_it_is_come_over_the_wire(node: ApiNode, remote: RemoteSp) -> None:
    asked = replace(SPEC, healing=HealPolicy.ASK)
    await remote.reserve("r-1", 1, asked, CTX)
    assert await remote.commit("r-1", 1, AddressingChoice(), CTX) == Committed(ref="r-1", version=1)
    below = node.suppliers["sp-a"]
    lost = Reason(code=ReasonCode.PRICE, message="dearer than allowed")
    healing = Healing(
        phase=HealPhase.WAITING,
        broken=("west",),
        tries=2,
        next_time=node.clock.now().replace(microsecond=0),
        reasons=(lost,),
    )
    await below.degrade("r-1", healing)
    assert (await remote.status("r-1", CTX)).healing == healing
    await remote.heal("r-1", CTX)
    assert below.contexts[-1][0] == "heal"
    status = await remote.status("r-1", CTX)
    assert (status.state, status.healing) == (ServiceState.ACTIVE, None)
    with pytest.raises(ServiceNotFound):
        await remote.heal("r-2", CTX)
    error = await wrong(people(node).HealService(pb.HealServiceRequest(ref=""), metadata=await token_of(node, "ann")))
    assert error.fields == ["ref"]


async def test_the_same_request_gets_the_recorded_answer_and_another_body_is_refused(remote: RemoteSp) -> None:
    first = await remote.reserve("r-1", 1, SPEC, CTX)
    assert await remote.reserve("r-1", 1, SPEC, CTX) == first
    other = await remote.reserve("r-1", 1, replace(SPEC, bandwidth_bps=5), CTX)
    assert isinstance(other, Refused)
    assert other.reasons[0].code is ReasonCode.KEY_REUSED


async def test_a_refusal_comes_back_as_a_value_with_its_culprit(remote: RemoteSp) -> None:
    refused = await remote.reserve("r-1", 1, replace(SPEC, bandwidth_bps=10**13), CTX)
    assert isinstance(refused, Refused)
    assert (refused.reasons[0].code, refused.reasons[0].subject) == (ReasonCode.BANDWIDTH, "bandwidth_bps")
    not_held = await remote.commit("r-1", 1, AddressingChoice(), CTX)
    assert isinstance(not_held, Refused)
    assert isinstance(await remote.extend("r-1", 1, 10.0, CTX), Refused)


async def test_a_release_of_an_unseen_version_leaves_a_tombstone(remote: RemoteSp) -> None:
    await remote.release("r-1", 1, CTX)
    late = await remote.reserve("r-1", 1, SPEC, CTX)
    assert isinstance(late, Refused)
    assert late.reasons[0].code is ReasonCode.VERSION_RELEASED


async def test_budgets_trace_and_deadline_reach_the_supplier(node: ApiNode, remote: RemoteSp) -> None:
    deadline = node.clock.now() + timedelta(seconds=30)
    await remote.reserve("r-1", 1, SPEC, replace(CTX, deadline=deadline, hop_budget=0))
    method, seen = node.suppliers["sp-a"].contexts[-1]
    assert (method, seen.hop_budget, seen.call_budget, seen.trace) == ("reserve", 0, 40, CTX.trace)
    assert seen.deadline is not None
    assert deadline - timedelta(seconds=5) < seen.deadline < deadline


async def test_a_service_that_is_not_yours_does_not_exist(node: ApiNode, remote: RemoteSp) -> None:
    await remote.reserve("r-1", 1, SPEC, CTX)
    with pytest.raises(ServiceNotFound):
        await remote.status("unknown", CTX)
    ann = await token_of(node, "ann")
    error = await wrong(people(node).GetService(pb.GetServiceRequest(ref="r-1"), metadata=ann))
    assert (error.code, error.info.reason) == (grpc.StatusCode.NOT_FOUND, "SERVICE_NOT_FOUND")


async def test_services_are_listed_over_pages(node: ApiNode, remote: RemoteSp) -> None:
    for number in range(205):
        await node.suppliers["sp-a"].release(f"r-{number}", 1, CTX)
    assert [s.ref async for s in remote.services(CTX)] == [f"r-{number}" for number in range(205)]


async def test_a_page_goes_on_where_the_last_ended(node: ApiNode) -> None:
    ann = await token_of(node, "ann")
    for number in range(5):
        await node.suppliers["ann"].release(f"r-{number}", 1, CTX)
        node.clock.move(1)
    stub, seen, token = people(node), [], ""
    for _ in range(3):
        page = await stub.ListServices(pb.ListServicesRequest(page_size=2, page_token=token), metadata=ann)
        seen.append([service.ref for service in page.services])
        token = page.next_page_token
        node.suppliers["ann"]._orders.pop("r-1", None)  # the last one given disappears between two pages
    assert seen == [["r-0", "r-1"], ["r-2", "r-3"], ["r-4"]]
    assert token == ""
    for bad in ("nonsense", "WzEsMl0=", "W10="):
        error = await wrong(stub.ListServices(pb.ListServicesRequest(page_token=bad), metadata=ann))
        assert (error.info.reason, error.fields) == ("PAGE_TOKEN_INVALID", ["page_token"])


async def test_a_qualification_and_a_quote_come_over_the_wire_and_the_quote_goes_back(
    node: ApiNode, remote: RemoteSp
) -> None:
    supplier = node.suppliers["sp-a"]
    supplier.price = Price(currency="CHF", once=Decimal("0.01"), per_hour=Decimal("0.0003"))
    assert await remote.qualify(SPEC, CTX) == Qualification(feasible=True, price=supplier.price, delay_us=4200)
    quote = await remote.quote(SPEC, CTX)
    assert quote == Quote(id="q1", price=supplier.price, delay_us=4200, remaining_s=HOLD_S)
    supplier.price = FREE
    reserved = await remote.reserve("r", 1, SPEC, replace(CTX, quote="q1"))
    assert isinstance(reserved, Reserved)
    assert reserved.price == quote.price
    assert [ctx.quote for method, ctx in supplier.contexts if method in ("quote", "reserve")] == ["", "q1"]


async def test_what_is_said_of_a_question_that_is_wrong_is_a_no_and_no_answer_is_not_known(
    node: ApiNode, remote: RemoteSp
) -> None:
    wide = replace(SPEC, bandwidth_bps=MAX_BANDWIDTH_BPS + 1)
    for asked in (await remote.qualify(wide, CTX), await remote.quote(wide, CTX)):
        assert isinstance(asked, Qualification)
        assert [(r.code, r.subject) for r in asked.reasons] == [(ReasonCode.BANDWIDTH, "bandwidth_bps")]
        assert asked.reasons[0].nogood is not None
    node.suppliers["sp-a"].failures["quote"] = [RuntimeError("lost")]
    with pytest.raises(OutcomeUnknown):
        await remote.quote(SPEC, CTX)
