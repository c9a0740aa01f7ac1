"""The key of notes is renewed while three levels run: no connection ends, no moment without a trusted note."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broker.accounts import rotation
from broker.accounts.admin_port import FeedState
from broker.settings.anchor import ANCHOR
from capability_registry.feed import Feed
from capability_registry.signing import NoteRefused, verify
from service_model.outcomes import Refused, ServiceState
from tests.support.customer import Customer
from tests.support.nodes import SETTLED_S, Nodes
from tests.support.topologies import chain, supplier


def feed(nodes: Nodes) -> Feed:
    return nodes["top"].node.feeds.states()["wholesale"]


def kid(nodes: Nodes) -> str:
    """The key that signed what top holds of middle."""
    keys = nodes["middle"].layout.anchor.read_bytes()
    for kid, key in ANCHOR.validate_json(keys).keys().items():
        try:
            verify(feed(nodes).jws, {kid: key}, 4 << 20)
        except NoteRefused:
            continue
        return kid
    return ""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SETTLED_S):
        while not condition():  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0.05)


async def test_a_key_is_renewed_with_both_trusted_in_between(nodes: Nodes, ann: Customer) -> None:
    middle, top = nodes["middle"], nodes["top"]
    before = feed(nodes)
    old, new = (key.kid for key in rotation.prepare(middle.layout).note_keys.keys)
    await top.administer([supplier("wholesale", middle, "top")])
    assert feed(nodes) == before  # neither connected anew nor judged anew
    rotation.switch(middle.layout)
    await until(lambda: kid(nodes) == new)
    assert feed(nodes).state.name == FeedState.LIVE.name
    assert feed(nodes).since == before.since
    rotation.retire(middle.layout)
    await top.administer([supplier("wholesale", middle, "top")])
    assert feed(nodes).note(nodes.clock.now()) is not None
    assert (await ann.order("web", chain())).state is ServiceState.ACTIVE
    assert old != new


async def test_a_key_that_is_trusted_no_more_takes_what_it_signed_with_it(nodes: Nodes, ann: Customer) -> None:
    middle, top = nodes["middle"], nodes["top"]
    rotation.prepare(middle.layout)
    compromised = supplier("wholesale", middle, "top")
    compromised["anchor"]["note_keys"]["keys"] = compromised["anchor"]["note_keys"]["keys"][1:]
    await top.administer([compromised])
    assert feed(nodes).note(nodes.clock.now()) is None
    assert "UNKNOWN_KEY" in feed(nodes).refusal
    assert isinstance(await ann.reserve("web", chain()), Refused)
    rotation.switch(middle.layout)
    await until(lambda: feed(nodes).note(nodes.clock.now()) is not None)
    assert (await ann.order("again", chain())).state is ServiceState.ACTIVE
