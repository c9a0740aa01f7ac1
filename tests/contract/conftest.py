"""A node whose API is served over real sockets, and a partner of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.northbound.admission import Bounds
from lower_sp_clients.remote_sp import RemoteSp
from tests.support.api_calls import (
    partner,
)
from tests.support.api_node import ApiNode


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
