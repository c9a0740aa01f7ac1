"""Orders with tasks of an operator's plugins in their schedules, on stacked brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from broker.orders.decisions import Decision, ManagerTerms
from broker.orders.healing import heal
from broker.orders.placing import place
from broker.orders.records import Order
from broker.orders.retrying import refuse
from broker.orders.schedules import CannotSchedule, Change, Plugin, Workflows, into
from broker.orders.sizing import scaling_of
from broker.orders.tasks import Env, Pause
from lower_sp_clients.supplier import OutcomeUnknown
from service_model.flavours import Flavour
from service_model.managing import DecisionOutcome, FunctionFlavour, ManagerTask, Scaling
from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode, Refused, Reserved, ServiceState
from service_model.spec import ServiceSpec
from tests.support.orders import CTX, active
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

MANY = LabelSet(((10, 20),))
SIZES = tuple(
    Flavour(name=name, units=units, price=Price(per_hour=Decimal("0.3"))) for name, units in (("s", 1), ("large", 3))
)
TOP = Sp(
    "top",
    (
        Site("west", uni=MANY),
        Either((Site("cheap", ("firewall",)), Site("dear", ("firewall",), cost=3, flavours=SIZES))),
        Site("east", uni=MANY),
    ),
    pools=(POOL,),
)
SPEC = chain("west.uni", "east.uni", "firewall")
NAMED = replace(SPEC, managers=("mine",))


@into(ServiceState.RESERVING, before="hold")
def no_fridays(order: Order, env: Env) -> Order | Pause:
    """Nothing is held on a Friday."""
    if env.now.weekday() != 4:
        return order
    return refuse(order, env.now, Reason(code=ReasonCode.NOT_IN_SERVICE, message="not on a Friday"))


@into(ServiceState.RESERVING, instead_of="place")
def place_dear(order: Order, env: Env) -> Order | Pause:
    """As `place`, but functions are at the dear place."""
    spec = order.spec
    if spec is None or order.plan is not None:
        return order
    there = replace(spec, functions=tuple(replace(f, places=("DEAR",)) for f in spec.functions))
    found = place(replace(order, spec=there), env)
    return (
        replace(found, order=replace(found.order, spec=spec)) if isinstance(found, Pause) else replace(found, spec=spec)
    )


@into(ServiceState.RESERVING, before="place")
def large_ones(order: Order, env: Env) -> Order | Pause:
    """Firewalls are large, if nobody said what they are."""
    if scaling_of(order) is not None or order.spec is None or order.quoted is not None:
        return order
    choice = Scaling(flavours=tuple(FunctionFlavour(function=f.id, flavour="large") for f in order.spec.functions))
    made = Decision(
        at=env.now,
        manager="house",
        task=ManagerTask.SCALE,
        number=0,
        outcome=DecisionOutcome.CHOSEN,
        detail="large",
        choice=choice,
    )
    return replace(order, decisions=(*order.decisions, made))


def plugin(*changes: Change, name: str = "house") -> Plugin:
    return Plugin(name=name, distribution="house-tasks", version="1.0", changes=changes)


class Plugged(Stack):
    def __init__(self, directory: Path, *everywhere: Plugin, named: tuple[Plugin, ...] = ()) -> None:
        super().__init__(TOP, directory)
        self.node = self.nodes["top"]
        self.node.workflows = Workflows(everywhere, named)
        mine = ManagerTerms(document="doc", plugin="house")
        self.node.terms = replace(self.node.terms, managers={"mine": mine})

    async def reserve(self, spec: ServiceSpec = SPEC, ref: str = "r") -> Reserved | Refused:
        task = asyncio.ensure_future(self.customer().reserve(ref, 1, spec, CTX))
        await self.until(task.done, step=0.1)
        return task.result()

    def where(self, ref: str = "r") -> set[str]:
        return {part.place for part in self.broker("top").status("alice", ref).segments if part.functions}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Plugged]:
    """With both tasks for every service."""
    async with Plugged(tmp_path, plugin(no_fridays, place_dear)) as stack:
        yield stack


async def test_a_task_that_was_put_in_decides_where_it_stands(house: Plugged) -> None:
    while house.clock.now().weekday() != 4:
        house.clock.advance(timedelta(days=1).total_seconds())
    refused = await house.reserve()
    assert isinstance(refused, Refused)
    assert [r.message for r in refused.reasons] == ["not on a Friday"]
    assert all(not vim.holds() for vim in house.vims()), "it stands before anything is held"
    house.clock.advance(timedelta(days=1).total_seconds())
    assert isinstance(await house.reserve(ref="saturday"), Reserved)


async def test_a_task_that_is_instead_of_another_is_run_in_its_place_through_a_whole_life(house: Plugged) -> None:
    await active(house, SPEC)
    assert house.where() == {"DEAR"}
    await house.restart("top")
    assert house.where() == {"DEAR"}
    await house.customer().terminate("r", CTX)
    await house.ends_empty()


async def test_a_plugin_for_managers_is_run_for_services_that_name_it_alone(tmp_path: Path) -> None:
    async with Plugged(tmp_path, named=(plugin(place_dear),)) as stack:
        assert isinstance(await stack.reserve(SPEC, "plain"), Reserved)
        assert isinstance(await stack.reserve(NAMED, "named"), Reserved)
        assert (stack.where("plain"), stack.where("named")) == ({"CHEAP"}, {"DEAR"})


async def test_a_broker_without_the_plugin_of_a_service_does_not_start_until_that_is_over(tmp_path: Path) -> None:
    async with Plugged(tmp_path, named=(plugin(place_dear),)) as stack:
        await active(stack, NAMED)
        await stack.stop("top")
        loaded, stack.node.workflows = stack.node.workflows, Workflows()
        with pytest.raises(
            CannotSchedule, match="service 'r' of 'alice': plugin 'house' of manager 'doc' is not loaded"
        ):
            await stack.start("top")
        await stack.node.close()
        stack.node.workflows = loaded
        await stack.start("top")
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
        stack.node.workflows = Workflows()
        await stack.restart("top")
        assert stack.state() is ServiceState.TERMINATED


async def test_a_service_that_names_a_plugin_which_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    async with Plugged(tmp_path) as stack:
        refused = await stack.reserve(NAMED)
        assert isinstance(refused, Refused)
        (reason,) = refused.reasons
        assert (reason.code, reason.subject) == (ReasonCode.MANAGER_NOT_ALLOWED, "mine")
        assert reason.message == "plugin 'house' of manager 'doc' is not loaded"


async def test_a_task_that_fails_loses_nothing_that_was_recorded_and_is_told_by_name(tmp_path: Path) -> None:
    broken = [True]

    @into(ServiceState.COMMITTING, before="commit")
    def fragile(order: Order, env: Env) -> Order | Pause:
        """Fails while it is broken."""
        if broken[0]:
            raise ZeroDivisionError("by zero")
        return order

    async with Plugged(tmp_path, plugin(fragile)) as stack:
        held = await stack.reserve()
        assert isinstance(held, Reserved)
        commit = asyncio.ensure_future(stack.customer().commit("r", 1, held.choice, CTX))
        await stack.until(commit.done, step=0.1)
        with pytest.raises(
            OutcomeUnknown, match=r"task 'fragile' of plugin house \(house-tasks 1\.0\): ZeroDivisionError"
        ):
            commit.result()
        assert stack.state() is ServiceState.RESERVED
        broken[0] = False
        again = asyncio.ensure_future(stack.customer().commit("r", 1, held.choice, CTX))
        await stack.until(again.done, step=0.1)
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE)
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


@into(ServiceState.DEGRADED, instead_of="heal")
def heal_on_saturdays(order: Order, env: Env) -> Order | Pause:
    """As `heal`, but on Saturdays."""
    return heal(order, env) if env.now.weekday() == 5 else Pause(order, wake=env.now + timedelta(hours=1))


async def test_a_plugin_may_say_what_size_functions_are(tmp_path: Path) -> None:
    async with Plugged(tmp_path, plugin(large_ones)) as stack:
        await active(stack, SPEC)
        (hold,) = (h for vim in stack.vims() for h in vim.holds() if h.spec and h.spec.functions)
        assert hold.spec is not None
        assert ([f.flavour for f in hold.spec.functions], hold.units) == (["large"], {"f0": 3})
        assert stack.where() == {"DEAR"}, "where there are large ones"
        assert [d.detail for d in stack.broker("top").status("alice", "r").decisions] == ["large"]


async def test_a_plugin_may_decide_when_a_service_is_healed(tmp_path: Path) -> None:
    async with Plugged(tmp_path, plugin(heal_on_saturdays)) as stack:
        stack.node.terms = replace(stack.node.terms, heal_loss=Decimal(5))
        while stack.clock.now().weekday() != 4:
            stack.clock.advance(timedelta(days=1).total_seconds())
        await active(stack, SPEC)
        lost = next(s for s in stack.broker("top").orders()[0].segments if s.wanted and s.alias == "cheap")
        await stack.line("top", "cheap").fails(lost.ref)
        await stack.until(lambda: stack.state() is ServiceState.DEGRADED)
        await stack.pass_time(3600 * 12, step=600)
        assert stack.where() == {"CHEAP"}
        stack.clock.advance(timedelta(hours=12).total_seconds())
        await stack.until(lambda: stack.where() == {"DEAR"} and stack.state() is ServiceState.ACTIVE, step=0.1)
