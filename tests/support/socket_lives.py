"""Orders from reservation to their end over processes and sockets, whatever happens to these meanwhile: what `lives` is in one
process.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from service_model.healing import HealPhase, HealPolicy
from service_model.managing import DecisionOutcome
from service_model.outcomes import Committed, ReasonCode, Refused, Reserved, ServiceState, ServiceStatus
from service_model.spec import ServiceSpec
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.lives import A_WHILE_S, KEPT, KINDS, LONGER_S, ONE_PART, ONE_SIZE, ONE_TRUTH, WAITS_S, Late
from tests.support.mortal_node import Died
from tests.support.trees import LARGE

if TYPE_CHECKING:
    from tests.support.killing import Federation

CALL_S = 10.0
STEP_S = 0.1
VERSIONS = 40
BANDWIDTH_BPS = 10**7
BEGINS, ENDS = timedelta(seconds=20), timedelta(seconds=300)
"""A scheduled life is to begin so long after it is asked for, and to end."""
_LIVE = frozenset({ServiceState.COMMITTING, ServiceState.ACTIVATING, ServiceState.ACTIVE})


class Life:
    """One order of ann's, step by step as KINDS says."""

    def __init__(self, federation: Federation, ref: str) -> None:
        self._all, self._ref = federation, ref
        self._version = 0
        self._held: Reserved | None = None
        self._ends = 0.0
        self._spec = self._ordered = federation.tree.spec
        self._lost: tuple[str, str, list[str]] | None = None
        """The node and its part of which something was lost, and the functions that it has to have."""
        self._failed = ""
        """The node whose part is lost for good."""

    async def lived(self, kind: str) -> None:
        with suppress(Late):
            for step in KINDS[kind]:
                await getattr(self, step)()

    async def modify(self) -> None:
        """With a bandwidth, where it had none of its own: every domain has other than before."""
        await self.reserve(replace(self._spec, bandwidth_bps=BANDWIDTH_BPS))

    async def reserve_sized(self) -> None:
        """A manager says what size its meter is, if it is heard."""
        await self.reserve()

    async def modify_sized(self) -> None:
        """The manager is asked again."""
        await self.modify()

    async def reserve_ahead(self) -> None:
        now = self._all.time()
        self._spec = replace(self._spec, start_time=now + BEGINS, end_time=now + ENDS)
        await self.reserve()

    async def reserve_asking(self) -> None:
        """What is lost of it is healed when its customer says so."""
        self._spec = replace(self._spec, healing=HealPolicy.ASK)
        await self.reserve()

    async def run_out(self) -> None:
        """Until it is over, which is not before its time and not long after."""
        end = self._spec.end_time
        assert end is not None
        self._all.hurries(True)
        over = False
        while not over:
            await self._all.all_up()
            status = await self._all.asked(lambda: self._all.ann.status(self._ref))
            over = status.state in (ServiceState.TERMINATING, ServiceState.TERMINATED)
            assert over or self._all.time() < end + timedelta(seconds=120), "it goes on after its end"
            await asyncio.sleep(STEP_S)
        self._all.hurries(False)
        assert self._all.time() >= end, "it was ended before its time"

    async def reserve(self, spec: ServiceSpec | None = None) -> None:
        answer: object = None
        self._ordered = spec or self._spec
        while not isinstance(answer, Reserved):
            assert not isinstance(answer, Refused) or self._version < VERSIONS, answer.reasons
            if answer is not None:
                await self._all.all_up()
                await asyncio.sleep(0.5)
            self._version += 1
            answer = await self._all.asked(
                lambda: self._all.ann.reserve(self._ref, self._ordered, self._version, CALL_S)
            )
        self._held = answer
        self._ends = self._all.now() + answer.remaining_s

    async def wait(self) -> None:
        """As customers do before they make up their minds."""
        until = self._all.now() + WAITS_S
        self._all.hurries(True)
        while self._all.now() < until:  # noqa: ASYNC110  the nodes' clocks
            await asyncio.sleep(STEP_S)
        self._all.hurries(False)

    async def extend(self) -> None:
        """Until it is held so long. Who is refused keeps what it had."""
        granted_s = 0.0
        while granted_s < LONGER_S - A_WHILE_S:
            answer = await self._call("ExtendReservation", pb.ExtendReservationRequest(seconds=LONGER_S))
            if answer.WhichOneof("outcome") != "reserved":
                return
            granted_s = answer.reserved.remaining_s
            self._ends = self._all.now() + granted_s
            await asyncio.sleep(STEP_S)

    async def release(self) -> None:
        await self._call("ReleaseReservation", pb.ReleaseReservationRequest())

    async def _call(self, method: str, request: Any) -> Any:
        request.ref, request.version = self._ref, self._version
        return await self._all.asked(lambda: self._all.ann._call(method, request, CALL_S))

    async def commit(self) -> None:
        """Raises Late where the hold is over by then, which is told so and leaves nothing."""
        told = await self._all.asked(lambda: self._all.ann.commit(self._ref, self._version, CALL_S))
        if isinstance(told, Refused) and self._all.now() >= self._ends - 1:
            assert told.reasons[0].code is ReasonCode.HOLD_EXPIRED, told
            raise Late
        self._all.checked[KEPT] += 1
        assert told == Committed(ref=self._ref, version=self._version), told

    async def terminate(self) -> None:
        await self._all.asked(lambda: self._all.ann.terminate(self._ref, CALL_S))

    async def deliver(self) -> None:
        """Until it is active; then what its customer is told is what is there, at every level."""
        assert self._held is not None
        while True:
            status = await self._all.asked(lambda: self._all.ann.status(self._ref))
            if status.state is ServiceState.ACTIVE and status.version == self._version and await self._whole():
                break
            may_break = bool(self._failed) or self._lost is not None
            assert status.state in _LIVE or (status.state is ServiceState.DEGRADED and may_break), status
            await self._wants_it_healed(status)
            await asyncio.sleep(STEP_S)
        assert (status.choice, status.price) == (self._held.choice, self._held.price)
        while True:  # a node may die just now
            await self._all.all_up()
            with suppress(Died):
                built = await self._built(self._all.top, "ann", self._ref)
                is_known = tuple(built) in self._all.tree.built
                if not is_known and self._failed:  # what goes elsewhere while it works is ACTIVE, and being changed
                    await asyncio.sleep(STEP_S)
                    continue
                self._all.checked.update((ONE_TRUTH, ONE_PART))
                assert is_known, built
                charged = await self._all.nodes[self._all.top].ask("charged", account="ann", ref=self._ref)
                assert charged > 0, "what is delivered is charged"
                if self._all.tree.managed is not None:
                    await self._sized(status)
                return
            await asyncio.sleep(STEP_S)

    async def _sized(self, told: ServiceStatus) -> None:
        (decision,) = told.decisions
        assert decision.outcome in (DecisionOutcome.CHOSEN, DecisionOutcome.FALLBACK), decision
        node, part = await self._lowest()
        self._all.checked[ONE_SIZE] += 1
        chosen = [LARGE, 2] if decision.outcome is DecisionOutcome.CHOSEN else [None, 1]
        assert await self._ask(node, "sizes", segment=part) == [chosen]

    async def lose(self) -> None:
        """The lowest domain loses the function that it has of it: it finds that out, and builds it again."""
        node, part = await self._lowest()
        whole = await self._ask(node, "functions", segment=part)
        await self._ask(node, "lose", segment=part, function=whole[0])
        self._lost = node, part, whole

    async def fail(self) -> None:
        """The lowest domain loses what it has of it, and cannot build it again."""
        node, part = await self._lowest()
        await self._ask(node, "ruin", segment=part)
        self._failed = node

    async def flap(self) -> None:
        """The lowest domain loses the function that it has of it, and builds it again, until that is bought elsewhere."""
        node, part = await self._lowest()
        self._failed = node
        whole = await self._ask(node, "functions", segment=part)
        while (await self._lowest())[0] == node:
            if await self._ask(node, "functions", segment=part) == whole:
                await self._ask(node, "lose", segment=part, function=whole[0])
            await self._wants_it_healed(await self._all.asked(lambda: self._all.ann.status(self._ref)))
            await asyncio.sleep(STEP_S)

    async def _wants_it_healed(self, told: ServiceStatus) -> None:
        """Also when that was tried in vain as often as it is."""
        if told.healing is not None and told.healing.phase is HealPhase.GIVEN_UP:
            await self._heal()

    async def wish(self) -> None:
        """It is healed when its customer is told that it waits for that."""
        while True:
            told = (await self._all.asked(lambda: self._all.ann.status(self._ref))).healing
            if told is not None and told.phase is HealPhase.WAITING:
                await self._heal()
                return
            await asyncio.sleep(STEP_S)

    async def _heal(self) -> None:
        request = pb.HealServiceRequest(ref=self._ref)
        await self._all.asked(lambda: self._all.ann._call("HealService", request, CALL_S))

    async def _ask(self, node: str, name: str, **given: Any) -> Any:
        """Until the node is there to answer."""
        while True:
            await self._all.all_up()
            with suppress(Died):
                return await self._all.nodes[node].ask(name, **given)
            await asyncio.sleep(STEP_S)

    async def _lowest(self) -> tuple[str, str]:
        """The node at the end of the line of those that buy of another, and its own part."""
        node, account, ref = self._all.top, "ann", self._ref
        while True:
            parts = (await self._ask(node, "order", account=account, ref=ref))["parts"]
            bought = next((part for part in parts if not part["own"]), None)
            if bought is None:
                return node, parts[0]["ref"]
            node, account, ref = self._all.tree.sellers[bought["alias"]], node, bought["ref"]

    async def _whole(self) -> bool:
        """Whether all of what was lost is there again, and nothing of it is where it is lost for good."""
        if self._failed:
            return (await self._lowest())[0] != self._failed
        if self._lost is None:
            return True
        node, part, functions = self._lost
        return bool(await self._ask(node, "whole", segment=part, functions=functions))

    async def _built(self, level: str, account: str, ref: str) -> list[str]:
        """The domains that have exactly one live part of it, as it was ordered last, and have built that."""
        order, found = await self._all.nodes[level].ask("order", account=account, ref=ref), []
        for part in order["parts"]:
            if part["own"]:
                assert part["states"] == ["ACTIVE"], (level, part)
                assert part["bandwidth"] == [self._ordered.bandwidth_bps], (level, part)
                assert part["built"], (level, part)
                found.append(f"{level}/{part['alias']}")
            else:
                found += await self._built(self._all.tree.sellers[part["alias"]], level, part["ref"])
        return sorted(found)
