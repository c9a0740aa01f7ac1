"""Applying documents: wholly or not at all, checked as a whole, versioned, audited, never showing a hash."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import sqlalchemy as sa

from broker.accounts.admin_port import AccountNotFound, Applied, ChangeAction
from broker.accounts.administration import Administration
from broker.accounts.documents import Authorship, DocumentsChanged, Edit
from broker.accounts.secrets import Cost, Passwords, UnusablePassword
from broker.settings.administered import AccountDoc, AgreementDoc, PoolDoc
from broker.settings.present import Administered
from broker.settings.problems import Problem
from broker.settings.schema import schema
from broker.storage import tables as t
from broker.storage.document_book import SqlDocumentBook
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from capability_registry.keys import SigningKey
from tests.support import administered as docs
from tests.support.postgres import Where

CONFIG = Path(__file__).parents[2] / "config"
PASSWORDS = Passwords(Cost(passes=1, memory_kib=8, lanes=1))


@dataclass
class Node:
    """An administration over a real store, and what it told the node."""

    engine: Engine
    administration: Administration
    clock: docs.Hands
    told: list[Administered] = field(default_factory=list)
    refusals: list[Problem] = field(default_factory=list)

    async def apply(self, *documents: Mapping[str, Any], dry_run: bool = False, prune: bool = False) -> Applied:
        return await self.administration.apply(documents, dry_run=dry_run, prune=prune, reason="because", actor="root")

    async def rows(self, table: sa.Table) -> list[Any]:
        return await self.engine.read(lambda c: list(c.execute(sa.select(table))))


@pytest.fixture
async def node(where: Where) -> AsyncIterator[Node]:
    async with Engine.open(where("broker"), migrate=migrate) as engine:
        clock, told, refusals = docs.Hands(), list[Administered](), list[Problem]()

        def check(whole: Administered) -> Sequence[Problem]:
            return refusals

        async def changed(whole: Administered) -> None:
            told.append(whole)

        administration = Administration(
            sp_id=docs.OWN,
            book=SqlDocumentBook(engine),
            clock=clock,
            passwords=PASSWORDS,
            check=check,
            changed=changed,
        )
        await administration.open()
        yield Node(engine, administration, clock, told, refusals)


def problems(applied: Applied) -> set[str]:
    return {f"{c.kind}/{c.name}: {p}" for c in applied.changes for p in c.problems}


async def test_a_consistent_set_is_applied_and_is_there_after_a_restart(node: Node) -> None:
    applied = await node.apply(*docs.everything())
    assert applied.applied
    assert problems(applied) == set()
    assert {c.action for c in applied.changes} == {ChangeAction.CREATED}
    assert len(applied.changes) == len(docs.everything())
    assert node.told == [node.administration.present]
    assert await SqlDocumentBook(node.engine).load() == node.administration.present


async def test_documents_applied_again_change_nothing(node: Node) -> None:
    await node.apply(*docs.everything())
    before = node.administration.present
    applied = await node.apply(*docs.everything())
    assert applied.applied
    assert {c.action for c in applied.changes} == {ChangeAction.UNCHANGED}
    assert node.administration.present is before
    assert len(node.told) == 1
    assert len(await node.rows(t.documents)) == len(docs.everything())


async def test_a_dry_run_says_what_would_change_and_changes_nothing(node: Node) -> None:
    applied = await node.apply(*docs.everything(), dry_run=True)
    assert not applied.applied
    assert {c.action for c in applied.changes} == {ChangeAction.CREATED}
    assert node.administration.present == Administered()
    assert await node.rows(t.documents) == []
    assert await node.rows(t.audit) == []
    assert node.told == []


async def test_a_change_is_told_by_field_and_begins_a_version(node: Node) -> None:
    await node.apply(*docs.everything())
    node.clock.at += timedelta(hours=1)
    applied = await node.apply(docs.agreement(margin_percent="12.5", max_hold_s=60))
    [change] = applied.changes
    assert change.action is ChangeAction.CHANGED
    assert {(d.field, d.before, d.after) for d in change.diffs} == {
        ("margin_percent", '"10"', '"12.5"'),
        ("max_hold_s", "", "60"),
    }
    rows = [r for r in await node.rows(t.documents) if r.kind == "agreement"]
    moment = docs.NOW + timedelta(hours=1)
    assert [(r.version, r.valid_from, r.valid_until, r.author, r.reason) for r in rows] == [
        (1, docs.NOW, moment, "root", "because"),
        (2, moment, None, "root", "because"),
    ]
    gold = node.administration.present.find(AgreementDoc, "gold")
    assert gold is not None
    assert node.administration.present.version(gold) == 2


async def test_a_name_that_comes_back_gets_a_version_that_never_was(node: Node) -> None:
    await node.apply(*docs.everything(), docs.pool("v6", prefix="fd00::/48", block=64))
    await node.apply(docs.pool(), prune=True)
    assert node.administration.present.find(PoolDoc, "v6") is None
    await node.apply(docs.pool("v6", prefix="fd00::/48", block=64))
    v6 = node.administration.present.find(PoolDoc, "v6")
    assert v6 is not None
    assert node.administration.present.version(v6) == 2


async def test_pruning_removes_only_of_the_kinds_given(node: Node) -> None:
    await node.apply(*docs.everything(), docs.pool("v6", prefix="fd00::/48", block=64))
    applied = await node.apply(docs.pool(), prune=True)
    assert [(c.kind, c.name, c.action) for c in applied.changes] == [
        ("pool", "v4", ChangeAction.UNCHANGED),
        ("pool", "v6", ChangeAction.REMOVED),
    ]
    assert len(node.administration.present.by_key) == len(docs.everything())


async def test_one_problem_and_nothing_is_applied(node: Node) -> None:
    applied = await node.apply(*docs.replaced(docs.pool(block=8)))
    assert not applied.applied
    assert problems(applied) == {"pool/v4: block: a block of 10.0.0.0/16 has a length of 16 to 31"}
    assert node.administration.present == Administered()
    assert await node.rows(t.documents) == []


async def test_every_problem_is_told_at_once_also_beside_documents_that_cannot_be_read(node: Node) -> None:
    applied = await node.apply(
        docs.place("zrh", country="Switzerland", colour="red"),
        docs.domain(),
        docs.interconnect(labels="0-5"),
        {"kind": "router", "name": "r1"},
        {"name": "nameless-kind"},
        docs.pool(),
        docs.pool(),
    )
    assert problems(applied) == {
        "place/zrh: country: 'Switzerland' does not have the form ^[A-Z]{2}$",
        "place/zrh: colour: unknown field",
        "interconnect/ic-1: labels: 0-5 are not all labels of VXLAN (1-16777215), as SAP 'to-lower' is",
        "router/r1: kind: not one of place, interconnect, pool, qos, agreement, manager, account, supplier, domain, function",
        "/nameless-kind: kind: a required field is missing: one of place, interconnect, pool, qos, agreement, manager, account,"
        " supplier, domain, function",
        "pool/v4: name: a second pool 'v4' among these documents",
    }


async def test_what_a_removal_breaks_elsewhere_is_told_of_what_it_breaks(node: Node) -> None:
    await node.apply(*docs.everything())
    applied = await node.apply(docs.agreement("silver"), prune=True)
    assert not applied.applied
    assert problems(applied) == {
        "account/ann: agreement: there is no agreement 'gold'",
        "account/upper: agreement: there is no agreement 'gold'",
    }
    untouched = [c for c in applied.changes if c.kind == "account"]
    assert {c.action for c in untouched} == {ChangeAction.UNCHANGED}


async def test_what_the_node_refuses_is_a_problem_and_is_not_applied(node: Node) -> None:
    await node.apply(*docs.everything())
    node.refusals.append(Problem("pool", "v4", "prefix", "10.0.3.0/24 is allocated"))
    applied = await node.apply(docs.pool(prefix="10.1.0.0/16"))
    assert not applied.applied
    assert problems(applied) == {"pool/v4: prefix: 10.0.3.0/24 is allocated"}
    assert len(node.told) == 1


async def test_the_last_operator_cannot_be_taken_away(node: Node) -> None:
    await node.apply(*docs.everything())
    for change in (docs.operator(state="DISABLED"), docs.operator(roles=["customer"])):
        applied = await node.apply(change)
        assert problems(applied) == {
            "account/root: roles: no operator in service would be left to administer this node"
        }
    assert (await node.apply(docs.operator("second"), docs.operator(state="DISABLED"))).applied


async def test_the_audit_shows_before_and_after_and_never_a_hash(node: Node) -> None:
    await node.apply(*docs.everything())
    await node.administration.set_password("root", "another horse", actor="root")
    rows = [r for r in await node.rows(t.audit) if r.subject == "account/root"]
    assert [(r.action, r.actor, r.reason) for r in rows] == [("apply", "root", "because"), ("set_password", "root", "")]
    assert rows[0].before == ""
    assert json.loads(rows[0].after)["password_hash"] == "(set)"
    assert json.loads(rows[1].before)["roles"] == ["operator"]
    assert not any("argon2" in text for r in await node.rows(t.audit) for text in (r.before, r.after))


async def test_neither_a_diff_nor_the_export_shows_a_hash(node: Node) -> None:
    applied = await node.apply(*docs.everything())
    assert "argon2" not in repr(applied)
    assert "argon2" not in repr(await node.administration.export(()))
    [change] = (await node.apply(docs.operator(password_hash=PASSWORDS.hash("correct horse")))).changes
    assert [d.field for d in change.diffs] == ["password_hash"]
    assert "argon2" not in repr(change)


async def test_what_is_exported_can_be_applied_again_and_keeps_passwords(node: Node) -> None:
    await node.apply(*docs.everything())
    before = node.administration.present
    applied = await node.apply(*await node.administration.export(()), prune=True)
    assert applied.applied
    assert {c.action for c in applied.changes} == {ChangeAction.UNCHANGED}
    assert node.administration.present is before
    assert [d["kind"] for d in await node.administration.export(("pool", "agreement"))] == ["pool", "agreement"]


async def test_a_password_is_set_for_people_only(node: Node) -> None:
    await node.apply(*docs.everything())
    await node.administration.set_password("ann", "correct horse", actor="root")
    ann = node.administration.present.find(AccountDoc, "ann")
    assert ann is not None
    assert PASSWORDS.verify(ann.password_hash, "correct horse")
    assert node.told[-1] is node.administration.present
    for name in ("upper", "nobody"):
        with pytest.raises(AccountNotFound):
            await node.administration.set_password(name, "x", actor="root")
    with pytest.raises(UnusablePassword):
        await node.administration.set_password("ann", "eleven char", actor="root")


async def test_changes_at_once_are_made_one_after_the_other(node: Node) -> None:
    await node.apply(*docs.everything())
    await asyncio.gather(*(node.apply(docs.agreement(max_services=n)) for n in range(1, 9)))
    rows = [r for r in await node.rows(t.documents) if r.kind == "agreement"]
    assert [r.version for r in rows] == list(range(1, 10))
    assert sum(r.valid_until is None for r in rows) == 1
    assert await SqlDocumentBook(node.engine).load() == node.administration.present


async def test_a_change_whose_caller_goes_away_is_finished(node: Node) -> None:
    task = asyncio.create_task(node.apply(*docs.everything()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await node.apply(docs.agreement("silver"))
    assert len(node.told) == 2
    assert await SqlDocumentBook(node.engine).load() == node.told[-1]


async def test_a_change_of_a_version_that_is_no_longer_current_writes_nothing(node: Node) -> None:
    await node.apply(*docs.everything())
    stale = node.administration.present
    await node.apply(docs.agreement(max_services=5))
    rows = len(await node.rows(t.audit))
    edits = [
        Edit(key, stale.by_key[key], stale.by_key[key].document) for key in (("pool", "v4"), ("agreement", "gold"))
    ]
    with pytest.raises(DocumentsChanged):
        await SqlDocumentBook(node.engine).save(
            edits, Authorship(at=docs.NOW, actor="other", reason="", action="apply")
        )
    assert len(await node.rows(t.audit)) == rows
    assert await SqlDocumentBook(node.engine).load() == node.administration.present


def sap(i: int, **more: Any) -> dict[str, Any]:
    saps = [dict(s) for s in docs.domain()["saps"]]
    saps[i].update(more)
    return docs.domain(saps=saps)


def link(a: str, b: str, *names: str) -> dict[str, Any]:
    return {"a": a, "b": b, "ways": [{"name": name, "delay_us": 1} for name in names or ("w",)]}


PAIR = [link("site-a", "zrh"), link("to-lower", "zrh")]
TWO_PLACES = [{"place": "zrh"}, {"place": "gva"}]
OTHER_SAPS = [{"id": "x", "role": "UNI", "place": "zrh"}]
USD = {"currency": "USD", "once": "5"}
WINDOW = {"start": "2026-03-02T00:00:00Z", "end": "2026-03-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([sap(0, place="gva")], "domain/dc: saps[0].place: 'gva' is none of the domain's places"),
        ([docs.domain(places=[*TWO_PLACES])], "domain/dc: places[1].place: there is no place 'gva'"),
        ([sap(1, interconnect=None)], "domain/dc: saps[1].interconnect: the NNI SAP 'to-lower' needs one"),
        ([sap(1, interconnect="ic-9")], "domain/dc: saps[1].interconnect: there is no interconnect 'ic-9'"),
        (
            [sap(0, interconnect="ic-1")],
            "domain/dc: saps[0].interconnect: the UNI SAP 'site-a' has none: customers attach to it",
        ),
        ([sap(0, role="UNSPECIFIED")], "domain/dc: saps[0].role: a value has to be named here"),
        ([sap(0, id="zrh")], "domain/dc: saps[0].id: 'zrh' stands twice among the domain's places and SAPs"),
        ([docs.domain(links=PAIR[:1])], "domain/dc: saps[1]: no link joins SAP 'to-lower' to a place of the domain"),
        (
            [docs.domain(links=[PAIR[0], link("to-lower", "site-a")])],
            "domain/dc: saps[1]: no link joins SAP 'to-lower' to a place of the domain",
        ),
        (
            [docs.place("gva"), docs.domain(places=TWO_PLACES, links=[*PAIR, link("site-a", "gva")])],
            "domain/dc: places[1]: no links lead from 'zrh' to 'gva' over places",
        ),
        (
            [docs.domain(links=[*PAIR, link("zrh", "mars")])],
            "domain/dc: links[2].b: 'mars' is no place and no SAP of the domain",
        ),
        (
            [docs.domain(links=[*PAIR, link("zrh", "site-a")])],
            "domain/dc: links[2]: a second link between 'zrh' and 'site-a': give the first more ways",
        ),
        (
            [docs.domain(links=[PAIR[0], link("to-lower", "zrh", "w", "w")])],
            "domain/dc: links[1].ways[1].name: 'w' stands twice",
        ),
        ([docs.interconnect(labels="")], "interconnect/ic-1: labels: no labels: nothing could pass"),
        (
            [sap(1, encapsulation="VLAN"), docs.interconnect(labels="4000-4095")],
            "interconnect/ic-1: labels: 4000-4095 are not all labels of VLAN (1-4094), as SAP 'to-lower' is",
        ),
        (
            [docs.domain("dc2", saps=[{**docs.domain()["saps"][1], "id": "y"}], links=[link("y", "zrh")])],
            "domain/dc2: saps[0].interconnect: domain 'dc' has a SAP of interconnect 'ic-1' already",
        ),
        (
            [
                docs.interconnect(peer=docs.OWN),
                docs.domain(
                    "dc2",
                    saps=[{**docs.domain()["saps"][1], "id": "y", "encapsulation": "VLAN"}],
                    links=[link("y", "zrh")],
                ),
            ],
            "domain/dc2: saps[0].encapsulation: VLAN, where the other side of interconnect 'ic-1' is VXLAN",
        ),
        (
            [docs.domain("lower", saps=OTHER_SAPS, links=[link("x", "zrh")])],
            "supplier/lower: name: the domain 'lower' has this name too: both are suppliers",
        ),
        (
            [docs.domain("dc2", saps=[{"id": "site-a", "role": "UNI", "place": "zrh"}], links=[link("site-a", "zrh")])],
            "domain/dc2: saps[0].id: domain 'dc' has a SAP 'site-a' too",
        ),
        (
            [docs.supplier(expose_saps={"p": "site-a"})],
            "supplier/lower: expose_saps.p: domain 'dc' announces 'site-a' too",
        ),
        ([docs.supplier(sp_id="transit")], "supplier/lower: sp_id: this is our own"),
        (
            [docs.supplier(anchor=docs.anchor("other"))],
            "supplier/lower: anchor.sp_id: the anchor is of 'other', not of 'lower'",
        ),
        ([docs.supplier(qos={"premium": "gold"})], "supplier/lower: qos.premium: there is no class of service 'gold'"),
        ([{"kind": "qos", "name": "gold"}], "qos/gold: the class bounds nothing"),
        (
            [docs.supplier(isolation={"vlan": "vrf", "vxlan": "vrf"})],
            "supplier/lower: isolation.vxlan: 'vlan' is 'vrf' too: which one is to be asked for?",
        ),
        ([docs.supplier(state="MAINTENANCE")], "supplier/lower: state: MAINTENANCE needs a window"),
        ([docs.supplier(window=WINDOW)], "supplier/lower: window.end: the window ends before it begins"),
        ([docs.service(anchor=None)], "account/upper: anchor: a service needs the anchor of its SP"),
        ([docs.service(password_hash=docs.HASH)], "account/upper: password_hash: a service has no password"),
        ([docs.person(anchor=docs.anchor("ann"))], "account/ann: anchor: a person has none"),
        ([docs.person(password_hash="secret")], "account/ann: password_hash: not an argon2id hash"),
        ([docs.person(agreement="lead")], "account/ann: agreement: there is no agreement 'lead'"),
        ([docs.pool("b", prefix="10.0.7.0/24", block=28)], "pool/v4: prefix: 10.0.0.0/16 overlaps 10.0.7.0/24 of pool"),
        (
            [docs.agreement(currency="USD")],
            "agreement/gold: currency: USD beside EUR of domain 'dc': nothing converts",
        ),
        (
            [docs.function(flavours=[{"name": "small", "price": USD}])],
            "function/firewall: flavours[0].price.currency: USD beside EUR of domain 'dc': nothing converts",
        ),
        ([docs.function(places=["gva"])], "function/firewall: places[0]: 'gva' is a place of none of our domains"),
        (
            [docs.function("wall", type="eu.spbroker/firewall/1.0")],
            "function/wall: type: function 'firewall' has the type eu.spbroker/firewall/1.0 too",
        ),
        (
            [docs.function(ports=[{"name": "in"}, {"name": "m", "role": "MANAGEMENT"}])],
            "function/firewall: ports: a function passes packets on: it needs at least two DATA ports",
        ),
    ],
)
async def test_what_does_not_fit_together_is_refused(node: Node, changes: list[dict[str, Any]], expected: str) -> None:
    applied = await node.apply(*docs.replaced(*changes))
    assert not applied.applied
    assert any(problem.startswith(expected) for problem in problems(applied)), problems(applied)


async def test_two_own_domains_may_share_an_interconnect_whose_peer_is_ourselves(node: Node) -> None:
    second = docs.domain("dc2", saps=[{**docs.domain()["saps"][1], "id": "y"}], links=[link("y", "zrh")])
    applied = await node.apply(*docs.replaced(second, docs.interconnect(peer=docs.OWN)))
    assert problems(applied) == set()


def with_key(**more: Any) -> dict[str, Any]:
    given = docs.anchor("lower")
    given["note_keys"]["keys"][0].update(more)
    return given


PRIVATE = docs.authority("lower").key.decode()
OTHER_KID = SigningKey.generate(lambda n: b"o" * n).kid


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [
        ({**docs.anchor("lower"), "ca": "nonsense"}, "anchor.ca: not the certificate (PEM) of an authority"),
        ({**docs.anchor("lower"), "ca": docs.anchor("lower")["ca"] + PRIVATE}, "anchor.ca: a private key does not"),
        ({**docs.anchor("lower"), "ca": docs.anchor("lower")["ca"] * 2}, "anchor.ca: exactly one authority's"),
        ({**docs.anchor("lower"), "note_keys": {"keys": []}}, "anchor.note_keys.keys: needs at least 1"),
        (
            {**docs.anchor("lower"), "note_keys": {"keys": docs.anchor("lower")["note_keys"]["keys"] * 2}},
            "anchor.note_keys: the same key stands twice",
        ),
        (with_key(kid=OTHER_KID), "anchor.note_keys.keys[0]: the JWK's kid is not its thumbprint"),
        (with_key(d="AAAA"), "anchor.note_keys.keys[0].d: unknown field"),
        (with_key(kty="RSA"), "anchor.note_keys.keys[0].kty: "),
        ({**docs.anchor("lower"), "more": 1}, "anchor.more: unknown field"),
        ("anchor.json", "anchor: a mapping of fields belongs here"),
    ],
)
async def test_a_malformed_anchor_is_refused(node: Node, anchor: Any, expected: str) -> None:
    applied = await node.apply(docs.supplier(anchor=anchor))
    assert any(p.startswith(f"supplier/lower: {expected}") for p in problems(applied)), problems(applied)


def test_the_committed_schema_is_the_generated_one() -> None:
    committed = (CONFIG / "schema/administered.schema.json").read_text()
    command = [sys.executable, "-m", "broker.settings.schema"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONFIG.parent).stdout == committed


@pytest.mark.parametrize("document", docs.everything(), ids=lambda d: d["kind"])
def test_the_schema_accepts_what_is_applied_and_no_unknown_field(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(document, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "colour": "red"}, schema())


def test_the_schema_accepts_an_anchor_by_file() -> None:
    jsonschema.validate(docs.supplier(anchor={"file": "anchor.json"}), schema())
    jsonschema.validate(docs.service(anchor={"file": "anchor.json"}), schema())
