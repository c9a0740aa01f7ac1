"""A service as it would be planned now, for the operator: nothing is asked, held or kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from broker.accounts.planned import PlacedFunction, PlannedPart, PlannedService, Preview, RejectedService
from broker.bootstrap.planning import Planning
from broker.decompose.plan import Avoid, Infeasible, Plan, PlannedSegment, Rejected, Snapshot
from broker.orders.offers import wrong_with
from broker.orders.reasons import told
from broker.orders.records import Terms
from lower_sp_clients.supplier import Context
from service_model.outcomes import ReasonCode
from service_model.qos import bound
from service_model.spec import ServiceSpec


async def preview(
    planner: Planning,
    spec: ServiceSpec,
    snapshot: Snapshot,
    now: datetime,
    terms: Terms,
    alternatives: int,
    explain: bool,
) -> Preview:
    """`explain`: also what would be better but for a class of constraints."""
    if wrong := wrong_with(spec, Context(), terms, now):
        return Preview(reasons=wrong)
    meant = terms.planned(bound(spec, terms.classes))
    found = await planner(meant, snapshot, now, Avoid(), alternatives)
    if isinstance(found, Infeasible):
        reasons = told(found, spec, terms.margin, snapshot)
        return Preview(reasons=reasons, nearest=tuple(_rejected(r, snapshot, terms) for r in found.nearest))
    better = await planner.better(meant, snapshot, now) if explain else ()
    return Preview(
        plans=tuple(_planned(p, snapshot, terms) for p in found),
        rejected=tuple(_rejected(r, snapshot, terms) for r in better),
    )


def _rejected(found: Rejected, snapshot: Snapshot, terms: Terms) -> RejectedService:
    breaks = (found.code, *found.also)
    shown = _planned(found.plan, snapshot, terms)
    if ReasonCode.DELAY in breaks:  # the parts of a bound that is not kept say nothing
        shown = replace(shown, parts=tuple(replace(part, delay_us=0) for part in shown.parts))
    return RejectedService(breaks=breaks, plan=shown)


def _planned(found: Plan, snapshot: Snapshot, terms: Terms) -> PlannedService:
    ids = {view.alias: view.sp_id for view in snapshot.suppliers}
    return PlannedService(
        parts=tuple(_part(found, i, segment, ids[segment.alias]) for i, segment in enumerate(found.segments)),
        interconnects=found.interconnects,
        price=found.price.scaled(terms.margin),
        cost=found.price,
        delay_us=found.delay_us,
    )


def _part(found: Plan, number: int, segment: PlannedSegment, sp_id: str) -> PlannedPart:
    """A segment with the SAPs that its lines, and LANs by themselves, come in and leave at."""
    mine = (stretch for line in found.lines.values() for stretch in line if stretch.segment == number)
    lined = [sap for stretch in mine for sap in (stretch.entry, stretch.exit) if sap is not None]
    saps = dict.fromkeys([*lined, *(site.sap for site in found.lan_sites if site.segment == number)])
    return PlannedPart(
        alias=segment.alias,
        supplier=sp_id,
        saps=tuple(saps),
        functions=tuple(PlacedFunction(function=f, place=segment.places[f]) for f in segment.functions),
        cost=segment.price,
        delay_us=max((sum(budget) for budget in segment.budgets.values()), default=0),
    )
