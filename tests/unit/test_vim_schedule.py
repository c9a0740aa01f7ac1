"""A domain by the clock: what is over and still there is in nobody's way but that of what is built there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

from address_planner.labels import LabelSet
from lower_sp_clients.supplier import Context
from lower_sp_clients.vim.driver import DriverError
from service_model.outcomes import Committed, ReasonCode, Refused, Reserved, ServiceState
from service_model.spec import Blocks, ServiceSpec
from tests.support.sites import Site, Sp, chain
from tests.support.stack import Stack

CTX = Context()
HOUR = timedelta(hours=1)
SITE = Site("s1", ("firewall",), uni=LabelSet(((1000, 1999),)), hosts=(1,))


def spec(stack: Stack, start: timedelta | None, end: timedelta | None) -> ServiceSpec:
    now = stack.clock.now()
    asked = replace(chain("uni", "uni", "firewall"), blocks=Blocks(allowed=(ip_network("10.0.0.0/24"),)))
    at = (None if after is None else now + after for after in (start, end))
    return replace(asked, start_time=next(at), end_time=next(at))


async def ordered(stack: Stack, ref: str, asked: ServiceSpec) -> None:
    held = await stack.vim("s1").reserve(ref, 1, asked, CTX)
    assert isinstance(held, Reserved), held
    assert await stack.vim("s1").commit(ref, 1, held.choice, CTX) == Committed(ref=ref, version=1)


async def state(stack: Stack, ref: str) -> ServiceState:
    return (await stack.vim("s1").status(ref, CTX)).state


async def test_what_follows_is_built_when_what_is_over_is_gone(tmp_path: Path) -> None:
    """There is one host, and what was on it cannot be removed for a while."""
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        await ordered(stack, "first", spec(stack, None, HOUR))
        await ordered(stack, "second", spec(stack, HOUR, None))
        await stack.pass_time(60)
        assert await state(stack, "first") is ServiceState.ACTIVE
        for _ in range(5):
            stack.nodes["a"].drivers["s1"].fail_next("remove", DriverError("it does not let go"))
        await stack.pass_time(HOUR.total_seconds() - 60)
        await stack.pass_time(1, step=0.5)
        assert await state(stack, "first") is ServiceState.TERMINATING
        assert await state(stack, "second") is ServiceState.ACTIVATING
        built = {item.segment for item in await stack.vim("s1").inventory()}
        assert built == {"first"}
        await stack.pass_time(60, step=1)
        assert await state(stack, "first") is ServiceState.TERMINATED
        assert await state(stack, "second") is ServiceState.ACTIVE


async def test_the_host_that_is_full_is_named_with_its_figures_and_its_time(tmp_path: Path) -> None:
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        await ordered(stack, "first", spec(stack, HOUR, 2 * HOUR))
        refused = await stack.vim("s1").reserve("r", 1, spec(stack, None, None), CTX)
        assert isinstance(refused, Refused)
        (reason,) = refused.reasons
        assert (reason.code, reason.subject) == (ReasonCode.CAPACITY, "f0")
        when = "between 2026-01-01 01:00:00Z and 2026-01-01 02:00:00Z"
        assert reason.message == f"function 'f0': no host with 1 free units; at S1 0 of 1 are free {when}"


async def test_the_operator_sees_what_is_taken_now_and_later(tmp_path: Path) -> None:
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        vim, now = stack.vim("s1"), stack.clock.now()
        assert vim.taken(now) == []
        await ordered(stack, "first", spec(stack, HOUR, 2 * HOUR))
        host = dict(vim.taken(now))["S1", 0]
        assert host == [(now, 0), (now + HOUR, 1), (now + 2 * HOUR, 0)]
        assert dict(vim.taken(now + HOUR))["S1", 0] == [(now + HOUR, 1), (now + 2 * HOUR, 0)]
