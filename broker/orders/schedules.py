"""The schedules of tasks as they are for one service: built in, changed by the operator's plugins and by the managers that its
spec names.

Theory of operation
- A schedule is a row of places, named after the tasks that are built in. A change inserts a task before or after a place, or puts
  one in the place of the task that stands there; the place keeps its name, so that other changes still find it.
- Plugins that were loaded for every service change the schedules of all. The others, and the managers that customers serve,
  change those of services that name them.
- A place is filled anew once. Who comes second is refused, by name: at start, or where a service names two that do not go
  together.
- A task of a plugin is one as any other: pure, over the recorded order. What it raises names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

# the tasks register themselves
import broker.orders.consulting
import broker.orders.contending
import broker.orders.delivering
import broker.orders.healing
import broker.orders.modifying
import broker.orders.placing
import broker.orders.remedying
import broker.orders.reserving
import broker.orders.scaling
import broker.orders.stuck  # noqa: F401
from broker.orders.decisions import ManagerTerms
from broker.orders.records import Order, Terms
from broker.orders.tasks import HEALING, NEWER, TASKS, WORKFLOWS, Env, Pause, Task, built_in
from lower_sp_clients.versions import OVER
from service_model.managing import ManagerTask
from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.spec import ServiceSpec

BUILT_IN = "built in"


class CannotSchedule(Exception):
    """A task that has no place in a schedule; the message names it, and who brought it."""


class TaskFailed(Exception):
    """A task of a plugin that raised, or returned what is no order; the message names both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A task for the schedules of `states`: before or after a place, or instead of the task at it. One of the three."""

    task: Task
    states: tuple[ServiceState, ...]
    before: str = ""
    after: str = ""
    instead_of: str = ""

    def __post_init__(self) -> None:
        given = [where for where in (self.before, self.after, self.instead_of) if where]
        if len(given) != 1 or not self.states:
            raise ValueError("a task has its states and one of before, after and instead_of")

    @property
    def name(self) -> str:
        return str(getattr(self.task, "__name__", "task"))

    @property
    def at(self) -> str:
        """The place that it refers to."""
        return self.before or self.after or self.instead_of


def into(*states: ServiceState, before: str = "", after: str = "", instead_of: str = "") -> Callable[[Task], Change]:
    """Register a task of a plugin: `@into(ServiceState.RESERVING, before="hold")`. The entry point leads to what it makes."""

    def made(task: Task) -> Change:
        return Change(task=task, states=states, before=before, after=after, instead_of=instead_of)

    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """What an entry point gave: its name, of which distribution, in which version."""

    name: str
    distribution: str
    version: str
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        return f"plugin {self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place in a schedule, the task that stands there, and who brought it."""

    place: str
    name: str
    task: Task
    origin: str


Schedule = tuple[Slot, ...]

_RESERVING = (ServiceState.RESERVING,)
_AS_ALONE = frozenset(state for state, names in NEWER.items() if names == WORKFLOWS[state])
"""Where a version beside a live one is worked on as if it stood alone, with plugins and managers. It is brought in by tasks that
are built in."""
_OVER = OVER | {ServiceState.REFUSED, ServiceState.EXPIRED}


def _changes_of(decided: ManagerTask) -> tuple[Change, ...]:
    def change(
        name: str, before: str = "", instead_of: str = "", states: tuple[ServiceState, ...] = _RESERVING
    ) -> Change:
        return Change(task=TASKS[name], states=states, before=before, instead_of=instead_of)

    decisions = (change("address_as_decided", instead_of="address"), change("overrule", before="crank_back"))
    match decided:
        case ManagerTask.PLACE:
            placed = change("place_by_manager", instead_of="place")
            return (placed, change("reconsider_as_placed", instead_of="reconsider"))
        case ManagerTask.ADDRESS:
            return (change("ask_addresses", before="address"), *decisions)
        case ManagerTask.CONFIGURE:
            return (change("ask_parameters", before="address"), *decisions)
        case ManagerTask.HEAL:
            live = (ServiceState.ACTIVE, ServiceState.DEGRADED)
            return (change("heal_by_manager", instead_of="heal", states=live),)
        case ManagerTask.SCALE:
            sized = (change("scale_by_manager", before="place"), change("place_by_manager", instead_of="place"))
            return (*sized, change("overrule_size", before="crank_back"))
        case _:
            return ()


class Workflows:
    """The schedules of every service. Called with an order it gives the tasks of its state."""

    def __init__(self, everywhere: Sequence[Plugin] = (), named: Sequence[Plugin] = ()) -> None:
        """`everywhere`: plugins for every service; `named`: for those that name a manager that is one. Raises CannotSchedule,
        also for a plugin that no service could name."""
        self.everywhere, self.named = tuple(everywhere), {plugin.name: plugin for plugin in named}
        self._base = _built_in(WORKFLOWS)
        for plugin in self.everywhere:
            self._base = _with(self._base, plugin)
        for plugin in self.named.values():
            _with(self._base, plugin)
        self._made: dict[tuple[tuple[str, tuple[ManagerTask, ...]], ...], Mapping[ServiceState, Schedule]] = {}

    def __call__(self, order: Order) -> Sequence[Task]:
        """Raises CannotSchedule where a plugin of a service that is not over is not loaded any more."""
        if order.newer and (order.state not in _AS_ALONE or (order.healed and order.state is ServiceState.RESERVED)):
            return built_in(order)
        named = named_by(order.spec, order.terms)
        if order.healed and order.newer:  # what customers' managers decided stands
            named = tuple(terms for terms in named if terms.plugin)
        if order.state in _OVER:
            named = tuple(terms for terms in named if not terms.plugin or terms.plugin in self.named)
        return [slot.task for slot in self.of(named)[order.state]]

    def of(self, managers: tuple[ManagerTerms, ...]) -> Mapping[ServiceState, Schedule]:
        """The schedules of a service that names these. Raises CannotSchedule where they do not go together."""
        key = tuple((terms.plugin, terms.decides) for terms in managers)
        known = self._made.get(key)
        if known is None:
            known = self._base
            for terms in managers:
                if terms.plugin:
                    known = _with(known, self._plugin(terms))
            for decided in dict.fromkeys(what for terms in managers for what in terms.decides):
                known = _with_all(known, _changes_of(decided), f"manager for {decided.short}")
            self._made[key] = known
        return known

    def _plugin(self, terms: ManagerTerms) -> Plugin:
        if terms.plugin not in self.named:
            raise CannotSchedule(f"plugin {terms.plugin!r} of manager {terms.document!r} is not loaded")
        return self.named[terms.plugin]

    def all(self) -> Iterable[tuple[ServiceState, Schedule, str]]:
        """Every schedule with whom it is for: "" for every service; else newer versions, healings, or those that name a manager,
        which is a plugin or decides something."""
        yield from ((state, schedule, "") for state, schedule in self._base.items())
        newer = _built_in({state: names for state, names in NEWER.items() if state not in _AS_ALONE})
        yield from ((state, schedule, "newer versions") for state, schedule in newer.items())
        heals = _built_in({state: names for state, names in HEALING.items() if names != NEWER[state]})
        yield from ((state, schedule, "healings") for state, schedule in heals.items())
        for plugin in self.named.values():
            yield from ((state, s, str(plugin)) for state, s in _with(self._base, plugin).items())
        for decided in (what for what in ManagerTask if what is not ManagerTask.UNSPECIFIED):
            terms = ManagerTerms(document="", decides=(decided,))
            try:
                yield from ((state, s, decided.short) for state, s in self.of((terms,)).items())
            except CannotSchedule:
                continue  # a plugin has the place


def _built_in(workflows: Mapping[ServiceState, tuple[str, ...]]) -> Mapping[ServiceState, Schedule]:
    return {
        state: tuple(Slot(place=name, name=name, task=TASKS[name], origin=BUILT_IN) for name in names)
        for state, names in workflows.items()
    }


def named_by(spec: ServiceSpec | None, terms: Terms) -> tuple[ManagerTerms, ...]:
    """The managers that a spec names, of those that its account may name."""
    return tuple(terms.managers[name] for name in (spec.managers if spec is not None else ()) if name in terms.managers)


def clashes(spec: ServiceSpec, terms: Terms, workflows: Workflows) -> Iterator[Reason]:
    """The managers that a spec names and that do not go together (MANAGER_NOT_ALLOWED)."""
    first: dict[ManagerTask, str] = {}
    for name in spec.managers:
        for what in terms.managers[name].decides:
            if (other := first.setdefault(what, name)) != name:
                message = f"managers {other!r} and {name!r} both decide {what.short}"
                yield Reason(code=ReasonCode.MANAGER_NOT_ALLOWED, message=message, subject=name)
    try:
        workflows.of(named_by(spec, terms))
    except CannotSchedule as error:
        yield Reason(code=ReasonCode.MANAGER_NOT_ALLOWED, message=str(error), subject=spec.managers[0])


def _with(schedules: Mapping[ServiceState, Schedule], plugin: Plugin) -> Mapping[ServiceState, Schedule]:
    changes = (replace(change, task=_guarded(change, plugin)) for change in plugin.changes)
    return _with_all(schedules, tuple(changes), str(plugin))


def _with_all(
    schedules: Mapping[ServiceState, Schedule], changes: tuple[Change, ...], origin: str
) -> Mapping[ServiceState, Schedule]:
    made = dict(schedules)
    for change in changes:
        for state in change.states:
            made[state] = _changed(made[state], state, change, origin)
    return made


def _changed(schedule: Schedule, state: ServiceState, change: Change, origin: str) -> Schedule:
    if any(slot.task is change.task for slot in schedule):
        return schedule  # it stands there already, for another manager
    names = [slot.place for slot in schedule]
    if change.at not in names:
        there = ", ".join(names) or "none"
        raise CannotSchedule(f"{origin}: task {change.name!r}: no task {change.at!r} in {state.short}, but {there}")
    i = names.index(change.at)
    if change.instead_of:
        stands = schedule[i]
        if stands.origin != BUILT_IN:
            raise CannotSchedule(f"{origin}: task {change.name!r}: {stands.origin} is instead of {change.at!r} already")
        slot = replace(stands, name=change.name, task=change.task, origin=origin)
        return (*schedule[:i], slot, *schedule[i + 1 :])
    if change.name in names:
        raise CannotSchedule(f"{origin}: task {change.name!r}: there is a task of this name in {state.short}")
    i += bool(change.after)
    slot = Slot(place=change.name, name=change.name, task=change.task, origin=origin)
    return (*schedule[:i], slot, *schedule[i:])


def _guarded(change: Change, plugin: Plugin) -> Task:
    def guarded(order: Order, env: Env) -> Order | Pause:
        try:
            result = change.task(order, env)
        except Exception as error:
            raise TaskFailed(f"task {change.name!r} of {plugin}: {type(error).__name__}: {error}") from error
        if not isinstance(result, Order | Pause):
            raise TaskFailed(
                f"task {change.name!r} of {plugin} returned {type(result).__name__}, no order and no pause"
            )
        return result

    guarded.__name__, guarded.__doc__ = change.name, change.task.__doc__
    return guarded
