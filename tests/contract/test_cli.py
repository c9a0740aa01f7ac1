"""The command line as people run it: real processes against a real node over TLS."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.order_file import with_lines
from lower_sp_clients.supplier import Overloaded
from service_model.healing import HealPhase
from service_model.managing import DecisionOutcome, ManagerDecision, ManagerTask
from service_model.outcomes import Healing, Reason, ReasonCode, ServiceState
from service_model.spec_yaml import dump_spec, load_spec
from tests.support.cli_bench import PASSWORD, PRICE, ROOT, CliBench, line_with, signed_note
from tests.support.fake_supplier import HOLD_S, MAX_BANDWIDTH_BPS

ORDERS = ROOT / "config/demo/orders"
SPEC = ORDERS / "guarded-web.spec.yml"
NSD = ORDERS / "guarded-web.nsd.yml"
POOLS = """\
kind: pool
name: east
prefix: 10.0.0.0/16
block: 24
---
kind: pool
name: west
prefix: 10.1.0.0/16
block: 24
"""
NSD_SAPS = ("--from", "north.client-1", "--to", "south.server-1")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[CliBench]:
    bench = await CliBench(tmp_path).open()
    yield bench
    await bench.close()


@pytest.fixture
async def ann(bench: CliBench) -> CliBench:
    """The bench with ann logged in."""
    await bench.be("ann")
    return bench


# Logging in -----------------------------------------------------------------------------------------------------------


async def test_a_login_is_stored_for_its_owner_alone_and_without_the_password(bench: CliBench) -> None:
    assert (await bench.log_in()).code == 0
    assert bench.mode() == 0o600
    assert PASSWORD not in bench.profile().read_text()
    assert json.loads(bench.profile().read_text())["account"] == "ann"
    assert (await bench.run("services")).code == 0


async def test_several_logins_live_side_by_side(ann: CliBench) -> None:
    assert (await ann.log_in("oscar", "--as", "op")).code == 0
    before, behind = await ann.run("--as", "op", "inventory"), await ann.run("inventory", "--as", "op", "--json")
    assert before.code == behind.code == 0
    assert "10.0.0.0/24" in before.out
    assert behind.json["allocations"][0]["value"] == "10.0.0.0/24"
    as_ann = await ann.run("inventory")
    assert (as_ann.code, as_ann.out) == (4, "")
    assert "operator" in as_ann.err


async def test_an_operator_sees_how_much_of_each_pool_is_used_and_by_whom(ann: CliBench) -> None:
    assert (await ann.log_in("oscar", "--as", "op")).code == 0
    shown, data = (
        await ann.run("--as", "op", "addresses", "--owners"),
        await ann.run("--as", "op", "addresses", "--json"),
    )
    assert shown.code == data.code == 0
    assert [(p["name"], p["size"]) for p in data.json] == [("p", "65536"), ("v6", str(1 << 88)), ("dc/to-east", "1")]
    full = next(line for line in shown.out.splitlines() if line.startswith("dc/to-east "))
    assert "100%" in full
    (mine,) = [line for line in shown.out.splitlines() if line.startswith("10.0.0.0/24")]
    assert mine.split()[1:4] == ["HELD", "ann", "r-1"]


async def test_an_operator_sees_what_is_taken_of_domains_and_when(ann: CliBench) -> None:
    assert (await ann.log_in("oscar", "--as", "op")).code == 0
    shown, data = (
        await ann.run("--as", "op", "addresses", "--calendar"),
        await ann.run("--as", "op", "addresses", "--calendar", "--json"),
    )
    assert shown.code == data.code == 0
    assert [(r["name"], r["size"], [x["taken"] for x in r["levels"]]) for r in data.json] == [
        ("dc/AMS host 1", 8, [2, 8]), ("dc/to-east", 10**9, [4 * 10**8])
    ]  # fmt: skip
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["dc/AMS", "host", "1", "now", "2", "6"] in lines
    assert any(line[-2:] == ["8", "0"] for line in lines), "the host is full from the next day on"


async def test_an_operator_sees_suppliers_and_why_a_note_was_refused(ann: CliBench) -> None:
    assert (await ann.log_in("oscar", "--as", "op")).code == 0
    shown, data = await ann.run("--as", "op", "suppliers"), await ann.run("--as", "op", "suppliers", "--json")
    assert shown.code == data.code == 0
    assert [(s["alias"], s["feed"], s["edition"]) for s in data.json] == [
        ("east", "FEED_STATE_REJECTED", 7), ("west", "FEED_STATE_CONNECTING", 0)
    ]  # fmt: skip
    assert all(word in shown.out for word in ("REJECTED", "95% of 10", "WRONG_AUDIENCE", "not in use"))


async def test_an_operator_sees_what_is_stuck_and_what_can_be_done(ann: CliBench) -> None:
    assert (await ann.log_in("oscar", "--as", "op")).code == 0
    shown, data = await ann.run("--as", "op", "stuck"), await ann.run("--as", "op", "stuck", "--json")
    assert shown.code == data.code == 0
    assert [(s["ref"], s["segment"], s["labels"], s["block"]) for s in data.json] == [
        ("r-1", "east.1", {"b": 100}, "10.0.0.0/24"), ("r-2", "dc.1", {}, "")
    ]  # fmt: skip
    for text in ("label 100 at b", "block 10.0.0.0/24", "have sp-c answer", "at dc (own domain)"):
        assert text in shown.out
    assert "spbroker abandon s-1 east.1 --reason TEXT" in shown.out
    assert "spbroker abandon s-2" not in shown.out, "nothing is given up in an own domain"
    of_ben = await ann.run("--as", "op", "stuck", "--account", "ben", "--json")
    assert [s["account"] for s in of_ben.json] == ["ben"]
    denied = await ann.run("stuck")
    assert (denied.code, denied.out) == (4, "")


async def test_a_part_is_given_up_by_an_operator_who_says_why(ann: CliBench) -> None:
    assert (await ann.log_in("oscar", "--as", "op")).code == 0
    assert (await ann.run("--as", "op", "abandon", "r-1")).code == 2, "no reason"
    for arguments, says in (
        (("r-1", "--reason", " "), "spbroker: reason: say why: it is written to the audit trail\n"),
        (("r-9", "--reason", "bankrupt"), "spbroker: service: there is no service 'r-9'\n"),
    ):
        wrong = await ann.run("--as", "op", "abandon", *arguments)
        assert (wrong.code, wrong.out, wrong.err) == (2, "", says)
    assert (await ann.run("abandon", "r-1", "--reason", "bankrupt")).code == 4
    assert ann.node.admin.abandoned == {}
    done = await ann.run("--as", "op", "abandon", "r-1", "east.1", "--reason", "bankrupt")
    assert (done.code, done.out + done.err) == (0, "given up: east.1; the service is TERMINATED\n")
    assert ann.node.admin.abandoned == {"east.1": ("oscar", "bankrupt")}


async def test_a_restored_node_is_accepted_by_an_operator_who_says_why(ann: CliBench) -> None:
    assert (await ann.log_in("oscar", "--as", "op")).code == 0
    assert (await ann.run("--as", "op", "accept")).code == 2, "no reason"
    refused = await ann.run("--as", "op", "accept", "--reason", "the disk is new")
    assert (refused.code, refused.err) == (2, "spbroker: without: supplier 'east' cannot be asked what it has\n")
    assert (await ann.run("accept", "--reason", "mine")).code == 4
    assert ann.node.admin.accepted == []
    done = await ann.run("--as", "op", "accept", "--reason", "the disk is new", "--without", "east")
    assert done.code == 0
    assert "is ACTIVE there, and unknown here" in done.out
    assert "accepted; 2 values that others use are kept off" in done.out + done.err
    assert ann.node.admin.accepted == [(("east",), "the disk is new", "oscar")]


async def test_a_second_login_needs_no_ca_and_an_anchor_has_one(ann: CliBench) -> None:
    again = await ann.run("login", ann.endpoint, "--account", "ann", "--password-stdin", stdin=PASSWORD)
    assert again.code == 0
    anchor = ann.home / "anchor.json"
    anchor.write_text(json.dumps({"sp_id": "sp-top", "ca": ann.node.authority.cert_pem.bytes().decode()}))
    arguments = ("login", ann.endpoint, "--account", "ann", "--anchor", anchor, "--password-stdin", "--as", "third")
    assert (await ann.run(*arguments, stdin=PASSWORD)).code == 0
    assert (await ann.run("services", "--as", "third")).code == 0


async def test_a_wrong_password_stores_nothing(bench: CliBench) -> None:
    ran = await bench.log_in(password="guess")
    assert ran.code == 4
    assert "account or credentials are wrong" in ran.err
    assert not bench.profile().exists()


async def test_without_a_login_or_with_an_expired_one_it_is_said_how_to_log_in(bench: CliBench) -> None:
    without = await bench.run("services")
    assert (without.code, without.out) == (4, "")
    assert "spbroker login" in without.err
    await bench.be("ann")
    login = json.loads(bench.profile().read_text())
    bench.profile().write_text(json.dumps(login | {"expires": "2026-01-01T00:00:00+00:00"}))
    expired = await bench.run("services")
    assert expired.code == 4
    assert "expired at 2026-01-01" in expired.err
    assert f"spbroker login {bench.endpoint} --account ann" in expired.err


async def test_a_token_that_the_provider_calls_expired_says_the_same(ann: CliBench) -> None:
    ann.node.clock.move(ann.node.authenticator.lifetime_s)
    ran = await ann.run("services")
    assert ran.code == 4
    assert "log in again" in ran.err


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("127.0.0.1:1", "nothing listens there"),
        ("no-such-host.invalid:1", "there is no host of this name"),
    ],
)
async def test_a_provider_that_is_not_there_is_named_plainly(bench: CliBench, endpoint: str, says: str) -> None:
    arguments = ("login", endpoint, "--account", "ann", "--ca", bench.home / "ca.pem", "--password-stdin")
    ran = await bench.run(*arguments, stdin="x")
    assert ran.code == 7
    assert ran.err == f"spbroker: cannot reach {endpoint}: {says}\n"


async def test_a_certificate_of_another_authority_is_named_plainly(bench: CliBench) -> None:
    (bench.home / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    ran = await bench.log_in()
    assert ran.code == 7
    assert ran.err.endswith("its certificate is not under the CA that you trust for it\n")


async def test_a_ca_that_is_none_is_wrong_input(bench: CliBench) -> None:
    (bench.home / "ca.pem").write_text("junk")
    ran = await bench.log_in()
    assert ran.code == 2
    assert "ca.pem: the CA is not a certificate in PEM" in ran.err


# What there is to buy -------------------------------------------------------------------------------------------------


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


# Ordering -------------------------------------------------------------------------------------------------------------


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


# Looking, following, ending -------------------------------------------------------------------------------------------


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


async def test_what_cannot_be_healed_is_told_with_the_reason(ann: CliBench) -> None:
    assert (await ann.run("order", "-f", SPEC, "--ref", "web-1")).code == 0
    ann.supplier.may_heal = False
    why = Reason(code=ReasonCode.NO_PATH, message="no way through")
    await ann.supplier.degrade("web-1", Healing(phase=HealPhase.PENDING, reasons=(why,)))
    ran = await ann.run("heal", "web-1", "--wait")
    assert ran.code == Exit.FAILED
    assert "web-1 is DEGRADED and was not healed: no way through" in ran.err


async def test_a_service_that_is_not_there_is_not_found(ann: CliBench) -> None:
    for command in ("show", "watch", "heal", "terminate"):
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


# Operating ------------------------------------------------------------------------------------------------------------


async def test_an_operator_sees_whose_order_is_where(bench: CliBench) -> None:
    await bench.be("oscar")
    shown = await bench.run("show", "r-1", "--operator")
    assert shown.code == 0
    assert "account acme" in shown.out
    assert "east  ● ACTIVE  at sp-c as x version 1" in shown.out
    assert (await bench.run("show", "r-9", "--operator")).code == 6
    assert (await bench.run("show", "r-1", "--operator", "--json")).json["orders"][0]["account"] == "acme"


async def test_a_node_is_not_made_with_a_short_password(bench: CliBench, tmp_path: Path) -> None:
    arguments = ("init", tmp_path / "node", "--sp-id", "sp-a", "--password-stdin")
    short = await bench.run(*arguments, stdin="eleven char\n")
    assert (short.code, short.err) == (2, "spbroker: a password has at least 12 characters\n")
    assert not (tmp_path / "node").exists()
    assert (await bench.run(*arguments, stdin="twelve chars\n")).code == 0


async def test_an_operator_sets_a_password(bench: CliBench) -> None:
    await bench.be("oscar")
    assert (await bench.run("passwd", "ann", "--password-stdin", stdin="long enough now\n")).code == 0
    assert bench.node.admin.passwords == {"ann": "long enough now"}
    short = await bench.run("passwd", "ann", "--password-stdin", stdin="short\n")
    assert (short.code, short.err) == (2, "spbroker: password: has too few characters\n")
    nobody = await bench.run("passwd", "bob", "--password-stdin", stdin="long enough now\n")
    assert (nobody.code, "there is no account 'bob'" in nobody.err) == (6, True)


async def test_a_folder_is_compared_applied_and_exported(bench: CliBench) -> None:
    await bench.be("oscar")
    folder = bench.home / "config"
    folder.mkdir()
    (folder / "pools.yml").write_text(POOLS)
    diff = await bench.run("diff", "-f", folder)
    assert diff.code == 0
    assert '+ new   pool   west   prefix  "10.1.0.0/16"' in diff.out
    assert (await bench.run("export", "--json")).json == {"documents": []}
    applied = await bench.run("apply", "-f", folder, "--reason", "first pools", "--json")
    assert (applied.code, applied.json["applied"], len(applied.json["changes"])) == (0, True, 2)
    assert bench.node.admin.log == [("oscar", ""), ("oscar", "first pools")]
    written = await bench.run("export", "-o", bench.home / "out")
    assert (written.code, written.out) == (0, "")
    assert (await bench.run("apply", "-f", bench.home / "out", "--dry-run")).code == 0
    assert "name: west" in (await bench.run("export")).out


async def test_wrong_documents_are_named_with_file_and_line(bench: CliBench) -> None:
    await bench.be("oscar")
    pools = bench.home / "pools.yml"
    pools.write_text(POOLS + "colour: red\n")
    unknown = await bench.run("apply", "-f", pools)
    assert (unknown.code, unknown.err) == (2, f"{pools}:10: colour: unknown field\n")
    assert bench.node.admin.log == []
    pools.write_text(POOLS)
    bench.node.admin.problems["pool", "west"] = ("prefix: overlaps the pool east",)
    refused = await bench.run("apply", "-f", pools)
    assert refused.code == 2
    assert refused.err.startswith(f"{pools}:8: prefix: overlaps the pool east\n")
    assert bench.node.admin.documents == {}


async def test_an_operator_sees_ranked_plans_and_why_the_others_lost(bench: CliBench) -> None:
    await bench.be("oscar")
    ran = await bench.run("plan", "-f", SPEC, "--explain")
    assert ran.code == 0
    lines = [line.rstrip() for line in ran.out.splitlines()]
    assert lines[:5] == [
        "1  0.33/h EUR  237.60 EUR over 720 h  9 ms  cost 0.30/h EUR",
        "├── east (sp-c)   a → to-west  0.30/h EUR  2 ms",
        "│   └── firewall  AMS",
        "├── west (sp-dd)  to-east → b  free  7 ms",
        "└── over ic-1",
    ]
    assert any(line.startswith("2  ") and "loses: 118.80 EUR more" in line for line in lines)
    assert any(line.startswith("✗  ") and "breaks COUNTRY, 79.20 EUR less" in line for line in lines)
    one = await bench.run("plan", "-f", SPEC, "--alternatives", "1", "--json")
    assert (len(one.json["plans"]), one.json["rejected"], one.json["reasons"]) == (1, [], [])


async def test_what_cannot_be_planned_is_told_with_what_binds_and_the_nearest(bench: CliBench, tmp_path: Path) -> None:
    await bench.be("oscar")
    tight = tmp_path / "tight.yml"
    tight.write_text(dump_spec(replace(load_spec(SPEC.read_bytes(), "spec"), max_delay_us=1)))
    ran = await bench.run("plan", "-f", tight)
    assert ran.code == Exit.REFUSED
    assert ran.out.startswith("nearest  0.33/h EUR")
    assert "breaks DELAY" in ran.out
    assert "delay: best 9 ms > 1 ms" in ran.err
