"""Qualifications and quotes: what is judged and priced before anything is held.

Rules kept here
- A qualification is judged as a reservation is, up to where that would take or ask something: the plan, the split, and
  whether there are addresses for it. No block is taken, nobody is called, nothing is recorded.
- A quote asks the suppliers of the best plans, all at once, each different segment once. The best plan by what they say
  wins. A plan of which a part gets no quote drops out; if all do, their reasons are wrapped as those of a reservation.
- What is refused or dearer than announced is learnt as a reservation would, and planned again, a few times: so the best
  is the best by true prices, as far as was asked.
- A quote ends before the first that it rests on, and is recorded before it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

import structlog

from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Avoid, Infeasible, Plan, Snapshot
from broker.orders import learning
from broker.orders.addressing import CannotAddress, block_bits
from broker.orders.bounds import path_delays
from broker.orders.cut import Cut
from broker.orders.pools import Pools
from broker.orders.reasons import incident_id, told, words_of, wrapped
from broker.orders.records import Quoted, QuotedPart, Segment, Terms, child_ref
from broker.orders.split import HandedDown, split
from broker.orders.tasks import GUARD, Found
from lower_sp_clients.supplier import Context, OutcomeUnknown, Overloaded, Supplier
from service_model.clock import Clock, within
from service_model.money import FREE, CurrencyMismatch, Price
from service_model.outcomes import Alternative, Nogood, Reason, ReasonCode
from service_model.quotes import Qualification, Quote, QuotedSegment, unqualified
from service_model.spec import ServiceSpec

log = structlog.get_logger()

PLANS = 3
"""Of how many plans the suppliers are asked."""
_Asked = tuple[str, str]
"""A supplier's alias, and the digest of a segment as priced."""
Answer = Quote | Qualification | OutcomeUnknown
WAVES = 3
"""How often suppliers are asked for one quote: again where what was heard makes another plan the best."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to deliver: a plan and the segments that it hands down."""

    plan: Plan
    parts: tuple[HandedDown, ...]

    @cached_property
    def asked(self) -> tuple[_Asked, ...]:
        return tuple((part.alias, part.spec.priced().digest()) for part in self.parts)


def options(
    spec: ServiceSpec, terms: Terms, snapshot: Snapshot, found: Found, pools: Pools
) -> tuple[Option, ...] | Qualification:
    """The ways to deliver what is asked for by the plans that were `found` for it; or why there is none."""
    if isinstance(found, Infeasible):
        return unqualified(*told(found, spec, terms.margin, snapshot))
    allowed = spec.blocks.allowed
    if not allowed and (sizes := block_bits(spec)):
        blocks = pools.available(sizes)
        if isinstance(blocks, Reason):
            return unqualified(blocks)
        allowed = blocks
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh), "what was planned is a mesh"
    out, wrong = [], []
    for plan in found:
        try:
            out.append(
                Option(plan=plan, parts=split(mesh, plan, snapshot, allowed, spec.digest(), terms.classes).segments)
            )
        except CannotAddress as error:
            wrong.append(error.reason)
    return tuple(out) or unqualified(*dict.fromkeys(wrong))


def too_dear(spec: ServiceSpec, price: Price, delay_us: int) -> Reason | None:
    """Whether the customer allows this price, and what would do if not."""
    total = price.over(spec.term_hours)
    if spec.max_price is None or total <= spec.max_price:
        return None
    return Reason(
        code=ReasonCode.PRICE,
        message=f"price over {spec.term_hours} h: {total} > {spec.max_price} {price.currency}",
        subject="max_price",
        nogood=Nogood(alternative=Alternative(gives=(ReasonCode.PRICE,), price=price, delay_us=delay_us)),
    )


def qualified(spec: ServiceSpec, terms: Terms, option: Option) -> Qualification:
    """Yes, with our margin on what was announced; no where that is dearer than the customer allows."""
    price, delay_us = option.plan.price.scaled(terms.margin), option.plan.delay_us
    wrong = too_dear(spec, price, delay_us)
    return unqualified(wrong) if wrong else Qualification(feasible=True, price=price, delay_us=delay_us)


def learnt(spec: ServiceSpec, choice: Sequence[Option], answers: Mapping[_Asked, Answer]) -> Avoid | None:
    """What these options teach: None where the best of them was quoted as it was planned, so that nothing is better."""
    out = Avoid()
    known: set[_Asked] = set()
    for option in choice:
        for part, key, planned in zip(option.parts, option.asked, option.plan.segments, strict=True):
            answer = answers[key]
            if key in known:
                continue
            known.add(key)
            if not isinstance(answer, Quote):
                reasons = answer.reasons if isinstance(answer, Qualification) else ()
                out |= learning.refused(part.alias, part.spec, reasons)
            elif learning.is_dearer(planned.price, answer.price, spec.term_hours):
                out |= learning.dearer(part.alias, part.spec, planned.price, answer.price)
        if out == Avoid():
            return None
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is quoted, for whom, as `id`; `sent` is when the suppliers were asked."""

    id: str
    account: str
    spec: ServiceSpec
    terms: Terms
    epoch: str
    sent: datetime


def offer(
    request: Request, choice: Sequence[Option], answers: Mapping[_Asked, Answer]
) -> tuple[Quoted, tuple[QuotedSegment, ...]] | Qualification:
    """The best of these options by what the suppliers ask, and its parts; or why there is none."""
    offers: list[tuple[Quoted, tuple[QuotedSegment, ...]]] = []
    reasons: list[Reason] = []
    for option in choice:
        found = _priced(request, option, answers)
        if isinstance(found, Qualification):
            reasons += found.reasons
        else:
            offers.append(found)
    if not offers:
        return unqualified(*dict.fromkeys(reasons))
    hours = request.spec.term_hours
    return min(offers, key=lambda one: (one[0].price.over(hours), one[0].delay_us))


def _priced(
    request: Request, option: Option, answers: Mapping[_Asked, Answer]
) -> tuple[Quoted, tuple[QuotedSegment, ...]] | Qualification:
    quotes: list[Quote] = []
    refused: list[Reason] = []
    for part, key in zip(option.parts, option.asked, strict=True):
        answer = answers[key]
        if isinstance(answer, Quote):
            quotes.append(answer)
        else:
            refused.append(_refused(request, part, answer))
    if refused:
        return unqualified(*refused)
    planned = zip(option.plan.segments, quotes, strict=True)
    told = tuple(
        QuotedSegment(alias=part.key, price=quote.price.scaled(request.terms.margin), delay_us=quote.delay_us)
        for part, quote in zip(option.parts, quotes, strict=True)
    )
    try:
        price, cost = sum((part.price for part in told), FREE), sum((quote.price for quote in quotes), FREE)
    except CurrencyMismatch:
        return unqualified(Reason(code=ReasonCode.PRICE, message="the suppliers ask in different currencies"))
    mesh = read_mesh(request.spec)
    assert isinstance(mesh, Mesh), "what was planned is a mesh"
    cut = Cut(mesh, option.plan)
    delays = path_delays(cut, dict(zip(cut.keys, quotes, strict=True)))
    delay_us = max(delays.values(), default=0)
    if (wrong := too_dear(request.spec, price, delay_us)) is not None:
        return unqualified(wrong)
    stands = min([float(request.terms.quote_s), *(quote.remaining_s for quote in quotes)])
    quoted = Quoted(
        id=request.id,
        account=request.account,
        digest=request.spec.priced().digest(),
        price=price,
        delay_us=delay_us,
        path_delays_us=delays,
        until=request.sent + timedelta(seconds=stands) - GUARD,
        plan=replace(option.plan, segments=tuple(replace(s, price=quote.price) for s, quote in planned)),
        cost=cost,
        parts={
            part.key: QuotedPart(quote=quote.id, digest=digest)
            for part, quote, (_, digest) in zip(option.parts, quotes, option.asked, strict=True)
        },
    )
    return quoted, told


def _refused(request: Request, part: HandedDown, answer: Qualification | OutcomeUnknown) -> Reason:
    reasons: tuple[Reason, ...] = (
        Reason(code=ReasonCode.SUPPLIER_UNREACHABLE, message="no answer in time", retryable=True),
    )
    if isinstance(answer, Qualification):
        reasons = answer.reasons
    ref = child_ref(request.epoch, request.id, part.key)
    segment = Segment(key=part.key, alias=part.alias, ref=ref, spec=part.spec, reasons=reasons)
    story = [f"{reason.code.short}: {reason.message}" for reason in reasons]
    log.info("no quote of a supplier", quote=request.id, segment=part.key, incident=incident_id(segment), why=story)
    return wrapped(segment, ReasonCode.SEGMENT_REFUSED, words_of(request.spec))


async def ask(
    suppliers: Mapping[str, Supplier],
    choice: Sequence[Option],
    known: Mapping[_Asked, Answer],
    below: Callable[[int], Context],
    clock: Clock,
) -> dict[_Asked, Answer]:
    """What each supplier says of each different segment that is not yet in `known`, asked at once and waited for until the
    deadline. `below(calls)` is what each of so many calls may spend."""
    wanted = {
        key: part.spec
        for option in choice
        for part, key in zip(option.parts, option.asked, strict=True)
        if key not in known
    }  # the last of the same price: they differ in names and addresses only
    if not wanted:
        return {}
    ctx = below(len(wanted))
    tasks = {
        key: asyncio.create_task(_one(suppliers.get(key[0]), key[0], spec, ctx, clock)) for key, spec in wanted.items()
    }
    left = (ctx.deadline - clock.now()).total_seconds() if ctx.deadline is not None else 0.0
    await within(clock, left, asyncio.gather(*tasks.values(), return_exceptions=True))
    late = [task for task in tasks.values() if not task.done()]
    for task in late:
        task.cancel()
    return {
        key: OutcomeUnknown("no answer by the deadline") if task in late else task.result()
        for key, task in tasks.items()
    }


async def _one(supplier: Supplier | None, alias: str, spec: ServiceSpec, ctx: Context, clock: Clock) -> Answer:
    if supplier is None:
        return OutcomeUnknown(f"supplier {alias} is not administered any more")
    try:
        while True:  # until the deadline, when it is cancelled
            try:
                return await supplier.quote(spec, ctx)
            except Overloaded as busy:
                await clock.sleep(busy.retry_after_s)
    except OutcomeUnknown as unknown:
        return unknown
    except Exception as error:  # one supplier's fault costs its plans, not the quote
        log.exception("call failed", supplier=alias, call="quote")
        return OutcomeUnknown(str(error))
