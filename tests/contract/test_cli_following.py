"""Looking at services, following and ending them with the command line: real processes against a real node over TLS."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.cli.exit_codes import Exit
from service_model.healing import HealPhase
from service_model.managing import DecisionOutcome, ManagerDecision, ManagerTask
from service_model.outcomes import Healing, Reason, ReasonCode, ServiceState
from tests.support.cli_bench import (
    SPEC,
    CliBench,
    line_with,
)


async def test_services_are_listed_in_pages(ann: CliBench) -> None:
    assert (await ann.run("services")).err == "you have no services\n"
    for number in range(3):
        await ann.run("order", "-f", SPEC, "--ref", f"web-{number}", "--reserve-only")
    first = (await ann.run("services", "--limit", "2", "--json")).json
    rest = (await ann.run("services", "--page", first["next_page_token"], "--json")).json
    assert [[s["ref"] for s in page["services"]] for page in (first, rest)] == [["web-0", "web-1"], ["web-2"]]
    assert rest["next_page_token"] == ""
    table = await ann.run("services", "--limit", "2")
    assert "web-1" in table.out
    assert "web-2" not in table.out
    assert f"--page {first['next_page_token']}" in table.err
    assert "web-2" in (await ann.run("services", "--all")).out


async def test_a_service_is_shown_with_its_parts_and_addresses(ann: CliBench) -> None:
    await ann.run("order", "-f", SPEC, "--ref", "web-1")
    shown = await ann.run("show", "web-1", "--spec", SPEC)
    assert shown.code == 0
    for text in ("└── west  ● ACTIVE", "NLAMS", "12.50 + 0.35/h EUR", "CONSTRAINED", "10.9.0.0/31", "untagged", "1450"):
        assert text in shown.out
    assert "CONSTRAINED" not in (await ann.run("show", "web-1")).out
    status = (await ann.run("show", "web-1", "--json")).json
    assert status["choice"]["links"][0]["prefix"] == "10.9.0.0/31"
    assert status["segments"][1]["segments"][0]["alias"] == "metro"


async def test_a_service_is_asked_for_at_the_times_that_are_given_and_shown_with_them(ann: CliBench) -> None:
    times = ("--start", "2099-01-01T01:00:00+01:00", "--end", "2099-02-01T00:00:00Z")
    ordered = await ann.run("order", "-f", SPEC, "--ref", "web-1", *times)
    assert ordered.code == 0
    assert "built at 2099-01-01 00:00:00" in ordered.err
    (spec,) = ann.supplier.specs
    start, end = datetime(2099, 1, 1, tzinfo=UTC), datetime(2099, 2, 1, tzinfo=UTC)
    assert (spec.start_time, spec.end_time) == (start, end)
    assert "FROM" not in (await ann.run("services")).out
    order = ann.supplier._orders["web-1"]
    order.status = replace(order.status, start_time=start, end_time=end)
    for shown in (await ann.run("services"), await ann.run("show", "web-1")):
        assert "2099-01-01" in shown.out
        assert "2099-02-01" in shown.out
    wrong = await ann.run("order", "-f", SPEC, "--start", "tomorrow")
    assert wrong.code != 0
    assert "--start 'tomorrow'" in wrong.err
    assert "2026-01-31T12:00:00Z" in wrong.err


async def test_what_managers_decided_of_a_service_is_shown(ann: CliBench) -> None:
    await ann.run("order", "-f", SPEC, "--ref", "web-1", "--reserve-only")
    assert "MANAGER" not in (await ann.run("show", "web-1")).out
    order = ann.supplier._orders["web-1"]
    decision = ManagerDecision(
        at=datetime(2026, 1, 1, tzinfo=UTC),
        manager="ssmdumb",
        task=ManagerTask.PLACE,
        outcome=DecisionOutcome.FALLBACK,
        detail="no answer within 2 s",
    )
    order.status = replace(order.status, decisions=(decision,))
    shown = (await ann.run("show", "web-1")).out
    for text in ("MANAGER", "ssmdumb", "PLACE", "FALLBACK", "no answer within 2 s"):
        assert text in shown
    told = (await ann.run("show", "web-1", "--json")).json["decisions"]
    assert [d["outcome"] for d in told] == ["DECISION_OUTCOME_FALLBACK"]


async def test_a_degraded_service_is_shown_with_its_healing_and_healed_on_its_owners_word(ann: CliBench) -> None:
    assert (await ann.run("order", "-f", SPEC, "--ref", "web-1")).code == 0
    whole = await ann.run("heal", "web-1")
    assert (whole.code, "web-1 is whole" in whole.err) == (0, True)
    why = Reason(code=ReasonCode.PRICE, message="dearer than allowed")
    await ann.supplier.degrade("web-1", Healing(phase=HealPhase.WAITING, broken=("west",), tries=1, reasons=(why,)))
    shown = (await ann.run("show", "web-1")).out
    assert "WAITING for your word: spbroker heal (west), tried once: dearer than allowed" in shown
    healed = await ann.run("heal", "web-1", "--wait")
    assert (healed.code, "web-1 is whole" in healed.err) == (0, True)
    assert "healing" not in (await ann.run("show", "web-1")).out


async def test_a_service_that_works_and_was_lost_too_often_is_shown_so_and_healed_on_its_owners_word(
    ann: CliBench,
) -> None:
    assert (await ann.run("order", "-f", SPEC, "--ref", "web-1")).code == 0
    order = ann.supplier._orders["web-1"]
    often = Reason(code=ReasonCode.SEGMENT_FAILED, message="segment west failed 4 times within an hour", segment="west")
    waits = Healing(phase=HealPhase.WAITING, broken=("west",))
    order.status = replace(order.status, healing=waits, reasons=(often,))
    shown = (await ann.run("show", "web-1")).out
    for text in ("ACTIVE", often.message, "WAITING for your word: spbroker heal (west)"):
        assert text in shown
    watch = await ann.start("watch", "web-1")
    await line_with(watch.stdout, f"web-1  ACTIVE  {often.message}")
    healed = await ann.run("heal", "web-1", "--wait")
    assert (healed.code, "web-1 is whole" in healed.err) == (0, True)
    gone = replace(order.status, healing=replace(waits, phase=HealPhase.GIVEN_UP, reasons=(often,)))
    order.status, ann.supplier.may_heal = gone, False
    assert "whole" not in (await ann.run("heal", "web-1")).err
    watch.terminate()
    await watch.wait()


async def test_what_cannot_be_healed_is_told_with_the_reason(ann: CliBench) -> None:
    assert (await ann.run("order", "-f", SPEC, "--ref", "web-1")).code == 0
    ann.supplier.may_heal = False
    why = Reason(code=ReasonCode.NO_PATH, message="no way through")
    await ann.supplier.degrade("web-1", Healing(phase=HealPhase.PENDING, reasons=(why,)))
    ran = await ann.run("heal", "web-1", "--wait")
    assert ran.code == Exit.FAILED
    assert "web-1 is DEGRADED and was not healed: no way through" in ran.err


async def test_a_hold_is_extended_as_far_as_the_provider_grants_by_its_ref_alone(ann: CliBench) -> None:
    await ann.run("order", "-f", SPEC, "--ref", "web-1", "--reserve-only")
    assert (await ann.run("extend", "web-1", "--for", "30")).err == "version 1 of web-1 is held for 30 s\n"
    granted = await ann.run("extend", "web-1", "--json")
    assert granted.err == "version 1 of web-1 is held for 5 min\n"
    assert granted.json["state"] == "SERVICE_STATE_RESERVED"
    ann.supplier._orders["web-1"].versions[1].released = True  # it ends just now
    late = await ann.run("extend", "web-1")
    assert (late.code, late.out) == (Exit.REFUSED, "")
    assert "there is no such hold" in late.err


async def test_a_hold_is_released_by_its_ref_alone_and_what_was_committed_meanwhile_is_not(ann: CliBench) -> None:
    await ann.run("order", "-f", SPEC, "--ref", "web-1", "--reserve-only")
    assert (await ann.run("release", "web-1")).err == "version 1 of web-1 is released\n"
    assert (await ann.run("show", "web-1", "--json")).json["state"] == "SERVICE_STATE_EXPIRED"
    await ann.run("order", "-f", SPEC, "--ref", "web-2")
    order = ann.supplier._orders["web-2"]
    order.status = replace(order.status, state=ServiceState.RESERVED)  # as it was told just before
    late = await ann.run("release", "web-2")
    assert (late.code, late.out) == (Exit.REFUSED, "")
    assert "version 1 of web-2 was committed meanwhile, and stays" in late.err


async def test_of_a_live_service_what_is_held_beside_it_is_released_and_it_stays(ann: CliBench) -> None:
    await ann.run("order", "-f", SPEC, "--ref", "web-1")
    for command in ("extend", "release"):
        ran = await ann.run(command, "web-1")
        assert (ran.code, "web-1 is ACTIVE: nothing of it is held" in ran.err) == (Exit.REFUSED, True)
    await ann.run("modify", "web-1", "-f", SPEC, "--reserve-only")
    assert (await ann.run("extend", "web-1", "--for", "20")).err == "version 2 of web-1 is held for 20 s\n"
    assert (await ann.run("release", "web-1")).err == "version 2 of web-1 is released; version 1 stays\n"
    shown = (await ann.run("show", "web-1", "--json")).json
    assert (shown["state"], shown["version"]) == ("SERVICE_STATE_ACTIVE", 1)
    again = await ann.run("release", "web-1")
    assert (again.code, again.out) == (Exit.REFUSED, "")


async def test_a_service_that_is_not_there_is_not_found(ann: CliBench) -> None:
    for command in ("show", "watch", "heal", "extend", "release", "terminate"):
        ran = await ann.run(command, "web-9")
        assert (ran.code, ran.out) == (6, "")
        assert "you have no service 'web-9'" in ran.err
    assert (await ann.run("services", "--json")).json["services"] == []


async def test_every_change_is_watched_and_a_watch_is_resumed(ann: CliBench) -> None:
    process = await ann.start("watch", "--json")
    assert json.loads(await line_with(process.stdout, "token"))["status"] is None
    await ann.run("order", "-f", SPEC, "--ref", "web-1")
    held = json.loads(await line_with(process.stdout, "web-1"))
    assert held["status"]["state"] == "SERVICE_STATE_RESERVED"
    resumed = await ann.start("watch", "--json", "--after", held["token"])
    await line_with(resumed.stdout, "token")
    states = [json.loads(await line_with(resumed.stdout, "web-1"))["status"]["state"] for _ in range(2)]
    assert states == ["SERVICE_STATE_ACTIVATING", "SERVICE_STATE_ACTIVE"]


async def test_a_watched_service_is_followed_to_its_end(ann: CliBench) -> None:
    await ann.run("order", "-f", SPEC, "--ref", "web-1")
    process, plain = await ann.start("watch", "web-1", "--json"), await ann.start("watch", "web-1")
    assert json.loads(await line_with(process.stdout, "web-1"))["state"] == "SERVICE_STATE_ACTIVE"
    await line_with(plain.stdout, "web-1/west/metro  ACTIVE")
    ended = await ann.run("terminate", "web-1", "--wait", "--json")
    assert (ended.code, ended.json["state"]) == (0, "SERVICE_STATE_TERMINATED")
    await line_with(process.stdout, "SERVICE_STATE_TERMINATED")
    await line_with(plain.stdout, "web-1  ACTIVE → TERMINATED")
    assert [await asyncio.wait_for(p.wait(), 60) for p in (process, plain)] == [0, 0]


@pytest.mark.parametrize("wait", [("--wait",), ()], ids=["waits", "asks"])
async def test_a_service_that_is_stuck_is_told_with_its_parts(ann: CliBench, wait: tuple[str, ...]) -> None:
    assert (await ann.run("order", "-f", SPEC, "--ref", "web-1")).code == 0
    ann.supplier.silent = True
    ran = await ann.run("terminate", "web-1", *wait)
    assert ran.code == Exit.FAILED
    assert "web-1 is over and costs nothing more; not confirmed to be gone: west\n" in ran.err
    assert "has ended" not in ran.out + ran.err


async def test_a_watch_survives_a_node_that_restarts(ann: CliBench) -> None:
    process = await ann.start("watch", "--json")
    await line_with(process.stdout, "token")
    node = ann.node
    assert node.server is not None
    port = node.server.ports["people"]
    await node.server.stop(0.5)
    await node.start(people_port=port)
    await ann.run("order", "-f", SPEC, "--ref", "web-1", "--reserve-only")
    assert "RESERVED" in await line_with(process.stdout, "web-1")
