"""The tables of states are complete, and everything else follows them."""

from __future__ import annotations

import pytest

from broker.orders import delivering, placing, reserving, stuck
from broker.orders.schedules import Workflows
from broker.orders.states import AS_SERVICE, TRANSITIONS, Event, IllegalTransition, SegmentState, after, mermaid
from broker.orders.states import NEWER as NEWER_STATES
from broker.orders.tasks import NEWER, TASKS, WORKFLOWS
from service_model.outcomes import ServiceState

UNUSED = {ServiceState.UNSPECIFIED}


def test_every_state_has_a_workflow_and_every_task_of_it_exists() -> None:
    assert placing.place is TASKS["place"]
    assert reserving.hold is TASKS["hold"]
    assert delivering.commit is TASKS["commit"]
    assert stuck.stick is TASKS["stick"]
    assert set(WORKFLOWS) == set(ServiceState) - UNUSED
    assert {task for flows in (WORKFLOWS, NEWER) for tasks in flows.values() for task in tasks} <= set(TASKS)


def test_every_task_stands_in_a_schedule_of_all_services_or_of_those_that_name_a_manager() -> None:
    assert {slot.name for _, schedule, _ in Workflows().all() for slot in schedule} == set(TASKS)


def test_every_state_can_be_reached_and_left_but_the_last() -> None:
    reached, todo = {ServiceState.RESERVING}, [ServiceState.RESERVING]
    while todo:
        state = todo.pop()
        for (start, _), end in TRANSITIONS.items():
            if start is state and end not in reached:
                reached.add(end)
                todo.append(end)
    assert reached == set(ServiceState) - UNUSED
    assert {start for start, _ in TRANSITIONS} == reached - {ServiceState.TERMINATED}


@pytest.mark.parametrize("state", [s for s in ServiceState if s not in UNUSED])
def test_terminate_is_possible_from_everywhere_but_the_end(state: ServiceState) -> None:
    ended = state in (ServiceState.TERMINATING, ServiceState.STUCK, ServiceState.TERMINATED)
    assert ((state, Event.TERMINATE) in TRANSITIONS) is not ended


@pytest.mark.parametrize("state", list(ServiceState))
@pytest.mark.parametrize("event", list(Event))
def test_an_illegal_transition_names_state_and_event(state: ServiceState, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransition, match=rf"{state.short}.*{event.value}"):
        after(state, event)


def test_every_state_of_a_segment_reads_as_one_of_a_service() -> None:
    assert set(AS_SERVICE) == set(SegmentState)


def test_the_diagram_is_the_table() -> None:
    lines = mermaid().splitlines()
    assert len(lines) == 2 + len(TRANSITIONS)
    assert "    ACTIVE --> DEGRADED: degrade" in lines


def test_every_state_of_a_newer_version_has_a_workflow_and_is_one_of_a_service() -> None:
    states = {ServiceState.RESERVING, *NEWER_STATES.values()}
    assert states == set(NEWER)
    assert {start for start, _ in NEWER_STATES} == states - {ServiceState.ACTIVE}
    assert not {event for _, event in NEWER_STATES} & {Event.TERMINATE, Event.DEGRADE, Event.STICK}
