"""Calls over the wire that are wrong, fail, come too late or are too many."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest

from broker.northbound.calls import REQUEST_MAX_BYTES
from lower_sp_clients import wire
from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import OutcomeUnknown, Overloaded
from service_model.outcomes import (
    AddressingChoice,
    Committed,
    ReasonCode,
    Refused,
    Reserved,
)
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.api_calls import (
    CTX,
    SPEC,
    next_of,
    partner,
    people,
    token_of,
    until,
    wrong,
)
from tests.support.api_node import ApiNode


@pytest.mark.parametrize("failure", [OutcomeUnknown("a child did not answer"), RuntimeError("a bug of ours")])
async def test_a_failure_inside_is_an_unknown_outcome_and_tells_nothing(
    node: ApiNode, remote: RemoteSp, failure: Exception
) -> None:
    node.suppliers["sp-a"].failures["reserve"] = [failure]
    with pytest.raises(OutcomeUnknown) as caught:
        await remote.reserve("r-1", 1, SPEC, CTX)
    assert str(failure) not in str(caught.value)
    assert isinstance(await remote.reserve("r-1", 1, SPEC, CTX), Reserved)


async def test_an_error_of_the_node_has_an_incident_id(node: ApiNode) -> None:
    ann = await token_of(node, "ann")
    node.suppliers["ann"].failures["status"] = [RuntimeError("secret detail")]
    error = await wrong(people(node).GetService(pb.GetServiceRequest(ref="r"), metadata=ann))
    assert (error.code, error.info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert error.info.metadata["incident_id"] in error.message
    assert "secret" not in error.message


async def test_no_time_left_is_an_unknown_outcome_and_nothing_is_sent(node: ApiNode, remote: RemoteSp) -> None:
    with pytest.raises(OutcomeUnknown, match="no time"):
        await remote.reserve("r-1", 1, SPEC, replace(CTX, deadline=node.clock.now()))
    assert node.suppliers["sp-a"].contexts == []


async def test_a_call_that_outlasts_its_deadline_still_has_its_effect(node: ApiNode, remote: RemoteSp) -> None:
    supplier = node.suppliers["sp-a"]
    supplier.gate = asyncio.Event()
    await remote.release("r-0", 1, CTX)  # so that the connection is there and the deadline is spent in the supplier
    with pytest.raises(OutcomeUnknown, match="DEADLINE_EXCEEDED"):
        await remote.reserve("r-1", 1, SPEC, replace(CTX, deadline=node.clock.now() + timedelta(seconds=0.7)))
    supplier.gate.set()
    async with aclosing(cast(Any, supplier.watch("0"))) as events:
        assert (await next_of(events)).status is None
        assert (await next_of(events)).status.ref == "r-1"


async def test_a_supplier_that_is_not_there_is_an_unknown_outcome(node: ApiNode) -> None:
    remote = partner(node, endpoint="127.0.0.1:1")
    for call in (remote.reserve("r", 1, SPEC, CTX), remote.terminate("r", CTX), remote.status("r", CTX)):
        with pytest.raises(OutcomeUnknown, match="UNAVAILABLE"):
            await cast(Any, call)
    await remote.close()


async def test_wrong_fields_are_named(node: ApiNode) -> None:
    ann, stub = await token_of(node, "ann"), people(node)
    spec = wire.SPEC.encode(SPEC)
    spec.ends[1].sap = "not a name"
    cases = [
        (
            stub.ReserveService(pb.ReserveServiceRequest(ref="r", version=1, spec=spec), metadata=ann),
            "spec.ends[1].sap",
        ),
        (stub.ReserveService(pb.ReserveServiceRequest(ref="r", version=1), metadata=ann), "spec"),
        (stub.ReserveService(pb.ReserveServiceRequest(ref="", version=1), metadata=ann), "ref"),
        (stub.CommitService(pb.CommitServiceRequest(ref="r"), metadata=ann), "version"),
        (stub.TerminateService(pb.TerminateServiceRequest(ref="x" * 129), metadata=ann), "ref"),
        (
            stub.ExtendReservation(pb.ExtendReservationRequest(ref="r", version=1, seconds=float("nan")), metadata=ann),
            "seconds",
        ),
    ]
    for call, field in cases:
        error = await wrong(call)
        assert (error.code, error.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert error.fields == [field]


async def test_a_request_that_the_sp_calls_invalid_is_refused_with_the_field(remote: RemoteSp) -> None:
    refused = await remote.reserve("r" * 200, 1, SPEC, CTX)
    assert isinstance(refused, Refused)
    assert [(r.code, r.subject) for r in refused.reasons] == [(ReasonCode.INVALID_SPEC, "ref")]
    with pytest.raises(OutcomeUnknown, match="INVALID_REQUEST"):
        await remote.terminate("r" * 200, CTX)


async def test_an_oversized_request_is_refused_with_size_and_limit(node: ApiNode) -> None:
    ann = await token_of(node, "ann")
    request = pb.ReserveServiceRequest(ref="x" * (REQUEST_MAX_BYTES + 1), version=1)
    error = await wrong(people(node).ReserveService(request, metadata=ann))
    assert (error.code, error.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE")
    assert dict(error.info.metadata) == {"size_bytes": str(request.ByteSize()), "limit_bytes": str(REQUEST_MAX_BYTES)}


async def test_too_many_calls_are_told_when_to_come_back(node: ApiNode, remote: RemoteSp) -> None:
    ann = await token_of(node, "ann")
    node.authenticator.throttle_s = 2.5
    error = await wrong(people(node).GetService(pb.GetServiceRequest(ref="r"), metadata=ann))
    assert (error.code, error.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS")
    assert error.retry.retry_delay.ToTimedelta() == timedelta(seconds=2.5)
    with pytest.raises(Overloaded) as told:
        await remote.reserve("r", 1, SPEC, CTX)
    assert told.value.retry_after_s == 2.5


async def test_what_begins_is_turned_away_with_a_hint_and_what_finishes_goes_on(crowded: ApiNode) -> None:
    remote = partner(crowded)
    supplier = crowded.suppliers["sp-a"]
    await remote.reserve("r-0", 1, SPEC, CTX)
    supplier.gate = asyncio.Event()
    begun = asyncio.create_task(remote.reserve("r-1", 1, SPEC, CTX))
    await until(lambda: len(supplier.contexts) == 2)
    with pytest.raises(Overloaded) as told:
        await remote.reserve("r-2", 1, SPEC, CTX)
    assert told.value.retry_after_s > 0
    with pytest.raises(Overloaded):
        await remote.qualify(SPEC, CTX)
    assert len(supplier.contexts) == 2, "the supplier has not seen what was turned away"
    again = asyncio.create_task(remote.reserve("r-0", 1, SPEC, CTX))  # begun before: it is let through
    await until(lambda: len(supplier.contexts) == 3)
    assert await remote.commit("r-0", 1, AddressingChoice(), CTX) == Committed(ref="r-0", version=1)
    await remote.release("r-9", 1, CTX)
    await remote.terminate("r-0", CTX)
    assert (await remote.status("r-0", CTX)).ref == "r-0"
    supplier.gate.set()
    supplier.gate = None
    assert isinstance(await begun, Reserved)
    await again
    assert isinstance(await remote.reserve("r-2", 1, SPEC, CTX), Reserved), "it was not done, and can be"
    await remote.close()


async def test_the_status_of_a_call_that_is_turned_away_has_a_retry_hint(crowded: ApiNode) -> None:
    ann, supplier = await token_of(crowded, "ann"), crowded.suppliers["ann"]
    supplier.gate = asyncio.Event()
    request = pb.ReserveServiceRequest(ref="r-1", version=1, spec=wire.SPEC.encode(SPEC))
    begun = asyncio.ensure_future(people(crowded).ReserveService(request, metadata=ann))
    await until(lambda: bool(supplier.contexts))
    other = pb.ReserveServiceRequest(ref="r-2", version=1, spec=wire.SPEC.encode(SPEC))
    error = await wrong(people(crowded).ReserveService(other, metadata=ann))
    assert (error.code, error.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.retry.retry_delay.ToTimedelta() > timedelta(0)
    supplier.gate.set()
    await begun


async def test_an_account_has_no_more_streams_than_it_may(crowded: ApiNode) -> None:
    remote = partner(crowded)
    async with aclosing(remote.watch("")) as first:  # type: ignore[type-var]
        await anext(first)
        with pytest.raises(OutcomeUnknown, match="OVERLOADED"):
            async for _ in remote.watch(""):
                pass
    await remote.close()
