"""The schedules of tasks: what is built in, what plugins and managers change, and what cannot be changed so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.orders.decisions import ManagerTerms
from broker.orders.records import Order, Terms
from broker.orders.schedules import CannotSchedule, Change, Plugin, TaskFailed, Workflows, clashes, into
from broker.orders.tasks import TASKS, WORKFLOWS, Env, Pause, advance
from service_model.managing import ManagerTask
from service_model.outcomes import ReasonCode, ServiceState
from tests.support.sites import chain

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESERVING, RESERVED = ServiceState.RESERVING, ServiceState.RESERVED
ORDER = Order(
    id="i", account="alice", ref="r", version=1, state=RESERVING, created=NOW, updated=NOW, spec=chain("a", "b")
)


@into(RESERVING, before="hold")
def waits(order: Order, env: Env) -> Order | Pause:
    """Nothing is held before noon."""
    return Pause(order)


@into(RESERVING, after="hold")
def looks(order: Order, env: Env) -> Order | Pause:
    return order


@into(RESERVING, RESERVED, instead_of="release")
def keeps(order: Order, env: Env) -> Order | Pause:
    """Nothing is given back."""
    return order


@into(RESERVING, instead_of="place")
def elsewhere(order: Order, env: Env) -> Order | Pause:
    return order


def plugin(*changes: Change, name: str = "office") -> Plugin:
    return Plugin(name=name, distribution="acme-tasks", version="1.2", changes=changes)


def names(workflows: Workflows, state: ServiceState = RESERVING, *managers: ManagerTerms) -> list[str]:
    return [slot.name for slot in workflows.of(managers)[state]]


def decides(*what: ManagerTask) -> ManagerTerms:
    return ManagerTerms(document="doc", decides=what)


def test_without_plugins_the_schedules_are_those_that_are_built_in() -> None:
    workflows = Workflows()
    assert {state: tuple(names(workflows, state)) for state in WORKFLOWS} == WORKFLOWS
    assert list(workflows(ORDER)) == [TASKS[name] for name in WORKFLOWS[RESERVING]]


def test_a_task_stands_before_after_or_instead_of_another_in_each_of_its_states() -> None:
    workflows = Workflows([plugin(waits, looks, keeps)])
    reserving = names(workflows)
    at = reserving.index("hold")
    assert reserving[at - 1 : at + 2] == ["waits", "hold", "looks"]
    assert "release" not in reserving
    assert names(workflows, RESERVED) == ["prolong", "keeps", "expire"]
    assert names(workflows, ServiceState.EXPIRED) == list(WORKFLOWS[ServiceState.EXPIRED])


def test_a_place_keeps_its_name_so_that_another_plugin_finds_it() -> None:
    @into(RESERVING, before="release")
    def tells(order: Order, env: Env) -> Order | Pause:
        return order

    reserving = names(Workflows([plugin(keeps), plugin(tells, name="second")]))
    assert reserving[reserving.index("tells") + 1] == "keeps"


def test_a_task_of_a_plugin_is_run_where_it_stands() -> None:
    env = Env(now=NOW, snapshot=None, allocate=None, identify=None, lexicon=None)  # type: ignore[arg-type]

    @into(RESERVING, before="place")
    def first(order: Order, env: Env) -> Order | Pause:
        return Pause(order, wake=NOW)

    assert advance(ORDER, env, Workflows([plugin(first)])) == Pause(ORDER, wake=NOW)


@pytest.mark.parametrize("what", [{}, {"before": "hold", "after": "hold"}], ids=["none", "two"])
def test_a_task_has_just_one_place(what: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="one of before, after and instead_of"):
        into(RESERVING, **what)(waits.task)
    with pytest.raises(ValueError, match="has its states"):
        into(before="hold")(waits.task)


def test_a_place_that_there_is_not_is_named_with_those_that_there_are() -> None:
    late = replace(waits, before="lunch", states=(RESERVED,))
    with pytest.raises(CannotSchedule) as refused:
        Workflows([plugin(late)])
    assert str(refused.value) == (
        "plugin office (acme-tasks 1.2): task 'waits': no task 'lunch' in RESERVED, but prolong, release, expire"
    )


def test_a_place_is_filled_anew_once() -> None:
    with pytest.raises(CannotSchedule, match=r"second .*'keeps': plugin office .* is instead of 'release' already"):
        Workflows([plugin(keeps), plugin(replace(keeps), name="second")])


def test_a_name_stands_once_in_a_schedule() -> None:
    with pytest.raises(CannotSchedule, match="there is a task of this name in RESERVING"):
        Workflows([plugin(waits), plugin(replace(waits), name="second")])


def test_a_plugin_for_managers_changes_the_schedules_of_those_alone_that_name_it() -> None:
    workflows = Workflows(named=[plugin(waits)])
    named = ManagerTerms(document="noon", plugin="office")
    assert "waits" not in names(workflows)
    assert "waits" in names(workflows, RESERVING, named)
    terms = Terms(managers={"mine": named})
    order = replace(ORDER, terms=terms, spec=replace(ORDER.spec, managers=("mine",)))  # type: ignore[type-var]
    assert len(workflows(order)) == len(workflows(replace(ORDER, terms=terms))) + 1


def test_a_service_needs_its_plugin_until_it_is_over() -> None:
    terms = Terms(managers={"mine": ManagerTerms(document="noon", plugin="office")})
    order = replace(ORDER, terms=terms, spec=replace(ORDER.spec, managers=("mine",)))  # type: ignore[type-var]
    with pytest.raises(CannotSchedule, match="plugin 'office' of manager 'noon' is not loaded"):
        Workflows()(order)
    assert Workflows()(replace(order, state=ServiceState.EXPIRED))


def test_what_a_manager_decides_changes_the_schedule_of_its_service() -> None:
    workflows = Workflows()
    assert names(workflows, RESERVING, decides(ManagerTask.PLACE))[:2] == ["place_by_manager", "address"]
    sized = ["scale_by_manager", "place_by_manager", "address"]
    assert names(workflows, RESERVING, decides(ManagerTask.SCALE))[:3] == sized
    assert names(workflows, RESERVING, decides(ManagerTask.PLACE, ManagerTask.SCALE))[:3] == sized
    assert names(workflows, RESERVING, decides(ManagerTask.SCALE), decides(ManagerTask.PLACE))[:3] == sized
    both = names(workflows, RESERVING, decides(ManagerTask.ADDRESS, ManagerTask.CONFIGURE))
    assert both[:4] == ["place", "ask_addresses", "ask_parameters", "address_as_decided"]
    assert both.count("overrule") == 1
    assert both.index("overrule") < both.index("crank_back")


def test_a_plugin_that_places_and_a_manager_that_does_do_not_go_together() -> None:
    workflows = Workflows([plugin(elsewhere)])
    spec = replace(ORDER.spec, managers=("mine",))  # type: ignore[type-var]
    (reason,) = clashes(spec, Terms(managers={"mine": decides(ManagerTask.PLACE)}), workflows)  # type: ignore[arg-type]
    assert (reason.code, reason.subject) == (ReasonCode.MANAGER_NOT_ALLOWED, "mine")
    assert "plugin office (acme-tasks 1.2) is instead of 'place' already" in reason.message


@pytest.mark.parametrize("result", ["raises", "returns"])
def test_a_task_that_fails_is_named_with_its_plugin(result: str) -> None:
    @into(RESERVING, before="place")
    def bad(order: Order, env: Env) -> Order | Pause:
        if result == "raises":
            raise ZeroDivisionError("by zero")
        return None  # type: ignore[return-value]

    (task, *_) = Workflows([plugin(bad)])(ORDER)
    with pytest.raises(TaskFailed, match=r"task 'bad' of plugin office \(acme-tasks 1\.2\)"):
        task(ORDER, None)  # type: ignore[arg-type]


def test_every_task_says_what_it_does() -> None:
    assert all((task.__doc__ or "").strip() for task in TASKS.values())
