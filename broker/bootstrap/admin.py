"""The node as its operator sees and changes it: AdminPort over the running parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from broker.accounts.admin_port import (
    AbandonedService,
    AcceptedRestore,
    Allocation,
    Applied,
    CannotAbandon,
    Discrepancy,
    Documents,
    DomainItem,
    FeedState,
    Hold,
    Inventory,
    PoolUse,
    ResourceUse,
    SegmentDetail,
    ServiceDetail,
    StuckSegment,
    SupplierStatus,
)
from broker.accounts.administration import Administration
from broker.accounts.planned import Preview
from broker.bootstrap.feeds import Feeds
from broker.bootstrap.planning import Planning
from broker.bootstrap.pool_use import STATES, of_labels, of_path_ids, of_prefixes, of_resources, owners
from broker.bootstrap.preview import preview
from broker.bootstrap.promises import Record
from broker.bootstrap.reconciling import disagreements
from broker.bootstrap.restored_node import RestoredNode
from broker.bootstrap.stuck_list import returned_discrepancies, stuck_segments
from broker.orders.accounting import remaining, status
from broker.orders.broker import Broker
from broker.orders.catalogue import Catalogue
from broker.orders.records import Terms
from broker.orders.stuck import NotStuck, named, shown
from capability_registry.feed import Feed
from lower_sp_clients.supplier import ReadOnly
from lower_sp_clients.vim import accounting
from lower_sp_clients.vim.holds import Allocation as Recorded
from lower_sp_clients.vim.local_vim import LocalVim
from service_model.clock import Clock
from service_model.outcomes import Reason, ServiceState
from service_model.spec import ServiceSpec


class NodeAdmin:
    def __init__(
        self,
        administration: Administration,
        broker: Broker,
        catalogue: Catalogue,
        vims: Callable[[], tuple[LocalVim, ...]],
        feeds: Feeds,
        promises: Record,
        planning: Planning,
        terms: Callable[[str], Terms | Reason],
        clock: Clock,
        recorded: Callable[[], Awaitable[Sequence[Recorded]]],
        restored: RestoredNode,
    ) -> None:
        """`recorded`: the table of allocations, as it is in the store."""
        self._administration = administration
        self._broker = broker
        self._catalogue = catalogue
        self._vims = vims
        self._feeds = feeds
        self._promises = promises
        self._planning = planning
        self._terms = terms
        self._clock = clock
        self._recorded = recorded
        self._restored = restored

    async def apply(self, documents: Documents, *, dry_run: bool, prune: bool, reason: str, actor: str) -> Applied:
        await self._broker.claims.catch_up()
        return await self._administration.apply(documents, dry_run=dry_run, prune=prune, reason=reason, actor=actor)

    async def export(self, kinds: tuple[str, ...]) -> Documents:
        return await self._administration.export(kinds)

    async def set_password(self, account: str, password: str, *, actor: str) -> None:
        await self._administration.set_password(account, password, actor=actor)

    async def plan(self, spec: ServiceSpec, account: str, alternatives: int, explain: bool) -> Preview:
        terms = self._terms(account) if account else Terms()
        if isinstance(terms, Reason):
            return Preview(reasons=(terms,))
        snapshot, now = self._catalogue.snapshot, self._clock.now()
        return await preview(self._planning, spec, snapshot, now, terms, alternatives, explain)

    async def inventory(self) -> Inventory:
        """Everything allocated, held and built, what the domains have that nobody asked for, and where the table of allocations
        is not what its owners have."""
        await self._broker.claims.catch_up()
        now = self._clock.now()
        allocations = [*self._broker.allocations(), *self._broker.path_ids.allocations()]
        items, discrepancies = [], []
        for vim in self._vims():
            for hold in vim.holds():
                allocations += accounting.labels(vim.domain.name, hold).values()
            allocations += vim.resting()
            found = await vim.inventory()
            items += [DomainItem(domain=vim.domain.name, segment=i.segment, kind=i.kind, name=i.name) for i in found]
            discrepancies += [
                Discrepancy(where=vim.domain.name, subject=message.split(" of ")[0], message=message)
                for message in vim.discrepancies(found)
            ]
        first, again = await self._disagreements(), await self._disagreements()
        discrepancies += [d for d in again if d in first]  # what is only under way differs for a moment
        holds = tuple(
            Hold(account=o.account, ref=o.ref, version=o.version, remaining_s=remaining(o, now))
            for o in self._broker.orders()
            if o.state is ServiceState.RESERVED
        )
        return Inventory(
            allocations=tuple(
                Allocation(pool=a.pool, value=a.value, owner=a.owner, state=STATES[a.state]) for a in allocations
            ),
            holds=holds,
            items=tuple(items),
            discrepancies=(
                *discrepancies,
                *returned_discrepancies(self._broker.returned()),
                *await self._restored.discrepancies(),
            ),
            read_only=self._restored.read_only,
        )

    async def _disagreements(self) -> list[Discrepancy]:
        recorded = await self._recorded()
        holds = ((vim.domain.name, hold) for vim in self._vims() for hold in vim.holds())
        return list(disagreements(recorded, self._broker.orders(), holds))

    async def pools(self) -> tuple[PoolUse, ...]:
        await self._broker.claims.catch_up()
        known = owners(self._broker.orders())
        labels = (use for vim in self._vims() for use in of_labels(vim, known))
        return (*of_prefixes(self._broker.pools, known), *labels, *of_path_ids(self._broker.path_ids, known))

    async def resources(self) -> tuple[ResourceUse, ...]:
        await self._broker.claims.catch_up()
        now = self._clock.now()
        return tuple(use for vim in self._vims() for use in of_resources(vim, now))

    async def suppliers(self) -> tuple[SupplierStatus, ...]:
        now, feeds = self._clock.now(), self._feeds.states()
        found = []
        for listing in self._catalogue.listings():
            if listing.local:
                continue
            feed = (feeds.get(listing.alias) or Feed.begin(listing.sp_id, now)).at(now)
            promises = self._promises.of(listing.alias)
            found.append(
                SupplierStatus(
                    alias=listing.alias,
                    sp_id=listing.sp_id,
                    usable=self._catalogue.usable(listing.alias),
                    feed=FeedState[feed.state.name],
                    since=feed.since,
                    edition=feed.held.edition if feed.held else 0,
                    taken=feed.taken,
                    expires=feed.held.expires if feed.held else None,
                    refusal=feed.refusal,
                    kept=promises.kept,
                    broken=promises.broken,
                    rate=round(promises.rate, 4),
                )
            )
        return tuple(found)

    async def stuck(self, account: str) -> tuple[StuckSegment, ...]:
        await self._broker.claims.catch_up()
        mine = (o for o in self._broker.orders() if account in ("", o.account))
        return stuck_segments(mine, self._catalogue.listing)

    async def accept(self, without: tuple[str, ...], reason: str, *, actor: str) -> AcceptedRestore:
        found, kept = await self._restored.accept(without, reason, actor)
        return AcceptedRestore(discrepancies=found, kept_off=kept)

    async def abandon(self, service: str, account: str, segment: str, reason: str, *, actor: str) -> AbandonedService:
        if self._restored.read_only:
            raise ReadOnly(self._restored.read_only)
        await self._broker.claims.catch_up()
        try:
            order = named(self._broker.orders(), service, account)
            done, keys = await self._broker.abandon(order, segment, reason, actor)
        except NotStuck as error:
            raise CannotAbandon(error.field, str(error)) from None
        return AbandonedService(service=done.id, state=done.state, segments=keys)

    async def orders(self, account: str, ref: str) -> AsyncIterator[ServiceDetail]:
        """Orders in order of creation, with what was asked of whom and what came of it."""
        await self._broker.claims.catch_up()
        now = self._clock.now()
        for order in sorted(self._broker.orders(), key=lambda o: (o.created, o.id)):
            if not order.version or (account and order.account != account) or (ref and order.ref != ref):
                continue
            segments = []
            for segment in order.segments:
                listing = self._catalogue.listing(segment.alias)
                segments.append(
                    SegmentDetail(
                        alias=segment.key,
                        supplier=listing.sp_id if listing else segment.alias,
                        ref=segment.ref,
                        version=segment.version,
                        state=shown(order, segment),
                        spec=segment.spec,
                        choice=segment.choice,
                        binding=segment.bindings,
                        reasons=segment.reasons,
                    )
                )
            seen = replace(status(order, now), reasons=order.reasons)  # in our words, not its owner's
            yield ServiceDetail(account=order.account, status=seen, segments=tuple(segments))
