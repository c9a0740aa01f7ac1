"""The API over real sockets: a supplier behind the server, called through RemoteSp and through plain stubs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import grpc
import pytest
import trustme
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from address_planner.labels import LabelSet
from broker.northbound.admin_servicer import POOL, RESOURCE, STUCK, SUPPLIER
from broker.northbound.admission import Bounds
from broker.northbound.auth import thumbprint
from broker.northbound.calls import QUIET_S, REQUEST_MAX_BYTES, required_role
from capability_registry.note import CapabilityNote
from lower_sp_clients import wire
from lower_sp_clients.remote_sp import ClientTls, RemoteSp
from lower_sp_clients.supplier import Context, Interest, OutcomeUnknown, Overloaded, ServiceNotFound, SignedNote
from service_model.healing import HealPhase, HealPolicy
from service_model.money import FREE, Price
from service_model.outcomes import (
    AddressingChoice,
    Committed,
    Event,
    Healing,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from service_model.quotes import Qualification, Quote
from service_model.spec import End, ServiceSpec, VirtualLink
from spbroker.v1 import admin_service_pb2 as admin_pb
from spbroker.v1 import admin_service_pb2_grpc, broker_service_pb2_grpc, outcome_pb2
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.api_node import START, ApiNode, SetClock
from tests.support.fake_supplier import HOLD_S, MAX_BANDWIDTH_BPS

SPEC = ServiceSpec(
    name="web",
    ends=(
        End(id="a", sap="uni1", labels=LabelSet.parse("100-199"), suggested_label=150),
        End(id="b", sap="uni2"),
    ),
    links=(VirtualLink(id="l", points=("a", "b")),),
)
CTX = Context(hop_budget=3, call_budget=40, trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@pytest.fixture
async def node() -> AsyncIterator[ApiNode]:
    node = await ApiNode().start()
    yield node
    await node.close()


@pytest.fixture
async def crowded() -> AsyncIterator[ApiNode]:
    """One call that begins something may run, nobody may wait, and an account may have one stream."""
    node = ApiNode(bounds=Bounds(beginning=1, waiting=0, streams=1))
    await node.start()
    yield node
    await node.close()


@pytest.fixture
async def remote(node: ApiNode) -> AsyncIterator[RemoteSp]:
    remote = partner(node)
    yield remote
    await remote.close()


def partner(node: ApiNode, tls: ClientTls | None = None, endpoint: str = "", clock: SetClock | None = None) -> RemoteSp:
    """The partner `sp-a` of the node, with its certificate registered there."""
    tls = tls or node.partner_tls()
    node.authenticator.certificates["sp-a"] = thumbprint(tls.certificate)
    return RemoteSp(
        endpoint or node.partner_endpoint,
        "sp-a",
        tls=lambda: tls,
        verify=read_note,
        clock=clock or node.clock,
        random=lambda: 1.0,
    )


def read_note(jws: str) -> CapabilityNote:
    """Stands for verification: the JWS is `good-<edition>`."""
    kind, _, edition = jws.partition("-")
    if kind != "good":
        raise ValueError("the signature is wrong")
    return CapabilityNote(
        sp_id="sp-b", edition=int(edition), audience="sp-a", not_before=START, expires=START + timedelta(days=1)
    )


def signed(edition: int) -> SignedNote:
    return SignedNote(jws=f"good-{edition}", note=read_note(f"good-{edition}"))


async def token_of(node: ApiNode, account: str, *roles: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a person who has logged in."""
    node.authenticator.passwords[account] = "correct horse"
    node.authenticator.roles[account] = frozenset(roles or {"customer"})
    answer = await people(node).IssueToken(pb.IssueTokenRequest(account=account, password="correct horse"))
    return (("authorization", f"Bearer {answer.token}"),)


def people(node: ApiNode) -> Any:
    return broker_service_pb2_grpc.BrokerServiceStub(node.people_channel())  # type: ignore[no-untyped-call]


def administration(node: ApiNode) -> Any:
    return admin_service_pb2_grpc.AdminServiceStub(node.people_channel())  # type: ignore[no-untyped-call]


class Wrong:
    """What a call that is wrong was told."""

    def __init__(self, error: Any) -> None:
        self.code, self.message = error.code(), error.details()
        status = status_pb2.Status()
        for key, value in error.trailing_metadata():
            if key == "grpc-status-details-bin":
                status.ParseFromString(value)
        assert status.code == self.code.value[0]
        self.info, self.bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        self.retry = error_details_pb2.RetryInfo()
        for detail in status.details:
            for kind in (self.info, self.bad, self.retry):
                detail.Unpack(kind)
        assert self.info.domain == "spbroker"
        self.fields = [violation.field for violation in self.bad.field_violations]


async def wrong(call: Any) -> Wrong:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Wrong(caught.value)


# Orders through RemoteSp ----------------------------------------------------------------------------------------------


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


# What a supplier's failure looks like ---------------------------------------------------------------------------------


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


# Requests that are wrong ----------------------------------------------------------------------------------------------


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


# Who is calling -------------------------------------------------------------------------------------------------------


async def test_without_a_token_nothing_is_served(node: ApiNode) -> None:
    stub = people(node)
    for metadata in ((), (("authorization", "Basic x"),), (("authorization", "Bearer "),)):
        error = await wrong(stub.GetService(pb.GetServiceRequest(ref="r"), metadata=metadata))
        assert (error.code, error.info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    stream = stub.WatchServices(pb.WatchServicesRequest())
    assert (await wrong(stream.read())).info.reason == "TOKEN_MISSING"


async def test_an_expired_or_forged_token_is_refused(node: ApiNode) -> None:
    ann, stub = await token_of(node, "ann"), people(node)
    node.clock.move(node.authenticator.lifetime_s)
    error = await wrong(stub.GetService(pb.GetServiceRequest(ref="r"), metadata=ann))
    assert (error.code, error.info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
    forged = (("authorization", "Bearer forged"),)
    assert (await wrong(stub.GetService(pb.GetServiceRequest(ref="r"), metadata=forged))).info.reason == "TOKEN_INVALID"


async def test_a_wrong_password_is_refused(node: ApiNode) -> None:
    await token_of(node, "ann")
    error = await wrong(people(node).IssueToken(pb.IssueTokenRequest(account="ann", password="guess")))
    assert (error.code, error.info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_REFUSED")


async def test_a_partners_token_is_worth_nothing_without_its_certificate(node: ApiNode, remote: RemoteSp) -> None:
    await remote.reserve("r-1", 1, SPEC, CTX)
    (token,) = node.authenticator.issued
    stolen = (("authorization", f"Bearer {token}"),)
    error = await wrong(people(node).GetService(pb.GetServiceRequest(ref="r-1"), metadata=stolen))
    assert (error.code, error.info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_a_certificate_of_another_authority_gets_no_connection(node: ApiNode) -> None:
    remote = partner(node, tls=node.partner_tls(trustme.CA()))
    with pytest.raises(OutcomeUnknown, match="UNAVAILABLE"):
        await remote.reserve("r-1", 1, SPEC, CTX)
    assert node.authenticator.issues == 0
    await remote.close()


async def test_without_partner_roots_nobody_gets_in_and_new_roots_count_at_once(node: ApiNode) -> None:
    node.trusted_partners = b""
    refused = partner(node)
    with pytest.raises(OutcomeUnknown, match="UNAVAILABLE"):
        await refused.reserve("r-1", 1, SPEC, CTX)
    node.trusted_partners = node.partners.cert_pem.bytes()
    welcome = partner(node)
    assert isinstance(await welcome.reserve("r-1", 1, SPEC, CTX), Reserved)
    await refused.close()
    await welcome.close()


async def test_a_server_of_another_authority_is_not_trusted(node: ApiNode) -> None:
    tls = replace(node.partner_tls(), roots=trustme.CA().cert_pem.bytes())
    remote = partner(node, tls=tls)
    with pytest.raises(OutcomeUnknown, match="UNAVAILABLE"):
        await remote.reserve("r-1", 1, SPEC, CTX)
    await remote.close()


async def test_a_certificate_that_is_not_the_accounts_gets_no_token(node: ApiNode, remote: RemoteSp) -> None:
    node.authenticator.certificates["sp-a"] = "another"
    with pytest.raises(OutcomeUnknown, match="CREDENTIALS_REFUSED"):
        await remote.reserve("r-1", 1, SPEC, CTX)


async def test_the_token_is_kept_and_renewed_before_it_expires(node: ApiNode, remote: RemoteSp) -> None:
    await remote.reserve("r-1", 1, SPEC, CTX)
    node.clock.move(node.authenticator.lifetime_s - 61)
    await remote.status("r-1", CTX)
    assert node.authenticator.issues == 1
    node.clock.move(2)
    await remote.status("r-1", CTX)
    assert node.authenticator.issues == 2


async def test_a_token_that_is_no_longer_taken_is_replaced_once(node: ApiNode, remote: RemoteSp) -> None:
    await remote.reserve("r-1", 1, SPEC, CTX)
    node.authenticator.issued.clear()
    assert (await remote.status("r-1", CTX)).ref == "r-1"
    assert node.authenticator.issues == 2


async def test_a_new_certificate_is_used_from_the_next_renewal_on(node: ApiNode) -> None:
    used = node.partner_tls()
    remote = RemoteSp(node.partner_endpoint, "sp-a", tls=lambda: used, verify=read_note, clock=node.clock)
    node.authenticator.certificates["sp-a"] = thumbprint(used.certificate)
    await remote.reserve("r-1", 1, SPEC, CTX)
    used = node.partner_tls()
    node.authenticator.certificates["sp-a"] = thumbprint(used.certificate)
    node.clock.move(node.authenticator.lifetime_s)
    assert (await remote.status("r-1", CTX)).ref == "r-1"
    await remote.close()


async def test_only_operators_administer_and_only_customers_order(node: ApiNode) -> None:
    ann, oscar = await token_of(node, "ann"), await token_of(node, "oscar", "operator")
    denied = await wrong(administration(node).GetInventory(admin_pb.GetInventoryRequest(), metadata=ann))
    assert (denied.code, denied.info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")
    denied = await wrong(people(node).GetService(pb.GetServiceRequest(ref="r"), metadata=oscar))
    assert (denied.code, denied.info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")
    assert required_role("/some.NewService/Method") == "operator"


# Streams --------------------------------------------------------------------------------------------------------------


async def next_of(stream: Any) -> Any:
    return await asyncio.wait_for(anext(stream), 20)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for happens in other tasks of this loop
            await asyncio.sleep(0)


async def test_events_begin_with_a_bookmark_and_resume_behind_a_token(node: ApiNode, remote: RemoteSp) -> None:
    async with aclosing(cast(Any, remote.watch(""))) as events:
        first = await next_of(events)
        assert first.status is None
        await remote.reserve("r-1", 1, SPEC, CTX)
        held: Event = await next_of(events)
        assert held.status is not None
        assert (held.status.ref, held.status.state) == ("r-1", ServiceState.RESERVED)
    await remote.terminate("r-1", CTX)
    async with aclosing(cast(Any, remote.watch(held.token))) as events:
        assert (await next_of(events)) == Event(token=held.token)
        assert (await next_of(events)).status.state is ServiceState.TERMINATED


async def test_a_resumed_stream_may_ask_for_something_else(node: ApiNode, remote: RemoteSp) -> None:
    async with aclosing(cast(Any, remote.watch(""))) as events:
        start = await next_of(events)
    await remote.reserve("r-1", 1, SPEC, CTX)
    await remote.terminate("r-1", CTX)
    over = Interest(states=frozenset({ServiceState.TERMINATED}))
    async with aclosing(cast(Any, remote.watch(start.token, over))) as events:
        assert (await next_of(events)).status is None
        assert (await next_of(events)).status.state is ServiceState.TERMINATED


async def test_a_state_of_a_newer_release_is_one_that_no_service_is_in(node: ApiNode) -> None:
    ann = await token_of(node, "ann")
    request = pb.WatchServicesRequest(states=[cast(Any, 4711), outcome_pb2.SERVICE_STATE_TERMINATED])
    call = people(node).WatchServices(request, metadata=ann)
    assert not (await asyncio.wait_for(call.read(), 20)).event.HasField("status")
    await node.suppliers["ann"].reserve("r-1", 1, SPEC, CTX)
    await node.suppliers["ann"].terminate("r-1", CTX)
    told = (await asyncio.wait_for(call.read(), 20)).event.status
    assert told.state == outcome_pb2.SERVICE_STATE_TERMINATED
    call.cancel()


async def test_a_stream_ends_with_its_token(node: ApiNode, remote: RemoteSp) -> None:
    async with aclosing(cast(Any, remote.watch(""))) as events:
        await next_of(events)
        node.clock.move(node.authenticator.lifetime_s)
        await node.suppliers["sp-a"].release("r-1", 1, CTX)
        await node.suppliers["sp-a"].terminate("r-1", CTX)
        with pytest.raises(OutcomeUnknown, match="TOKEN_EXPIRED"):
            await next_of(events)


async def test_stopping_ends_streams_at_once_and_says_so(node: ApiNode, remote: RemoteSp) -> None:
    assert node.server is not None
    async with aclosing(cast(Any, remote.watch(""))) as events:
        await next_of(events)
        await asyncio.wait_for(node.server.stop(60.0), 20)
        with pytest.raises(OutcomeUnknown, match="SHUTTING_DOWN"):
            await next_of(events)


async def test_notes_flow_and_a_bad_one_is_passed_over(node: ApiNode, remote: RemoteSp) -> None:
    supplier = node.suppliers["sp-a"]
    await supplier.publish(signed(1))
    async with aclosing(cast(Any, remote.notes())) as notes:
        assert (await next_of(notes)) == signed(1)
        following = asyncio.ensure_future(next_of(notes))
        await supplier.publish(replace(signed(2), jws="bad-2"))
        await supplier.publish(signed(3))
        assert (await following) == signed(3)


async def test_notes_resume_after_a_break_without_repeating(node: ApiNode, remote: RemoteSp) -> None:
    await node.suppliers["sp-a"].publish(signed(1))
    async with aclosing(cast(Any, remote.notes())) as notes:
        assert (await next_of(notes)).note.edition == 1
        assert remote.feed_broken_since is None
        following = asyncio.ensure_future(next_of(notes))
        assert node.server is not None
        port = node.server.ports["partners"]
        await node.server.stop(0.5)
        await until(lambda: remote.feed_broken_since is not None)
        await node.start(port)
        await until(lambda: remote.feed_broken_since is None)  # connected again, and not given edition 1 a second time
        await node.suppliers["sp-a"].publish(signed(2))
        assert (await following).note.edition == 2
    pauses = [s for s in node.clock.slept if s != QUIET_S]  # the server's own, while it stops
    assert pauses[0] == 1.0
    assert max(pauses) <= 60.0


async def test_a_note_stream_tells_snapshot_changes_and_a_useless_token(node: ApiNode) -> None:
    ann, stub = await token_of(node, "ann"), people(node)
    await node.suppliers["ann"].publish(signed(5))
    stream = stub.WatchCapabilityNotes(pb.WatchCapabilityNotesRequest(), metadata=ann)
    first = [await stream.read() for _ in range(3)]
    assert [m.WhichOneof("kind") for m in first] == ["note", "snapshot_end", "bookmark"]
    token = first[2].bookmark.token
    for resume, kinds in (
        (token, ["snapshot_end", "bookmark"]),
        ("4.abc", ["note", "snapshot_end", "bookmark"]),
        ("9.abc", ["start_again", "note", "snapshot_end", "bookmark"]),
        ("?", ["start_again", "note", "snapshot_end", "bookmark"]),
    ):
        again = stub.WatchCapabilityNotes(pb.WatchCapabilityNotesRequest(resume_token=resume), metadata=ann)
        assert [(await again.read()).WhichOneof("kind") for _ in kinds] == kinds
    answer = await stub.GetCapabilityNote(pb.GetCapabilityNoteRequest(), metadata=ann)
    assert answer.note.jws == "good-5"


# Administration -------------------------------------------------------------------------------------------------------


async def test_an_operator_applies_and_exports_documents(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    request = admin_pb.ApplyRequest(reason="first pool", dry_run=True)
    request.documents.add().update({"kind": "pool", "name": "p", "prefix": "10.0.0.0/8", "block": 24})
    dry = await stub.Apply(request, metadata=oscar)
    assert not dry.applied
    assert (await stub.Export(admin_pb.ExportRequest(), metadata=oscar)).documents == []
    request.dry_run = False
    done = await stub.Apply(request, metadata=oscar)
    assert done.applied
    assert [(c.kind, c.name, c.action) for c in done.changes] == [("pool", "p", admin_pb.CHANGE_ACTION_CREATED)]
    assert done.changes[0].diffs[0].after == '"10.0.0.0/8"'
    assert node.admin.log == [("oscar", "first pool")] * 2
    assert node.admin.documents["pool", "p"]["block"] == 24
    exported = await stub.Export(admin_pb.ExportRequest(kinds=["pool"]), metadata=oscar)
    assert exported.documents[0]["prefix"] == "10.0.0.0/8"
    assert (await stub.Export(admin_pb.ExportRequest(kinds=["place"]), metadata=oscar)).documents == []


async def test_an_operator_sees_inventory_and_orders(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    inventory = (await stub.GetInventory(admin_pb.GetInventoryRequest(), metadata=oscar)).inventory
    assert [(a.pool, a.state) for a in inventory.allocations] == [("p", admin_pb.ALLOCATION_STATE_HELD)]
    first = await stub.ListOrders(admin_pb.ListOrdersRequest(page_size=2), metadata=oscar)
    rest = await stub.ListOrders(admin_pb.ListOrdersRequest(page_token=first.next_page_token), metadata=oscar)
    assert [o.status.ref for page in (first, rest) for o in page.orders] == ["r-0", "r-1", "r-2"]
    assert first.orders[0].segments[0].supplier == "sp-c"


async def test_an_operator_sees_pools_of_any_size(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    answer = await stub.ListPools(admin_pb.ListPoolsRequest(), metadata=oscar)
    assert tuple(map(POOL.decode, answer.pools)) == await node.admin.pools()
    assert tuple(map(RESOURCE.decode, answer.resources)) == await node.admin.resources()
    ann = await token_of(node, "ann")
    denied = await wrong(administration(node).ListPools(admin_pb.ListPoolsRequest(), metadata=ann))
    assert denied.code is grpc.StatusCode.PERMISSION_DENIED


async def test_an_operator_sees_what_is_stuck_and_gives_it_up_for_a_reason(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    listed = await stub.ListStuck(admin_pb.ListStuckRequest(account="ann"), metadata=oscar)
    assert tuple(map(STUCK.decode, listed.segments)) == await node.admin.stuck("ann")
    for wrong_reason in (" ", "x" * 1001):
        request = admin_pb.AbandonServiceRequest(service="r-1", reason=wrong_reason)
        refused = await wrong(stub.AbandonService(request, metadata=oscar))
        assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["reason"])
    request = admin_pb.AbandonServiceRequest(service="r-9", reason="bankrupt")
    unknown = await wrong(stub.AbandonService(request, metadata=oscar))
    assert unknown.fields == ["service"]
    assert unknown.bad.field_violations[0].description == "there is no service 'r-9'"
    assert node.admin.abandoned == {}
    request = admin_pb.AbandonServiceRequest(service="r-1", reason=" bankrupt ")
    ann = await token_of(node, "ann")
    denied = await wrong(administration(node).AbandonService(request, metadata=ann))
    assert denied.code is grpc.StatusCode.PERMISSION_DENIED
    done = await stub.AbandonService(request, metadata=oscar)
    assert (done.service, list(done.segments)) == ("s-1", ["east.1"])
    assert node.admin.abandoned == {"east.1": ("oscar", "bankrupt")}


async def test_an_operator_sees_what_is_heard_of_suppliers(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    answer = await stub.ListSuppliers(admin_pb.ListSuppliersRequest(), metadata=oscar)
    assert tuple(map(SUPPLIER.decode, answer.suppliers)) == await node.admin.suppliers()
    ann = await token_of(node, "ann")
    denied = await wrong(administration(node).ListSuppliers(admin_pb.ListSuppliersRequest(), metadata=ann))
    assert denied.code is grpc.StatusCode.PERMISSION_DENIED


async def test_an_operator_sets_a_password(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    await stub.SetPassword(admin_pb.SetPasswordRequest(account="ann", password="long enough now"), metadata=oscar)
    assert node.admin.passwords == {"ann": "long enough now"}
    short = await wrong(stub.SetPassword(admin_pb.SetPasswordRequest(account="ann", password="short"), metadata=oscar))
    assert (short.info.reason, short.fields) == ("INVALID_REQUEST", ["password"])
    nobody = await wrong(stub.SetPassword(admin_pb.SetPasswordRequest(account="bob", password="x"), metadata=oscar))
    assert (nobody.code, nobody.info.reason) == (grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND")


# Health and reflection ------------------------------------------------------------------------------------------------


async def test_health_says_what_the_node_says(node: ApiNode) -> None:
    stub = health_pb2_grpc.HealthStub(node.people_channel())
    request = health_pb2.HealthCheckRequest(service="spbroker.v1.BrokerService")
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert node.server is not None
    await node.server.set_health(True)
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services(node: ApiNode) -> None:
    assert node.server is not None
    address = f"127.0.0.1:{node.server.ports['people']}"

    def listed() -> list[str]:
        credentials = grpc.ssl_channel_credentials(node.authority.cert_pem.bytes())
        with grpc.secure_channel(address, credentials) as channel:
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert {"spbroker.v1.BrokerService", "spbroker.v1.AdminService"} <= set(await asyncio.to_thread(listed))


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
