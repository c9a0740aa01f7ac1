"""Managers between real nodes: the example of the documentation as a process of its own, asked over mutual TLS for a SONATA
service that names it; and what customers, operators and partners see of that."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from broker.northbound.admin_servicer import DETAIL
from lower_sp_clients import wire
from service_model.managing import DecisionOutcome, ManagerTask
from service_model.outcomes import ReasonCode, Refused, Reserved, ServiceState, ServiceStatus
from service_model.sonata import import_nsd
from service_model.spec import FunctionType, ServiceSpec
from spbroker.v1 import admin_service_pb2 as admin_pb
from spbroker.v1 import broker_service_pb2 as pb
from spbroker.v1 import manager_service_pb2 as manager_pb
from tests.support.customer import Customer
from tests.support.nodes import OPERATOR, OPERATOR_PASSWORD, SETTLED_S, Nodes
from tests.support.served_manager import NAME, ServedManager
from tests.support.topologies import FROM, TO, function, nothing_left, person

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "placement_manager.py"
METER = FunctionType("eu.spbroker", "meter", "1.0")
NSD = """\
descriptor_version: "1.0"
vendor: eu.spbroker
name: metered
version: "1.0"
network_functions:
  - {vnf_id: meter, vnf_vendor: eu.spbroker, vnf_name: meter, vnf_version: "1.0"}
service_specific_managers:
  - {id: ssmdumb, description: "where it is metered", image: "registry.example/ssm"}
connection_points:
  - {id: client, interface: ipv4, type: external}
  - {id: web, interface: ipv4, type: external}
virtual_links:
  - {id: in, connectivity_type: E-Line, connection_points_reference: [client, "meter:input"]}
  - {id: out, connectivity_type: E-Line, connection_points_reference: ["meter:output", web]}
forwarding_graphs:
  - fg_id: all
    number_of_endpoints: 2
    number_of_virtual_links: 2
    constituent_virtual_links: [in, out]
    constituent_vnfs: [meter]
    network_forwarding_paths:
      - fp_id: path
        policy: none
        connection_points:
          - {connection_point_ref: client, position: 1}
          - {connection_point_ref: "meter:input", position: 2}
          - {connection_point_ref: "meter:output", position: 3}
          - {connection_point_ref: web, position: 4}
"""


def metered() -> ServiceSpec:
    """The SONATA service; its meter may be in Switzerland or in Greece."""
    catalogue = {METER: ("input", "output", "mgmt")}
    return import_nsd(NSD, "metered.yml", catalogue=catalogue, from_sap=FROM, to_sap=TO)


@pytest.fixture
async def top(nodes: Nodes) -> Nodes:
    """The three levels, with a meter at the middle one too."""
    await nodes["middle"].administer([function("meter")])
    async with asyncio.timeout(SETTLED_S):
        async for signed in nodes["top"].node.notes_for("ann"):
            if len([offer for offer in signed.note.functions if offer.type == METER]) == 2:
                break
    return nodes


async def allow(nodes: Nodes, endpoint: str, ca: bytes, account: str = "ann", **more: Any) -> None:
    """`account` may name the manager at `endpoint` as `ssmdumb`."""
    manager = {
        "kind": "manager", "name": "acme", "endpoint": endpoint, "ca": ca.decode(), "server_name": NAME,
        "decides": ["PLACE"], **more,
    }  # fmt: skip
    await nodes["top"].administer([manager, person(account, managers={"ssmdumb": "acme"})])


@asynccontextmanager
async def example(nodes: Nodes, folder: Path, country: str) -> AsyncIterator[tuple[str, bytes]]:
    """The documentation's example, running: its end point, and the authority of its certificate."""
    ca = trustme.CA()
    issued = ca.issue_cert(NAME)
    files = {
        "certificate": b"".join(c.bytes() for c in issued.cert_chain_pems),
        "key": issued.private_key_pem.bytes(),
        "broker-ca": nodes["top"].anchor["ca"].encode(),
    }
    arguments = []
    for name, content in files.items():
        file = folder / f"{country}-{name}.pem"
        await asyncio.to_thread(file.write_bytes, content)
        arguments += [f"--{name}", str(file)]
    process: Process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLE), "--country", country, "--listen", "127.0.0.1:0", *arguments, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(SETTLED_S):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("listening at port "), line
        yield f"127.0.0.1:{line.split()[-1]}", ca.cert_pem.bytes()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), SETTLED_S) == 0


def place_of(status: ServiceStatus) -> set[str]:
    return {part.place for part in status.segments if part.functions}


async def test_the_example_keeps_a_sonata_service_in_the_country_that_it_was_started_with(
    top: Nodes, ann: Customer, tmp_path: Path
) -> None:
    for country, place in (("GR", "LOW"), ("CH", "MID")):
        async with example(top, tmp_path, country) as (endpoint, ca):
            await allow(top, endpoint, ca)
            active = await ann.order(f"in-{country}", metered())
            assert place_of(active) == {place}
            (decision,) = active.decisions
            assert (decision.manager, decision.task) == ("ssmdumb", ManagerTask.PLACE)
            assert decision.outcome is DecisionOutcome.CHOSEN
            assert decision.detail == f"meter at {place} of wholesale"
            await ann.end(f"in-{country}")
    await nothing_left(top)


async def test_a_country_without_the_function_is_refused_by_the_example(
    top: Nodes, ann: Customer, tmp_path: Path
) -> None:
    async with example(top, tmp_path, "NZ") as (endpoint, ca):
        await allow(top, endpoint, ca)
        refused = await ann.reserve("far", metered())
    assert isinstance(refused, Refused)
    assert refused.reasons[0].code is ReasonCode.MANAGER_REFUSED
    assert refused.reasons[0].message == "manager 'ssmdumb' (PLACE): meter is not offered in NZ"
    await nothing_left(top)


async def test_the_example_sizes_by_the_bandwidth_that_is_ordered_and_again_when_that_is_modified(
    top: Nodes, ann: Customer, tmp_path: Path
) -> None:
    """A small meter of leaf's forwards 10 Mbit/s; what size it is, leaf hears as if its customer required that."""
    small = {"name": "small", "price": {"per_hour": "0.05"}, "max_bandwidth_bps": 10**7}
    large = {"name": "large", "units": 4, "price": {"per_hour": "0.20"}}
    await top["leaf"].administer([{**function("meter"), "flavours": [small, large]}])
    async with asyncio.timeout(SETTLED_S):
        async for signed in top["top"].node.notes_for("ann"):
            if any(len(offer.flavours) == 2 for offer in signed.note.functions if offer.type == METER):
                break
    async with example(top, tmp_path, "GR") as (endpoint, ca):
        await allow(top, endpoint, ca, decides=["SCALE", "PLACE"])
        slow = replace(metered(), bandwidth_bps=10**6)
        active = await ann.order("web", slow)
        assert [(d.task, d.detail) for d in active.decisions] == [
            (ManagerTask.SCALE, "meter: small"),
            (ManagerTask.PLACE, "meter at LOW of wholesale"),
        ]
        assert size_below(top) == ["small"]
        assert isinstance(await ann.reserve("web", replace(slow, bandwidth_bps=10**8), version=2), Reserved)
        await ann.commit("web", 2)
        async with asyncio.timeout(SETTLED_S):
            while (grown := await ann.status("web")).version < 2 or size_below(top) != ["large"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (grown.state, grown.decisions[0].detail) == (ServiceState.ACTIVE, "meter: large")
        assert grown.price is not None
        assert active.price is not None
        assert grown.price.per_hour > active.price.per_hour
        faster = replace(slow, functions=(replace(slow.functions[0], flavour="small"),))
        assert (await ann.order("named", faster)).decisions[0].task is ManagerTask.PLACE, "it is not asked about"
        await ann.end("named")
        await ann.end("web")
    await nothing_left(top)


def size_below(top: Nodes) -> list[str | None]:
    """The flavour of the meter that leaf has active or is building."""
    live = [o for o in top["leaf"].node.broker.orders() if o.state in (ServiceState.ACTIVATING, ServiceState.ACTIVE)]
    return [f.flavour for order in live if order.spec is not None for f in order.spec.functions]


@pytest.fixture
async def served(top: Nodes) -> AsyncIterator[ServedManager]:
    """A manager that ann may name; what it answers, a test says."""
    async with ServedManager(top["top"].anchor["ca"].encode()) as manager:
        await allow(top, manager.endpoint, manager.roots, deadline_s=1)
        yield manager


def places(place: str) -> Callable[..., Any]:
    async def answer(request: manager_pb.PlaceRequest, context: Any) -> manager_pb.PlaceResponse:
        chosen = manager_pb.Placement(places=[manager_pb.FunctionPlace(function="meter", place=place)])
        return manager_pb.PlaceResponse(chosen=chosen)

    return answer


async def test_an_account_that_may_not_name_it_is_refused_by_name_and_nobody_is_asked(
    served: ServedManager, ben: Customer
) -> None:
    refused = await ben.reserve("web", metered())
    assert isinstance(refused, Refused)
    assert [(r.code, r.subject) for r in refused.reasons] == [(ReasonCode.MANAGER_NOT_ALLOWED, "ssmdumb")]
    assert served.asked == []


async def test_the_broker_asks_with_its_own_certificate_once_and_not_again_after_a_restart(
    top: Nodes, served: ServedManager, ann: Customer
) -> None:
    served.place = places("LOW")
    first = await ann.reserve("web", metered())
    await top["top"].restart()
    served.place = places("MID")
    await ann.log_in()
    again = await ann.reserve("web", metered())
    assert isinstance(first, Reserved)
    assert isinstance(again, Reserved)
    assert (again.choice, again.price) == (first.choice, first.price)
    assert place_of(await ann.status("web")) == {"LOW"}
    assert len(served.asked) == len(served.peers) == 1
    assert served.asked[0].consultation.ref == "web"
    assert all(b"top" in name for name in served.peers[0])


async def test_a_decision_is_shown_to_its_customer_and_to_the_operator_and_to_nobody_below(
    top: Nodes, served: ServedManager, ann: Customer
) -> None:
    served.place = places("LOW")
    await ann.order("web", metered())
    operator = await Customer(top["top"], OPERATOR).log_in(OPERATOR_PASSWORD)
    listed = await operator.admin.ListOrders(admin_pb.ListOrdersRequest(ref="web"), metadata=operator.metadata)
    await operator.close()
    (detail,) = map(DETAIL.decode, listed.orders)
    assert detail.status.decisions == (await ann.status("web")).decisions
    assert len(detail.status.decisions) == 1
    (below,) = top["middle"].node.broker.orders()
    assert below.spec is not None
    assert below.spec.managers == ()
    assert below.decisions == ()


WRONG: dict[str, tuple[manager_pb.PlaceResponse | None, str]] = {
    "silent": (None, "no answer within 1 s"),
    "rubbish": (manager_pb.PlaceResponse(), "it decides nothing"),
    "huge": (
        manager_pb.PlaceResponse(refusal=manager_pb.ManagerRefusal(message="x" * 1_000_000)),
        "it answered RESOURCE_EXHAUSTED",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_who_does_not_answer_as_it_should_does_not_decide(
    served: ServedManager, ann: Customer, wrong: str
) -> None:
    answer, why = WRONG[wrong]

    async def says(request: manager_pb.PlaceRequest, context: Any) -> manager_pb.PlaceResponse:
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        return answer

    served.place = says
    assert isinstance(await ann.reserve("web", metered()), Reserved)
    (decision,) = (await ann.status("web")).decisions
    assert decision.outcome is DecisionOutcome.FALLBACK
    assert why in decision.detail


async def test_a_place_that_was_not_offered_is_refused_where_the_terms_say_so(
    top: Nodes, served: ServedManager, ann: Customer
) -> None:
    await allow(top, served.endpoint, served.roots, fallback="REFUSE")
    served.place = places("ATLANTIS")
    refused = await ann.reserve("web", metered())
    assert isinstance(refused, Refused)
    assert refused.reasons[0].message == "manager 'ssmdumb' (PLACE): function 'meter': 'ATLANTIS' was not offered"
    await nothing_left(top)


async def test_who_is_down_decides_nothing_and_a_manager_that_is_taken_away_is_refused_by_name(
    top: Nodes, served: ServedManager, ann: Customer
) -> None:
    await served.__aexit__()
    assert isinstance(await ann.reserve("web", metered()), Reserved)
    (decision,) = (await ann.status("web")).decisions
    assert decision.detail == "it cannot be reached"
    await served.__aenter__()
    await top["top"].administer([person("ann")])
    refused = await ann.reserve("other", metered())
    assert isinstance(refused, Refused)
    assert refused.reasons[0].code is ReasonCode.MANAGER_NOT_ALLOWED


async def test_a_manager_that_makes_no_sense_is_refused_when_it_is_applied(top: Nodes) -> None:
    async def problems(**manager: Any) -> list[str]:
        applied = await top["top"].apply({"kind": "manager", "name": "m", **manager})
        assert not applied.applied
        return [problem for change in applied.changes for problem in change.problems]

    assert await problems() == ["endpoint: a manager has an endpoint or a plugin: one of the two"]
    assert await problems(endpoint="m.example:1") == [
        "ca: an endpoint needs the authority that its certificate is of",
        "decides: it decides nothing: PLACE, ADDRESS, CONFIGURE, HEAL or SCALE belong here",
    ]
    assert await problems(plugin="away") == ["plugin: plugin 'away' of manager 'm' is not loaded"]
    unknown = await top["top"].apply(person("ann", managers={"x": "nobody"}))
    assert [p for c in unknown.changes for p in c.problems] == ["managers.x: there is no manager 'nobody'"]


async def test_what_the_api_lists_of_a_service_has_its_decisions(served: ServedManager, ann: Customer) -> None:
    await ann.reserve("web", metered())
    answer = await ann.broker.ListServices(pb.ListServicesRequest(), metadata=ann.metadata)
    (status,) = map(wire.STATUS.decode, answer.services)
    assert [d.outcome for d in status.decisions] == [DecisionOutcome.DEFAULT]
    assert status.state is ServiceState.RESERVED
