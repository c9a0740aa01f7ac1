"""Brokers stacked on brokers: one service over many, whatever is lost, refused, restarted or late on the way."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from address_planner.prefixes import inside, overlap
from broker.orders.pools import Pool
from broker.orders.records import Charge, ChargeKind, Change
from lower_sp_clients.supplier import Context, OutcomeUnknown
from service_model.outcomes import (
    AddressingChoice,
    Bindings,
    Committed,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.spec import AddressRole, LinkAddressing, ReservedAddress, ServiceSpec
from tests.support.faults import alters, hangs, lost_after, lost_before, refuses, waits_for
from tests.support.stack import AURORA, AURORA_CHAIN, POOL, Either, Site, Sp, Stack, chain

CTX = Context()
CONFIRM = AddressingChoice()


async def reserved(stack: Stack, spec: ServiceSpec = AURORA_CHAIN, ref: str = "r", version: int = 1) -> Reserved:
    answer = await stack.customer().reserve(ref, version, spec, CTX)
    assert isinstance(answer, Reserved), answer
    return answer


async def active(stack: Stack, spec: ServiceSpec = AURORA_CHAIN, ref: str = "r") -> Reserved:
    answer = await reserved(stack, spec, ref)
    assert await stack.customer().commit(ref, 1, CONFIRM, CTX) == Committed(ref=ref, version=1)
    await stack.until(lambda: stack.state(ref) is ServiceState.ACTIVE)
    return answer


@pytest.fixture
async def aurora(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(AURORA, tmp_path) as stack:
        yield stack


async def test_a_service_over_four_brokers_is_reserved_built_and_taken_away(aurora: Stack) -> None:
    answer = await active(aurora)
    assert answer.choice.labels == {"a": 0, "b": 0}
    lan = answer.choice.link("mgmt")
    assert lan is not None
    assert set(lan.addresses) == {"f0:mgmt", "f1:mgmt", "f2:mgmt"}
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED
