"""What the broker answers before anything is ordered: whether it can, and for what price it will.

Rules kept here
- The same is wrong with a question as with a reservation, but for the quota of services.
- What comes so late that there is no time to answer it is refused as DEADLINE, before anything is asked or recorded.
- A question costs the levels and calls of a reservation, so that no ring of providers asks for ever.
- A quote that a reservation names counts as it does when the reservation comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from broker.decompose.plan import Avoid
from broker.orders.asking import Managers, nobody
from broker.orders.calling import MARGIN, PATIENCE
from broker.orders.catalogue import Catalogue
from broker.orders.claims import ALONE, Claims
from broker.orders.engine import WATCHER_BEHIND
from broker.orders.pools import Pool
from broker.orders.quoting import PLANS, WAVES, Answer, Option, Request, ask, learnt, offer, options, qualified
from broker.orders.reasons import for_customer
from broker.orders.records import OrderBook, Quoted, Terms
from broker.orders.schedules import Workflows, clashes
from broker.orders.sharing import SharedOrders
from broker.orders.tasks import STUCK_AFTER, Planner
from broker.orders.times import wrong_time
from lower_sp_clients.quotes import QuoteBook, QuoteLedger
from lower_sp_clients.supplier import Context
from service_model.check import check
from service_model.clock import Clock
from service_model.constraints import PLACEMENT
from service_model.families import DUAL_STACK, FIXED_PORTS
from service_model.flows import PATHS
from service_model.healing import HEALING
from service_model.outcomes import Reason, ReasonCode
from service_model.qos import QOS, bound, class_of
from service_model.quotes import Qualification, Quote, QuotedSegment, unqualified
from service_model.spec import LAN_SITES, MACS, ServiceSpec

FEATURES = frozenset(
    {
        "chains",
        "lan-management",
        "labels",
        "prefix-blocks",
        DUAL_STACK,
        FIXED_PORTS,
        HEALING,
        LAN_SITES,
        MACS,
        PATHS,
        PLACEMENT,
        QOS,
    }
)
"""What a request may name in `required_features`, and notes list as `api_features`."""


class Offers(SharedOrders):
    """Orders of all accounts, and what is offered to them: `terms` says under which agreement."""

    def __init__(
        self,
        *,
        epoch: str,
        book: OrderBook,
        clock: Clock,
        catalogue: Catalogue,
        planner: Planner,
        quotes: QuoteBook[Quoted],
        terms: Callable[[str], Terms | Reason],
        new_id: Callable[[], str],
        secret: bytes,
        fell_short: Callable[[str], None] = lambda alias: None,
        hopes: int = 0,
        stuck_after: timedelta = STUCK_AFTER,
        claims: Claims = ALONE,
        watcher_behind: int = WATCHER_BEHIND,
        workflows: Workflows | None = None,
        managers: Managers = nobody,
    ) -> None:
        super().__init__(
            epoch=epoch,
            book=book,
            clock=clock,
            catalogue=catalogue,
            planner=planner,
            secret=secret,
            fell_short=fell_short,
            hopes=hopes,
            stuck_after=stuck_after,
            claims=claims,
            watcher_behind=watcher_behind,
            workflows=workflows,
            managers=managers,
        )
        self._quotes = QuoteLedger(quotes)
        self._quoting: Counter[str] = Counter()
        self._terms = terms
        self._new_id = new_id

    async def open(self, pools: tuple[Pool, ...], read_only: str = "") -> None:
        await self._quotes.load()
        await super().open(pools, read_only)

    async def tick(self) -> None:
        if self.claims.leads():
            await self._quotes.tick(self.clock.now())
        await super().tick()

    async def read_quotes(self) -> None:
        """Those that stand now, whoever gave them."""
        await self._quotes.load()

    async def qualify(self, account: str, spec: ServiceSpec, ctx: Context) -> Qualification:
        terms = self._terms_for(account, spec, ctx)
        if isinstance(terms, Qualification):
            return terms
        found = await self._options(account, spec, terms, Avoid(), 1)
        return found if isinstance(found, Qualification) else qualified(spec, terms, found[0])

    async def quote(self, account: str, spec: ServiceSpec, ctx: Context) -> Quote | Qualification:
        terms = self._terms_for(account, spec, ctx)
        if isinstance(terms, Qualification):
            return terms
        if self._quotes.count(account) + self._quoting[account] >= terms.max_quotes:
            return unqualified(Reason(code=ReasonCode.QUOTA, message=f"the agreement allows {terms.max_quotes} quotes"))
        self._quoting[account] += 1  # those being made count too: many asked for at once are as many
        try:
            return await self._quote(account, spec, terms, ctx)
        finally:
            self._quoting[account] -= 1

    async def _quote(self, account: str, spec: ServiceSpec, terms: Terms, ctx: Context) -> Quote | Qualification:
        request = Request(
            id=self._new_id(), account=account, spec=spec, terms=terms, epoch=self.epoch, sent=self.clock.now()
        )
        best = await self._best(request, ctx)
        if isinstance(best, Qualification):
            return best
        given, parts = best
        await self._quotes.give(given)
        return Quote(
            id=given.id,
            price=given.price,
            delay_us=given.delay_us,
            path_delays_us=given.path_delays_us,
            remaining_s=max(0.0, (given.until - request.sent).total_seconds()),
            segments=parts if terms.show_segments else (),
            agreement=terms.agreement,
            agreement_version=terms.version,
        )

    async def _best(self, request: Request, ctx: Context) -> tuple[Quoted, tuple[QuotedSegment, ...]] | Qualification:
        """The best offer for all that was heard, asking anew while that makes another plan the best."""
        choice: tuple[Option, ...] = ()
        answers: dict[tuple[str, str], Answer] = {}
        avoid, until = Avoid(), self._patience(ctx)
        for _ in range(WAVES):
            found = await self._options(request.account, request.spec, request.terms, avoid, PLANS)
            if isinstance(found, Qualification):
                if not choice:
                    return found
                break
            now = self.clock.now()
            wave = now + (until - now) / 2  # who does not answer leaves time to ask others
            answers |= await ask(self._caller.suppliers, found, answers, partial(self._share, ctx, wave), self.clock)
            choice += found
            more = learnt(request.spec, found, answers)
            if more is None or self.clock.now() >= until:
                break
            avoid |= more
        return offer(request, choice, answers)

    def _terms_for(self, account: str, spec: ServiceSpec, ctx: Context) -> Terms | Qualification:
        """The terms of the account, or the qualification that says what is wrong with its question."""
        terms = self._terms(account)
        if isinstance(terms, Reason):
            return unqualified(terms)
        wrong = self._late(ctx) or self._wrong_with(spec, ctx, terms)
        return unqualified(*wrong) if wrong else terms

    def _wrong_with(self, spec: ServiceSpec, ctx: Context, terms: Terms) -> tuple[Reason, ...]:
        return wrong_with(spec, ctx, terms, self.clock.now()) or tuple(clashes(spec, terms, self.workflows))

    def _late(self, ctx: Context) -> tuple[Reason, ...]:
        """Why there is no time to begin with a request: what is left until its deadline is needed to answer it."""
        if self._patience(ctx) > self.clock.now():
            return ()
        message = f"the deadline leaves no time: {MARGIN.total_seconds():g} s are needed here, and what suppliers take"
        return (Reason(code=ReasonCode.DEADLINE, message=message, retryable=True),)

    async def _options(
        self, account: str, spec: ServiceSpec, terms: Terms, avoid: Avoid, most: int
    ) -> tuple[Option, ...] | Qualification:
        """The best ways to deliver; or why there is none, in the customer's words."""
        lexicon = self.lexicon(account, terms)
        meant = lexicon.meant(bound(spec, terms.classes))
        if isinstance(meant, Reason):
            return unqualified(meant)
        now, snapshot = self.clock.now(), self.catalogue.snapshot
        plans = await self._planner(terms.planned(meant), snapshot, now, avoid, most)
        found = options(meant, terms, snapshot, plans, self._pools)
        if isinstance(found, Qualification):
            return replace(found, reasons=for_customer(found.reasons, spec, terms.disclosure))
        return found

    def _share(self, ctx: Context, until: datetime, calls: int) -> Context:
        """What each of so many calls below may spend, in each wave, for a request that came with `ctx`."""
        return replace(
            ctx,
            deadline=until,
            hop_budget=ctx.hop_budget - 1,
            call_budget=(ctx.call_budget // WAVES - calls) // calls,
            quote="",
        )

    def _patience(self, ctx: Context) -> datetime:
        """Until when the suppliers are waited for, so that the caller is still answered in time."""
        now = self.clock.now()
        patience = min(ctx.deadline, now + PATIENCE) if ctx.deadline is not None else now + PATIENCE
        return patience - MARGIN

    def _quoted(self, account: str, spec: ServiceSpec, ctx: Context) -> Quoted | Reason | None:
        """The quote that the reservation names, or why it does not count; None where it names none."""
        if not ctx.quote:
            return None
        return self._quotes.standing(ctx.quote, account, spec.priced().digest(), self.clock.now())


def wrong_with(spec: ServiceSpec, ctx: Context, terms: Terms, now: datetime) -> tuple[Reason, ...]:
    """Everything that is wrong with what is asked for, before it is planned."""

    def no(code: ReasonCode, message: str, subject: str = "") -> Reason:
        return Reason(code=code, message=message, subject=subject)

    if ctx.hop_budget <= 0:
        return (no(ReasonCode.HOP_BUDGET, "the request may not go to one more level"),)
    if ctx.call_budget <= 0:
        return (no(ReasonCode.CALL_BUDGET, "the request has no calls left"),)
    problems = check(spec)
    if problems:
        return tuple(
            no(ReasonCode.INVALID_SPEC, f"{'.'.join(map(str, p.field))}: {p.reason}", ".".join(map(str, p.field)))
            for p in problems
        )
    out = [reason] if (reason := wrong_time(spec, now)) is not None else []
    out += [
        no(ReasonCode.MANAGER_NOT_ALLOWED, f"service-specific manager {name!r} is not allowed for this account", name)
        for name in spec.managers
        if name not in terms.managers
    ]
    out += [
        no(ReasonCode.FEATURE_NOT_OFFERED, f"feature {name!r} is not offered", name)
        for name in spec.required_features
        if name not in FEATURES
    ]
    if spec.qos is not None and class_of(spec, terms.classes) is None:
        known = ", ".join(sorted(c.name for c in terms.classes)) or "none"
        out.append(no(ReasonCode.QOS, f"there is no class of service {spec.qos!r}; there are: {known}", "qos"))
    return tuple(out)
