"""What runs on a node and does not allow a change of documents, or stays behind it. Pure.

Rules kept here
- What has live allocations is not taken away under them: a pool that would lose a block, a domain with segments, a SAP with
  labels, a supplier with segments. That is refused, with one culprit.
- What is only made smaller is drained: what is allocated stays with its owner until the owner gives it back, and is then not
  given again. That is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from address_planner.conflicts import conflicting
from address_planner.labels import LabelSet
from broker.bootstrap.mapping import manager_terms
from broker.orders.pools import PREFIXES, Pool, PoolInUse, Pools
from broker.orders.records import Order
from broker.orders.schedules import CannotSchedule, Workflows
from broker.orders.states import GONE
from broker.settings.administered import AdminState, DomainDoc, InterconnectDoc
from broker.settings.present import Administered
from broker.settings.problems import Problem
from capability_registry.label_kinds import labels_of
from lower_sp_clients.vim import accounting
from lower_sp_clients.vim.holds import Allocation
from lower_sp_clients.vim.local_vim import LocalVim


def labels_in_use(vim: LocalVim) -> Iterator[Allocation]:
    """Held, live and resting, of all its SAPs."""
    for hold in vim.holds():
        yield from accounting.labels(vim.domain.name, hold).values()
    yield from vim.resting()


def pools_in_the_way(pools: Pools, new: Sequence[Pool]) -> Iterator[Problem]:
    """Where an allocated block would lose its place."""
    try:
        pools.changed(new)
    except PoolInUse as error:
        yield Problem(kind="pool", name=error.pool, field="", reason=str(error))


def domains_in_the_way(whole: Administered, vims: Mapping[str, LocalVim]) -> Iterator[Problem]:
    domains = {doc.name: doc for doc in whole.domains}
    for name, vim in vims.items():
        doc = domains.get(name)
        if doc is None:
            live = sum(1 for hold in vim.holds() if hold.state in accounting.TAKES)
            if live:
                yield Problem(kind="domain", name=name, field="", reason=f"{live} segments are still in it")
            continue
        saps = {sap.id for sap in doc.saps}
        lost = next((a for a in labels_in_use(vim) if a.pool.partition("/")[2] not in saps), None)
        if lost is not None:
            sap = lost.pool.partition("/")[2]
            yield Problem(kind="domain", name=name, field="saps", reason=f"label {lost.value} of SAP {sap!r} is in use")


def managers_in_the_way(whole: Administered, workflows: Workflows) -> Iterator[Problem]:
    """Managers that are plugins which are not loaded, or that decide what a plugin has taken over."""
    for doc in whole.managers:
        try:
            workflows.of((manager_terms(doc),))
        except CannotSchedule as error:
            yield Problem(kind="manager", name=doc.name, field="plugin" if doc.plugin else "decides", reason=str(error))


def suppliers_in_the_way(whole: Administered, remotes: Iterable[str], orders: Iterable[Order]) -> Iterator[Problem]:
    gone = set(remotes) - {doc.name for doc in whole.suppliers}
    for order in orders:
        for segment in order.segments:
            if segment.alias in gone and segment.state not in GONE:
                reason = f"segment {segment.key} of service {order.ref!r} is still with it"
                yield Problem(kind="supplier", name=segment.alias, field="", reason=reason)


def drained(whole: Administered, vims: Mapping[str, LocalVim], pools: Pools) -> Iterator[Problem]:
    """What stays allocated of what `whole` gives out no more."""
    for doc in whole.domains:
        if doc.name in vims:
            yield from _labels(doc, whole, vims[doc.name])
            yield from _prefixes(doc, vims[doc.name])
    for pool in whole.pools:
        blocks = sum(1 for a in pools.allocations() if a.pool == PREFIXES + pool.name)
        if blocks and pool.state is not AdminState.IN_SERVICE:
            reason = f"{_some(blocks, 'block')} given back, and not given again"
            yield Problem(kind="pool", name=pool.name, field="state", reason=reason)


def _labels(doc: DomainDoc, whole: Administered, vim: LocalVim) -> Iterator[Problem]:
    taken: dict[str, list[int]] = {}
    for allocation in labels_in_use(vim):
        taken.setdefault(allocation.pool.partition("/")[2], []).append(int(allocation.value))
    for i, sap in enumerate(doc.saps):
        joint = whole.find(InterconnectDoc, sap.interconnect) if sap.interconnect is not None else None
        outside = LabelSet.of(taken.get(sap.id, ())) - (labels_of(sap.encapsulation) if joint is None else joint.labels)
        if outside:
            reason = f"{_some(len(outside), 'label')} given back, and not given again: {outside} at SAP {sap.id!r}"
            kind, name, field = (
                ("domain", doc.name, f"saps[{i}].encapsulation")
                if joint is None
                else ("interconnect", joint.name, "labels")
            )
            yield Problem(kind=kind, name=name, field=field, reason=reason)


def _prefixes(doc: DomainDoc, vim: LocalVim) -> Iterator[Problem]:
    """Those of links that live services have where the domain excludes them from now on."""
    versions = (version for hold in vim.holds() for version in hold.versions())
    held = (v.choice for v in versions if v.state in accounting.TAKES and v.choice is not None)
    given = [stack.prefix for choice in held for link in choice.links for stack in link.stacks if stack.addresses]
    inside = sum(1 for prefix in given if prefix is not None and conflicting([prefix], doc.excluded))
    if inside:
        reason = f"{_some(inside, 'prefix', 'prefixes')} given back, and not taken again"
        yield Problem(kind="domain", name=doc.name, field="excluded", reason=reason)


def _some(count: int, one: str, more: str = "") -> str:
    return f"1 {one} is in use until it is" if count == 1 else f"{count} {more or one + 's'} are in use until they are"
