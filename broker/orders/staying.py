"""Where a newer version of a live service is planned, so that what need not change stays where it is. Pure.

Rules kept here
- What asks for the same functions, links and paths at the same ends, within the same constraints, is delivered as it is, at
  first: what has changed is for the suppliers to judge.
- Else functions that stay are planned where they are, where that costs at most WORTH times as much as the best plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from broker.decompose.availability import keeps
from broker.decompose.plan import Avoid, Infeasible, Plan
from broker.orders.records import Order
from broker.orders.tasks import Env, Found
from service_model.healing import HealPolicy
from service_model.spec import Blocks, LinkAddressing, ServiceSpec

WORTH = Decimal("1.1")
"""How much dearer a plan may be that moves nothing: to move a function interrupts it."""


def plan(order: Order, env: Env, meant: ServiceSpec, was: ServiceSpec) -> Plan | None:
    """The live version's plan, where it will do. `meant`, `was`: the newer spec and the live one, in our words."""
    live = env.live
    if live is None or live.plan is None or order.avoid != Avoid():
        return None
    return live.plan if _shape(meant) == _shape(was) and keeps(live.plan, meant) else None


def where_it_is(meant: ServiceSpec, live: Order) -> ServiceSpec:
    """The spec with each function that stays at its present place."""
    if live.plan is None or live.spec is None:
        return meant
    lost = live.healing.lost if live.healing is not None else frozenset[str]()
    gone = {f.id for s in live.segments if s.wanted and s.ref in lost for f in s.spec.functions}
    at = {f: place for segment in live.plan.segments for f, place in segment.places.items() if f not in gone}
    types = {f.id: f.type for f in live.spec.functions}
    functions = (
        replace(f, places=(at[f.id],))
        if f.id in at and types.get(f.id) == f.type and (not f.places or at[f.id] in f.places)
        else f
        for f in meant.functions
    )
    return replace(meant, functions=tuple(functions))


def better(free: Sequence[Plan], near: Found) -> Sequence[Plan]:
    """The plans in which everything stays, where there are some that are worth it."""
    return free if isinstance(near, Infeasible) or near[0].cost > free[0].cost * WORTH else near


def _shape(spec: ServiceSpec) -> ServiceSpec:
    """The spec without what a plan does not depend on, and what suppliers judge."""
    return replace(
        spec,
        name="shape",
        ends=tuple(replace(e, labels=None, suggested_label=None, networks=()) for e in spec.ends),
        functions=tuple(replace(f, parameters={}) for f in spec.functions),
        links=tuple(replace(link, addressing=LinkAddressing()) for link in spec.links),
        blocks=Blocks(),
        bandwidth_bps=0,
        max_delay_us=None,
        max_price=None,
        min_availability=None,
        paths=tuple(replace(path, max_delay_us=None) for path in spec.paths),
        reference="",
        tags=(),
        term_hours=1,
        start_time=None,
        end_time=None,
        healing=HealPolicy.UNSPECIFIED,
    )
