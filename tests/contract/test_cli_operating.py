"""What operators do with the command line: real processes against a real node over TLS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from broker.cli.exit_codes import Exit
from service_model.spec_yaml import dump_spec, load_spec
from tests.support.cli_bench import (
    POOLS,
    SPEC,
    CliBench,
)


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
