"""The client of a customer's manager, over sockets and mutual TLS: whatever is no answer is NoDecision, in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import trustme

from lower_sp_clients.remote_manager import MAX_ANSWER_BYTES, RemoteManager
from lower_sp_clients.remote_sp import ClientTls
from lower_sp_clients.service_manager import NoDecision
from service_model.managing import (
    AddressQuestion,
    ByDefault,
    ConfigureQuestion,
    Consultation,
    FunctionPlace,
    HealQuestion,
    ManagerRefusal,
    OpenLink,
    Placement,
    PlacementOffer,
    PlacementOption,
    PlaceQuestion,
    Remedy,
)
from spbroker.v1 import manager_service_pb2 as pb
from tests.support.served_manager import NAME, ServedManager
from tests.support.stack import chain

BROKER = trustme.CA()
ABOUT = Consultation(ref="r", version=2, number=1, manager="mine", spec=chain("a", "b", "firewall"))
PLACE = FunctionPlace(function="f0", place="GRATH", supplier="south")
QUESTION = PlaceQuestion(
    options=(PlacementOption(id="1", places=(PLACE,), delay_us=7),),
    offers=(PlacementOffer(function="f0", place="GRATH", supplier="south", country="GR"),),
)


@pytest.fixture
async def served() -> AsyncIterator[ServedManager]:
    async with ServedManager(BROKER.cert_pem.bytes()) as manager:
        yield manager


def tls(roots: bytes, issuer: trustme.CA = BROKER) -> ClientTls:
    mine = issuer.issue_cert("broker.example")
    chain_pem = b"".join(c.bytes() for c in mine.cert_chain_pems)
    return ClientTls(roots=roots, certificate=chain_pem, key=mine.private_key_pem.bytes(), server_name=NAME)


@pytest.fixture
async def remote(served: ServedManager) -> AsyncIterator[RemoteManager]:
    manager = RemoteManager(served.endpoint, tls(served.roots))
    yield manager
    await manager.close()


async def test_a_question_arrives_whole_and_from_the_broker_that_the_certificate_names(
    served: ServedManager, remote: RemoteManager
) -> None:
    assert await remote.decide(ABOUT, QUESTION, 5) == ByDefault()
    (asked,) = served.asked
    assert (asked.consultation.ref, asked.consultation.version, asked.consultation.number) == ("r", 2, 1)
    assert asked.consultation.spec.name == "web"
    assert asked.question.options[0].places[0].place == "GRATH"
    assert asked.question.offers[0].country == "GR"
    assert served.peers == [[b"broker.example"]]


async def test_what_is_lost_arrives_whole_and_each_remedy_is_read(served: ServedManager, remote: RemoteManager) -> None:
    question = HealQuestion(
        lost=("f0",),
        reasons=("it is gone",),
        since=datetime(2026, 1, 1, tzinfo=UTC),
        tries=2,
        placement=(PLACE,),
        offers=QUESTION.offers,
    )
    away = pb.FunctionPlace(function="f0", place="GRATH", supplier="south")
    for answer, read in (
        (pb.HealResponse(by_default=pb.ByDefault()), ByDefault()),
        (pb.HealResponse(chosen=pb.Remedy()), Remedy()),
        (pb.HealResponse(chosen=pb.Remedy(wait_s=60)), Remedy(wait_s=60)),
        (pb.HealResponse(chosen=pb.Remedy(avoid=[away])), Remedy(avoid=(PLACE,))),
        (pb.HealResponse(refusal=pb.ManagerRefusal(message="later")), ManagerRefusal(message="later")),
    ):
        served.heals = answer
        assert await remote.decide(ABOUT, question, 5) == read
    told = served.healings[0].question
    assert (list(told.lost), list(told.reasons), told.tries) == (["f0"], ["it is gone"], 2)
    assert told.since.ToDatetime(UTC) == question.since
    assert (told.placement[0].place, told.offers[0].country) == ("GRATH", "GR")


@pytest.mark.parametrize(
    "answer",
    [
        pb.HealResponse(),
        pb.HealResponse(chosen=pb.Remedy(wait_s=86_401)),
        pb.HealResponse(chosen=pb.Remedy(wait_s=5, avoid=[pb.FunctionPlace(function="f0", place="GRATH")])),
    ],
    ids=["nothing", "more than a day", "both"],
)
async def test_a_remedy_that_makes_no_sense_is_no_decision(
    served: ServedManager, remote: RemoteManager, answer: pb.HealResponse
) -> None:
    served.heals = answer
    question = HealQuestion(lost=(), reasons=(), since=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(NoDecision, match="cannot be read"):
        await remote.decide(ABOUT, question, 5)


async def test_a_choice_and_a_refusal_are_read(served: ServedManager, remote: RemoteManager) -> None:
    async def chosen(request: pb.PlaceRequest, context: Any) -> pb.PlaceResponse:
        return pb.PlaceResponse(chosen=pb.Placement(option=request.question.options[0].id))

    served.place = chosen
    assert await remote.decide(ABOUT, QUESTION, 5) == Placement(option="1")
    link = OpenLink(link="l0", ports=("f0:in",), addresses=2)
    assert await remote.decide(ABOUT, AddressQuestion(links=(link,), allowed=()), 5) == ByDefault()
    told = ConfigureQuestion(placement=(PLACE,))
    assert await remote.decide(ABOUT, told, 5) == ManagerRefusal(message="not like this")


RUBBISH = {
    "nothing": (pb.PlaceResponse(), "its answer cannot be read: it decides nothing"),
    "neither": (pb.PlaceResponse(chosen=pb.Placement()), "a placement is an option, or places"),
    "both": (
        pb.PlaceResponse(chosen=pb.Placement(option="1", places=[pb.FunctionPlace(function="f", place="p")])),
        "a placement is an option, or places",
    ),
    "no name": (
        pb.PlaceResponse(chosen=pb.Placement(places=[pb.FunctionPlace(function="f", place="../../etc")])),
        r"places\[0\]\.place",
    ),
    "many": (
        pb.PlaceResponse(
            chosen=pb.Placement(places=[pb.FunctionPlace(function=f"f{i}", place="p") for i in range(65)])
        ),
        "places",
    ),
    "a sermon": (pb.PlaceResponse(refusal=pb.ManagerRefusal(message="x" * 301)), "message"),
    "huge": (pb.PlaceResponse(refusal=pb.ManagerRefusal(message="x" * MAX_ANSWER_BYTES)), "RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize("what", RUBBISH)
async def test_rubbish_is_no_decision(served: ServedManager, remote: RemoteManager, what: str) -> None:
    answer, why = RUBBISH[what]

    async def rubbish(request: pb.PlaceRequest, context: Any) -> pb.PlaceResponse:
        return answer

    served.place = rubbish
    with pytest.raises(NoDecision, match=why):
        await remote.decide(ABOUT, QUESTION, 5)


async def test_an_error_is_no_decision(served: ServedManager, remote: RemoteManager) -> None:
    async def fails(request: pb.PlaceRequest, context: Any) -> pb.PlaceResponse:
        await context.abort(grpc.StatusCode.INTERNAL, "it broke")
        raise AssertionError("aborted")

    served.place = fails
    with pytest.raises(NoDecision, match="it answered INTERNAL: it broke"):
        await remote.decide(ABOUT, QUESTION, 5)


async def test_a_late_answer_is_no_decision_at_the_deadline(served: ServedManager, remote: RemoteManager) -> None:
    gone = asyncio.Event()

    async def late(request: pb.PlaceRequest, context: Any) -> pb.PlaceResponse:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError("nobody waits")

    served.place = late
    with pytest.raises(NoDecision, match=r"no answer within 0\.2 s"):
        await remote.decide(ABOUT, QUESTION, 0.2)
    async with asyncio.timeout(60):
        await gone.wait()


async def test_who_is_down_is_no_decision_and_is_heard_when_it_is_back(
    served: ServedManager, remote: RemoteManager
) -> None:
    await served.__aexit__()
    with pytest.raises(NoDecision, match="it cannot be reached"):
        await remote.decide(ABOUT, QUESTION, 5)
    await served.__aenter__()
    async with asyncio.timeout(60):
        while True:
            try:
                assert await remote.decide(ABOUT, QUESTION, 5) == ByDefault()
                break
            except NoDecision:
                await asyncio.sleep(0.1)  # the channel waits before it connects again


async def test_a_manager_whose_certificate_is_of_nobody_known_is_told_nothing(served: ServedManager) -> None:
    manager = RemoteManager(served.endpoint, tls(trustme.CA().cert_pem.bytes()))
    with pytest.raises(NoDecision, match="it cannot be reached"):
        await manager.decide(ABOUT, QUESTION, 5)
    await manager.close()
    assert not served.asked


async def test_a_broker_that_the_manager_does_not_know_is_not_heard(served: ServedManager) -> None:
    manager = RemoteManager(served.endpoint, tls(served.roots, issuer=trustme.CA()))
    with pytest.raises(NoDecision, match="it cannot be reached"):
        await manager.decide(ABOUT, QUESTION, 5)
    await manager.close()
    assert not served.asked
