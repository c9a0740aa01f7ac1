"""Who may call: tokens, certificates, roles."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
import trustme

from broker.northbound.auth import thumbprint
from broker.northbound.calls import required_role
from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import OutcomeUnknown
from service_model.outcomes import (
    Reserved,
)
from spbroker.v1 import admin_service_pb2 as admin_pb
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.api_calls import (
    CTX,
    SPEC,
    administration,
    partner,
    people,
    read_note,
    token_of,
    wrong,
)
from tests.support.api_node import ApiNode


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
