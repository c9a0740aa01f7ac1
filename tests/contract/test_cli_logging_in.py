"""Logging in with the command line, as people run it: real processes against a real node over TLS."""

from __future__ import annotations

import json

import pytest
import trustme

from tests.support.cli_bench import (
    PASSWORD,
    CliBench,
)


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
