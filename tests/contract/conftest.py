"""A node whose API is served over real sockets, a partner of it, and a bench for the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.northbound.admission import Bounds
from lower_sp_clients.remote_sp import RemoteSp
from tests.support.api_calls import (
    partner,
)
from tests.support.api_node import ApiNode
from tests.support.cli_bench import CliBench


@pytest.fixture
async def node() -> AsyncIterator[ApiNode]:
    node = await ApiNode().start()
    yield node
    await node.close()


@pytest.fixture
async def crowded() -> AsyncIterator[ApiNode]:
    """One call that begins something may run, nobody may wait, and an account may have one stream."""
    node = ApiNode(bounds=Bounds(beginning=1, waiting=0, streams=1))
    await node.start()
    yield node
    await node.close()


@pytest.fixture
async def remote(node: ApiNode) -> AsyncIterator[RemoteSp]:
    remote = partner(node)
    yield remote
    await remote.close()


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
