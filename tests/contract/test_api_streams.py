"""Streams of events and of notes over the wire."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import pytest

from broker.northbound.calls import LAST_CALLS_S
from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import Interest, OutcomeUnknown
from service_model.outcomes import (
    Event,
    ServiceState,
)
from spbroker.v1 import broker_service_pb2 as pb
from spbroker.v1 import outcome_pb2
from tests.support.api_calls import (
    CTX,
    SPEC,
    next_of,
    people,
    signed,
    token_of,
    until,
)
from tests.support.api_node import ApiNode


async def test_events_begin_with_a_bookmark_and_resume_behind_a_token(node: ApiNode, remote: RemoteSp) -> None:
    async with aclosing(cast(Any, remote.watch(""))) as events:
        first = await next_of(events)
        assert first.status is None
        await remote.reserve("r-1", 1, SPEC, CTX)
        held: Event = await next_of(events)
        assert held.status is not None
        assert (held.status.ref, held.status.state) == ("r-1", ServiceState.RESERVED)
    await remote.terminate("r-1", CTX)
    async with aclosing(cast(Any, remote.watch(held.token))) as events:
        assert (await next_of(events)) == Event(token=held.token)
        assert (await next_of(events)).status.state is ServiceState.TERMINATED


async def test_a_resumed_stream_may_ask_for_something_else(node: ApiNode, remote: RemoteSp) -> None:
    async with aclosing(cast(Any, remote.watch(""))) as events:
        start = await next_of(events)
    await remote.reserve("r-1", 1, SPEC, CTX)
    await remote.terminate("r-1", CTX)
    over = Interest(states=frozenset({ServiceState.TERMINATED}))
    async with aclosing(cast(Any, remote.watch(start.token, over))) as events:
        assert (await next_of(events)).status is None
        assert (await next_of(events)).status.state is ServiceState.TERMINATED


async def test_a_state_of_a_newer_release_is_one_that_no_service_is_in(node: ApiNode) -> None:
    ann = await token_of(node, "ann")
    request = pb.WatchServicesRequest(states=[cast(Any, 4711), outcome_pb2.SERVICE_STATE_TERMINATED])
    call = people(node).WatchServices(request, metadata=ann)
    assert not (await asyncio.wait_for(call.read(), 20)).event.HasField("status")
    await node.suppliers["ann"].reserve("r-1", 1, SPEC, CTX)
    await node.suppliers["ann"].terminate("r-1", CTX)
    told = (await asyncio.wait_for(call.read(), 20)).event.status
    assert told.state == outcome_pb2.SERVICE_STATE_TERMINATED
    call.cancel()


async def test_a_stream_ends_with_its_token(node: ApiNode, remote: RemoteSp) -> None:
    async with aclosing(cast(Any, remote.watch(""))) as events:
        await next_of(events)
        node.clock.move(node.authenticator.lifetime_s)
        await node.suppliers["sp-a"].release("r-1", 1, CTX)
        await node.suppliers["sp-a"].terminate("r-1", CTX)
        with pytest.raises(OutcomeUnknown, match="TOKEN_EXPIRED"):
            await next_of(events)


async def test_notes_flow_and_a_bad_one_is_passed_over(node: ApiNode, remote: RemoteSp) -> None:
    supplier = node.suppliers["sp-a"]
    await supplier.publish(signed(1))
    async with aclosing(cast(Any, remote.notes())) as notes:
        assert (await next_of(notes)) == signed(1)
        following = asyncio.ensure_future(next_of(notes))
        await supplier.publish(replace(signed(2), jws="bad-2"))
        await supplier.publish(signed(3))
        assert (await following) == signed(3)


async def test_notes_resume_after_a_break_without_repeating(node: ApiNode, remote: RemoteSp) -> None:
    await node.suppliers["sp-a"].publish(signed(1))
    async with aclosing(cast(Any, remote.notes())) as notes:
        assert (await next_of(notes)).note.edition == 1
        assert remote.feed_broken_since is None
        following = asyncio.ensure_future(next_of(notes))
        assert node.server is not None
        port = node.server.ports["partners"]
        await node.server.stop(0.5)
        await until(lambda: remote.feed_broken_since is not None)
        await node.start(port)
        await until(lambda: remote.feed_broken_since is None)  # connected again, and not given edition 1 a second time
        await node.suppliers["sp-a"].publish(signed(2))
        assert (await following).note.edition == 2
    pauses = [s for s in node.clock.slept if s != LAST_CALLS_S]  # the server's own, while it stops
    assert pauses[0] == 1.0
    assert max(pauses) <= 60.0


async def test_a_note_stream_tells_snapshot_changes_and_a_useless_token(node: ApiNode) -> None:
    ann, stub = await token_of(node, "ann"), people(node)
    await node.suppliers["ann"].publish(signed(5))
    stream = stub.WatchCapabilityNotes(pb.WatchCapabilityNotesRequest(), metadata=ann)
    first = [await stream.read() for _ in range(3)]
    assert [m.WhichOneof("kind") for m in first] == ["note", "snapshot_end", "bookmark"]
    token = first[2].bookmark.token
    for resume, kinds in (
        (token, ["snapshot_end", "bookmark"]),
        ("4.abc", ["note", "snapshot_end", "bookmark"]),
        ("9.abc", ["start_again", "note", "snapshot_end", "bookmark"]),
        ("?", ["start_again", "note", "snapshot_end", "bookmark"]),
    ):
        again = stub.WatchCapabilityNotes(pb.WatchCapabilityNotesRequest(resume_token=resume), metadata=ann)
        assert [(await again.read()).WhichOneof("kind") for _ in kinds] == kinds
    answer = await stub.GetCapabilityNote(pb.GetCapabilityNoteRequest(), metadata=ann)
    assert answer.note.jws == "good-5"
