"""What there is to buy, and ordering it with the command line: real processes against a real node over TLS."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.order_file import with_lines
from lower_sp_clients.supplier import Overloaded
from service_model.outcomes import ServiceState
from service_model.spec_yaml import dump_spec, load_spec
from tests.support.cli_bench import (
    NSD,
    NSD_SAPS,
    PRICE,
    SPEC,
    CliBench,
    line_with,
    signed_note,
)
from tests.support.fake_supplier import HOLD_S, MAX_BANDWIDTH_BPS


async def test_the_note_is_shown_in_tables_and_as_json(ann: CliBench) -> None:
    tables = await ann.run("notes")
    assert tables.code == 0
    for text in ("NLAMS", "eu.spbroker/firewall/1.0", "0.05/h EUR", "100-199,300", "cheapest", "fastest", "3.5 ms"):
        assert text in tables.out
    note = (await ann.run("notes", "--json")).json
    assert (note["sp_id"], note["edition"], len(note["saps"])) == ("sp-top", 1, 3)


async def test_a_new_edition_is_shown_as_it_comes(ann: CliBench) -> None:
    process = await ann.start("notes", "--watch", "--json")
    assert json.loads(await line_with(process.stdout, "sp-top"))["edition"] == 1
    await ann.supplier.publish(signed_note(2))
    assert json.loads(await line_with(process.stdout, "sp-top"))["edition"] == 2


async def test_an_order_is_priced_built_and_followed_to_active(ann: CliBench) -> None:
    ann.supplier.may_build.clear()
    process = await ann.start("order", "-f", SPEC, "--ref", "web-1")
    assert "12.50 + 0.35/h EUR, delay 4.2 ms" in await line_with(process.stderr, "reserved for 5 min")
    await line_with(process.stderr, "web-1/west  ACTIVATING")
    ann.supplier.may_build.set()
    await line_with(process.stderr, "web-1/west  ACTIVATING → ACTIVE")
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert "web-1  ● ACTIVE" in out.decode()
    assert "metro  ● ACTIVE  shaper" in out.decode()
    assert ann.supplier.specs == [load_spec(SPEC.read_text(), "x")]


async def test_a_live_service_is_modified_by_a_newer_version_that_takes_its_place(ann: CliBench) -> None:
    assert (await ann.run("order", "-f", SPEC, "--ref", "web-1")).code == 0
    longer = ann.home / "longer.yml"
    longer.write_text(SPEC.read_text() + "\nreference: second edition\n")
    held = await ann.run("modify", "web-1", "-f", longer, "--reserve-only", "--json")
    assert held.code == 0, held.err
    assert (held.json["version"], held.json["state"]) == (1, "SERVICE_STATE_ACTIVE")
    assert (held.json["newer"]["version"], held.json["newer"]["state"]) == (2, "SERVICE_STATE_RESERVED")
    assert "version 2 is RESERVED" in (await ann.run("show", "web-1")).out
    done = await ann.run("modify", "web-1", "-f", longer, "--json")
    assert done.code == 0, done.err
    assert "version 2 is brought in; version 1 carries the service until then" in done.err
    assert (done.json["version"], done.json["state"], done.json["newer"]) == (2, "SERVICE_STATE_ACTIVE", None)
    assert ann.supplier.specs[-1].reference == "second edition"


async def test_what_is_not_live_is_not_modified(ann: CliBench) -> None:
    assert (await ann.run("modify", "web-1", "-f", SPEC)).code == Exit.NOT_FOUND
    await ann.run("order", "-f", SPEC, "--ref", "web-1")
    await ann.run("terminate", "web-1", "--wait")
    ran = await ann.run("modify", "web-1", "-f", SPEC)
    assert ran.code == Exit.REFUSED
    assert "web-1 is TERMINATED, not live" in ran.err


async def test_a_sonata_descriptor_is_ordered_between_saps(ann: CliBench) -> None:
    ran = await ann.run("order", "-f", NSD, *NSD_SAPS, "--sap", "mgmt=north.client-1", "--json")
    assert ran.code == 0
    assert ran.json["state"] == "SERVICE_STATE_ACTIVE"
    assert ran.json["ref"].startswith("guarded-web-")
    assert {end.id: end.sap for end in ann.supplier.specs[0].ends} == {
        "mgmt": "north.client-1", "client": "north.client-1", "web": "south.server-1",
    }  # fmt: skip


async def test_a_function_that_the_provider_does_not_sell_is_named_with_its_line(ann: CliBench) -> None:
    other = ann.home / "other.yml"
    other.write_text(NSD.read_text().replace('vnf_name: "meter"', 'vnf_name: "oracle"'))
    ann.supplier.unknown_types = frozenset({"eu.spbroker/oracle/1.0"})
    ran = await ann.run("order", "-f", other, *NSD_SAPS)
    assert ran.code == 2
    assert f"{other}:19: network_functions[1].vnf_name: the function type eu.spbroker/oracle/1.0" in ran.err
    assert len(ann.supplier.specs) == 1, "the provider was asked, since a note may leave out what it has"


async def test_a_function_that_is_only_not_announced_now_is_for_the_provider_to_judge(ann: CliBench) -> None:
    other = ann.home / "other.yml"
    other.write_text(NSD.read_text().replace('vnf_name: "meter"', 'vnf_name: "oracle"'))
    ran = await ann.run("order", "-f", other, *NSD_SAPS)
    assert ran.code == 0
    assert "eu.spbroker/oracle/1.0" in {str(f.type) for spec in ann.supplier.specs for f in spec.functions}


async def test_a_port_that_an_announced_function_has_not_is_named_before_anything_is_sent(ann: CliBench) -> None:
    other = ann.home / "other.yml"
    other.write_text(NSD.read_text().replace('- "meter:input"', '- "meter:side"'))
    ran = await ann.run("order", "-f", other, *NSD_SAPS)
    assert ran.code == 2
    assert ann.supplier.specs == []


async def test_a_service_is_qualified_quoted_and_ordered_by_its_quote(ann: CliBench) -> None:
    ann.supplier.price = PRICE
    asked, as_json = await ann.run("qualify", "-f", SPEC), await ann.run("qualify", "-f", SPEC, "--json")
    assert asked.code == as_json.code == 0
    assert "can be delivered" in asked.out
    assert (as_json.json["feasible"], as_json.json["price"]["once"]) == (True, "12.50")
    quote = await ann.run("quote", "-f", SPEC, "--json")
    assert quote.code == 0
    assert quote.json["remaining_s"] == HOLD_S
    shown = await ann.run("quote", "-f", SPEC)
    assert "12.50 + 0.35/h EUR" in shown.out
    assert "order it: spbroker order -f" in shown.err
    ordered = await ann.run("order", "-f", SPEC, "--ref", "q", "--quote", quote.json["id"], "--reserve-only")
    assert ordered.code == 0
    assert f"--quote {quote.json['id']}" in ordered.err  # the same again commits it
    wrong = await ann.run("order", "-f", SPEC, "--ref", "q2", "--quote", "none")
    assert wrong.code == Exit.REFUSED
    assert "QUOTE_NOT_VALID" in wrong.err


async def test_what_cannot_be_delivered_is_told_with_what_would_do(ann: CliBench, tmp_path: Path) -> None:
    wide = tmp_path / "wide.yml"
    wide.write_text(dump_spec(replace(load_spec(SPEC.read_bytes(), "spec"), bandwidth_bps=MAX_BANDWIDTH_BPS + 1)))
    for command in ("qualify", "quote"):
        told, as_json = await ann.run(command, "-f", wide), await ann.run(command, "-f", wide, "--json")
        assert told.code == as_json.code == Exit.REFUSED
        assert "nearest without BANDWIDTH: free, 4.2 ms" in told.err
        assert as_json.json["reasons"][0]["nogood"]["alternative"]["gives"] == ["REASON_CODE_BANDWIDTH"]


async def test_what_is_only_reserved_is_committed_by_the_same_order_again(ann: CliBench) -> None:
    held = await ann.run("order", "-f", SPEC, "--ref", "web-1", "--reserve-only")
    assert (held.code, "web-1  ◔ RESERVED" in held.out) == (0, True)
    assert held.err.splitlines()[-1] == f"commit it: spbroker order -f {SPEC} --ref web-1"
    done = await ann.run("order", "-f", SPEC, "--ref", "web-1", "--no-wait", "--json")
    assert (done.code, done.json["version"]) == (0, 1)
    assert done.json["binding"] == done.json["choice"]


async def test_an_order_whose_hold_came_to_nothing_is_made_anew_under_the_same_ref(ann: CliBench) -> None:
    await ann.run("order", "-f", SPEC, "--ref", "web-1", "--reserve-only")
    await ann.supplier.release("web-1", 1, ann.supplier.contexts[-1][1])
    again = await ann.run("order", "-f", SPEC, "--ref", "web-1", "--json")
    assert (again.code, again.json["version"], again.json["state"]) == (0, 2, "SERVICE_STATE_ACTIVE")


async def test_a_refused_order_shows_the_reasons_with_their_codes(ann: CliBench) -> None:
    greedy = ann.home / "greedy.yml"
    greedy.write_text(dump_spec(replace(load_spec(SPEC.read_text(), "x"), bandwidth_bps=MAX_BANDWIDTH_BPS + 1)))
    ran = await ann.run("order", "-f", greedy)
    assert (ran.code, ran.out) == (5, "")
    assert "BANDWIDTH  bandwidth_bps  there is not so much" in ran.err
    refused = (await ann.run("order", "-f", greedy, "--json")).json["refused"]
    assert refused["reasons"][0]["code"] == "REASON_CODE_BANDWIDTH"


async def test_an_order_that_fails_says_where_and_why(ann: CliBench) -> None:
    ann.supplier.outcome = ServiceState.FAILED
    ran = await ann.run("order", "-f", SPEC, "--ref", "web-1")
    assert ran.code == 8
    for text in ("✗ FAILED", "SEGMENT_FAILED  west  a part could not be built", "INFRASTRUCTURE", "incident 4f1d"):
        assert text in ran.out
    assert ran.err.endswith("spbroker: web-1 is FAILED\n")


async def test_an_order_that_is_not_active_in_time_says_how_to_follow_it(ann: CliBench) -> None:
    ann.supplier.may_build.clear()
    ran = await ann.run("order", "-f", SPEC, "--ref", "web-1", "--timeout", "0.5")
    assert ran.code == 8
    assert "not ACTIVE within 0.5 s" in ran.err
    assert "spbroker watch web-1" in ran.err


async def test_an_order_that_is_interrupted_while_it_is_built_says_that_it_goes_on(ann: CliBench) -> None:
    ann.supplier.may_build.clear()
    process = await ann.start("order", "-f", SPEC, "--ref", "web-1")
    await line_with(process.stderr, "ACTIVATING")
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert err.decode().endswith("spbroker: web-1 is committed and goes on\n  follow it: spbroker watch web-1\n")


async def test_an_unknown_outcome_says_how_to_ask_again_and_that_works(ann: CliBench) -> None:
    ann.supplier.failures["reserve"] = [RuntimeError("a bug")]
    ran = await ann.run("order", "-f", NSD, *NSD_SAPS, "--ref", "web 1")
    assert ran.code == 1
    hint = f"spbroker order -f {NSD} --from north.client-1 --to south.server-1 --ref 'web 1'"
    assert ran.err.endswith(f"ask again: {hint}\n")
    assert (await ann.run("order", "-f", NSD, *NSD_SAPS, "--ref", "web 1")).code == 0


async def test_a_provider_with_too_much_to_do_is_asked_again_when_it_said(ann: CliBench) -> None:
    ann.supplier.failures["reserve"] = [Overloaded(0.01), Overloaded(0.01)]
    ann.supplier.failures["commit"] = [Overloaded(0.01)]
    ran = await ann.run("order", "-f", SPEC, "--ref", "web-1")
    assert ran.code == 0, ran.err
    assert ran.err.count("has too much to do: asking again in 0.0 s") == 3


async def test_a_provider_that_has_too_much_to_do_for_long_is_no_refusal(ann: CliBench) -> None:
    ann.supplier.failures["reserve"] = [Overloaded(3600.0)]
    ran = await ann.run("order", "-f", SPEC, "--ref", "web-1")
    assert ran.code == Exit.UNREACHABLE
    assert "turned the call away: nothing was done" in ran.err
    assert "not known" not in ran.err
    assert "ask again: spbroker order" in ran.err


async def test_an_unknown_field_is_named_with_its_line(ann: CliBench) -> None:
    wrong = ann.home / "wrong.yml"
    wrong.write_text(SPEC.read_text() + "colour: red\nlinkz: []\n")
    ran = await ann.run("order", "-f", wrong)
    last = len(wrong.read_text().splitlines())
    assert ran.code == 2
    assert ran.err == f"{wrong}:{last - 1}: colour: unknown field\n{wrong}:{last}: linkz: unknown field\n"
    assert ann.supplier.specs == []


async def test_a_file_of_ten_megabytes_is_refused_before_anything_is_sent(ann: CliBench) -> None:
    big = ann.home / "big.yml"
    big.write_bytes(b"#" * 10_000_000)
    ran = await ann.run("order", "-f", big)
    assert ran.code == 2
    assert ran.err == f"{big}: has 10000000 bytes, at most 1048576 are accepted; nothing was sent\n"
    assert ann.supplier.contexts == []


def test_a_field_that_only_the_provider_calls_wrong_is_led_back_to_its_line() -> None:
    fault = Fault(Exit.WRONG_INPUT, "the request is wrong", details=("spec.ends[1].sap: unheard of", "ref: too long"))
    line = SPEC.read_text().splitlines().index("  - {id: web, sap: south.server-1}") + 1
    assert with_lines(fault, SPEC).details == (f"{SPEC}:{line}: ends[1].sap: unheard of", "ref: too long")
    assert with_lines(fault, NSD) is fault


async def test_what_the_provider_calls_wrong_in_a_request_is_wrong_input(ann: CliBench) -> None:
    ran = await ann.run("order", "-f", SPEC, "--ref", "r" * 200)
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("spbroker: ref: must be 1 to 128 printable")
    gone = await ann.run("order", "-f", ann.home / "none.yml")
    assert (gone.code, gone.err) == (2, f"{ann.home / 'none.yml'}: No such file or directory\n")
    assert (await ann.run("order", "-f", NSD, "--sap", "mgmt")).code == 2
