"""Federations of real nodes and of stacked brokers for the tests here; whatever a test made is closed after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.customer import Customer
from tests.support.nodes import Nodes, found_at
from tests.support.sites import AURORA
from tests.support.stack import Stack
from tests.support.topologies import LEVELS, customer_of, three_levels


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of founded nodes, to be copied: founding is not what is tested here."""
    folder = tmp_path_factory.mktemp("founded")

    async def found_all() -> None:
        await asyncio.gather(*(found_at(folder / sp_id, sp_id) for sp_id in LEVELS))

    asyncio.run(found_all())
    return folder


@pytest.fixture
async def nodes(tmp_path: Path, founded: Path) -> AsyncIterator[Nodes]:
    """top over middle over leaf; ann and ben are top's customers."""
    nodes = Nodes(tmp_path, founded)
    try:
        yield await three_levels(nodes)
    finally:
        await nodes.close()


@pytest.fixture
async def ann(nodes: Nodes) -> AsyncIterator[Customer]:
    customer = await customer_of(nodes["top"], "ann")
    yield customer
    await customer.close()


@pytest.fixture
async def ben(nodes: Nodes) -> AsyncIterator[Customer]:
    customer = await customer_of(nodes["top"], "ben")
    yield customer
    await customer.close()


@pytest.fixture
async def aurora(tmp_path: Path) -> AsyncIterator[Stack]:
    """aurora over boreas and notos, notos over abyss, as brokers stacked in this process."""
    async with Stack(AURORA, tmp_path) as stack:
        yield stack
