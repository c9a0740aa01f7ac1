"""What befalls a request on the line (`tests/support/proxy.py`) does so: between a real client and a real server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.northbound.auth import thumbprint
from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import Context, OutcomeUnknown, ServiceNotFound
from service_model.outcomes import ReasonCode, Refused, Reserved
from tests.support.api_node import ApiNode
from tests.support.fake_supplier import FakeSupplier
from tests.support.proxy import Fault, Keys, Proxy, Trouble, Weather
from tests.support.sites import chain

SPEC = chain("a.uni", "b.uni", "firewall")
A_MOMENT, WHILE_S = 2.5, 1.0
"""How long a caller waits here, and how long a line is slow, in seconds."""


@dataclass
class Between:
    """A client, the line, and what is at its end."""

    client: RemoteSp
    line: Proxy
    supplier: FakeSupplier
    ctx: Context

    def befalls(self, trouble: Trouble, seconds: float = WHILE_S) -> None:
        """The next request."""
        self.line.weather.script.append(Fault(trouble, seconds))

    async def reserve(self) -> Reserved | Refused:
        return await self.client.reserve("r", 1, SPEC, self.ctx)

    async def came(self, method: str, times: int = 1) -> None:
        """Until it has come so often, whoever still waits for it."""
        async with asyncio.timeout(60):
            while sum(name == method for name, _ in self.supplier.contexts) < times:  # noqa: ASYNC110  a real server
                await asyncio.sleep(0.02)

    async def again(self) -> Reserved | Refused:
        """The same request until it is answered: the client connects again by itself."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self.reserve()
                except OutcomeUnknown:
                    await asyncio.sleep(0.1)


def files(folder: Path, name: str, certificate: bytes, key: bytes) -> tuple[Path, Path]:
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    for path, content in zip(paths, (certificate, key), strict=True):
        path.write_bytes(content)
    return paths


@pytest.fixture
async def between(tmp_path: Path) -> AsyncIterator[Between]:
    node = await ApiNode().start()
    tls = node.partner_tls()
    node.authenticator.certificates["sp-a"] = thumbprint(tls.certificate)
    keys = Keys(
        files(tmp_path, "server", node.identity.certificate, node.identity.key),
        files(tmp_path, "client", tls.certificate, tls.key),
        files(tmp_path, "ca", tls.roots, b"")[0],
    )
    line = await Proxy(int(node.partner_endpoint.split(":")[1]), keys, Weather(random.Random(1))).start()
    client = RemoteSp(
        line.endpoint,
        "sp-a",
        tls=lambda: tls,
        verify=_no_notes,
        clock=node.clock,
        events_begin_s=A_MOMENT,
        notes_begin_s=A_MOMENT,
    )
    ctx = Context(deadline=node.clock.now() + timedelta(seconds=A_MOMENT))
    with pytest.raises(ServiceNotFound):  # it is connected, and has its token
        await client.status("r", replace(ctx, deadline=None))
    yield Between(client, line, node.suppliers["sp-a"], ctx)
    await client.close()
    await line.close()
    await node.close()


def _no_notes(jws: str) -> Any:
    raise ValueError("no notes here")


async def test_where_nothing_befalls_it_a_request_is_answered(between: Between) -> None:
    assert isinstance(await between.reserve(), Reserved)


async def test_what_is_slow_is_answered_later(between: Between) -> None:
    between.befalls(Trouble.DELAY)
    begun = asyncio.get_running_loop().time()
    assert isinstance(await between.reserve(), Reserved)
    assert asyncio.get_running_loop().time() - begun >= WHILE_S


async def test_a_request_is_overtaken_by_another_of_the_same_connection(between: Between) -> None:
    between.befalls(Trouble.OVERTAKEN)
    asking = asyncio.ensure_future(between.reserve())
    async with asyncio.timeout(60):
        while between.line.weather.script:  # noqa: ASYNC110  until it is on its way
            await asyncio.sleep(0.01)
    await between.client.release("r", 1, between.ctx)
    refused = await asking
    assert isinstance(refused, Refused)
    assert refused.reasons[0].code is ReasonCode.VERSION_RELEASED
    assert [name for name, _ in between.supplier.contexts] == ["status", "release", "reserve"]


async def test_a_reserve_that_arrives_after_its_release_though_its_sender_is_gone_has_no_effect(
    between: Between,
) -> None:
    assert between.ctx.deadline is not None
    between.ctx = replace(between.ctx, deadline=between.ctx.deadline + timedelta(seconds=20))
    between.befalls(Trouble.LATE, 5 * WHILE_S)
    with pytest.raises(OutcomeUnknown):
        await between.reserve()
    async with asyncio.timeout(60):
        while True:
            try:
                await between.client.release("r", 1, between.ctx)
                break
            except OutcomeUnknown:
                await asyncio.sleep(0.1)
    assert [name for name, _ in between.supplier.contexts] == ["status", "release"]
    await between.came("reserve")
    late = await between.again()
    assert isinstance(late, Refused)
    assert late.reasons[0].code is ReasonCode.VERSION_RELEASED


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.OTHER_WAY, Trouble.RESET])
async def test_a_request_that_is_lost_has_no_effect_and_an_outcome_that_is_not_known(
    between: Between, trouble: Trouble
) -> None:
    between.befalls(trouble)
    with pytest.raises(OutcomeUnknown):
        await between.reserve()
    assert [name for name, _ in between.supplier.contexts] == ["status"]
    assert isinstance(await between.again(), Reserved)


async def test_a_stream_whose_request_is_lost_is_given_up_and_the_next_one_begins(between: Between) -> None:
    between.befalls(Trouble.LOST)
    async with asyncio.timeout(60):
        with pytest.raises(OutcomeUnknown, match="does not begin"):
            await anext(between.client.watch(""))
        async with aclosing(between.client.watch("")) as events:  # type: ignore[type-var]
            assert (await anext(events)).status is None


async def test_a_stream_that_has_begun_is_not_given_up_for_being_silent(between: Between) -> None:
    async with aclosing(between.client.watch("")) as events:  # type: ignore[type-var]
        await anext(events)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 2 * A_MOMENT)


async def test_a_feed_of_notes_whose_request_is_lost_is_told_to_be_broken(between: Between) -> None:
    between.befalls(Trouble.LOST)
    notes = between.client.notes()
    taking = asyncio.ensure_future(anext(notes))
    async with asyncio.timeout(60):
        while between.client.feed_broken_since is None:  # noqa: ASYNC110  a real server
            await asyncio.sleep(0.02)
    taking.cancel()


@pytest.mark.parametrize("trouble", [Trouble.MUTE, Trouble.ONE_WAY])
async def test_where_the_answer_is_lost_the_effect_is_there_and_is_told_when_it_is_asked_for_again(
    between: Between, trouble: Trouble
) -> None:
    between.befalls(trouble)
    with pytest.raises(OutcomeUnknown):
        await between.reserve()
    await between.came("reserve")
    assert isinstance(await between.again(), Reserved)
    await between.came("reserve", 2)


async def test_who_is_accepted_and_never_answered_connects_again(between: Between) -> None:
    between.befalls(Trouble.RESET)
    with pytest.raises(OutcomeUnknown):
        await between.reserve()
    between.line.weather.left, between.line.weather.rarely, between.line.weather.long_s = 1, 1, WHILE_S
    assert isinstance(await between.again(), Reserved)
    assert between.line.weather.met == {Trouble.RESET: 1, Trouble.DEAF: 1}


def test_of_the_same_seed_the_same_befalls_a_line() -> None:
    def drawn(seed: int) -> list[Fault | None]:
        weather = Weather(random.Random(seed), left=5)
        return [weather.of_request() for _ in range(40)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert sum(fault is not None for fault in drawn(1)) == 5
