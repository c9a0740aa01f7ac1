"""The tasks of a reservation: place, address, crank_back, hold, agree, price, decide. Pure.

Rules kept here
- All segments are asked in one parallel wave; only what is refused, dearer or differs is asked again.
- A label on which answers differ is pinned to the authority's value; only the other side is reserved again, at its next
  version. A label that cannot be had shrinks its class. Rounds and crank-backs are bounded.
- What is held and still fits is never planned or asked again.
- If the whole is refused, everything is released; a hold that was to be replaced is restored first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from operator import or_

from address_planner.classes import LabelsExhausted, disagreement, without
from address_planner.labels import LabelSet
from broker.decompose.availability import keeps
from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Avoid, Infeasible, Plan, PlannedSegment, Snapshot
from broker.orders import learning
from broker.orders.addressing import CannotAddress, block_bits
from broker.orders.cut import Cut
from broker.orders.gather import gather
from broker.orders.narrowing import widened
from broker.orders.reasons import told, words_of, wrapped
from broker.orders.records import Answer, Order, Segment, child_ref
from broker.orders.relabelling import beside, chosen_labels, class_refused, label_from_above, relabel, with_labels
from broker.orders.split import NO_COMMON_LABEL, HandedDown, Split, split
from broker.orders.states import Event, SegmentState
from broker.orders.tasks import GUARD, Call, CallKind, Env, Pause, Question, abandon, task
from service_model.money import FREE, CurrencyMismatch
from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.qos import bound
from service_model.spec import ServiceSpec

RESTORING = timedelta(seconds=30)
"""How long it may take to hold again what a refused version was to replace."""
MAX_CRANKBACKS = 8
MAX_ROUNDS = 8


def refuse(order: Order, now: datetime, *reasons: Reason) -> Order:
    """The order refused. Where it was to replace a hold, that hold is wanted again as it was, with time of its own."""
    answers = {**order.answers, order.version: Answer(digest=order.digest, reasons=reasons)}
    previous = order.previous
    if previous is None:
        return abandon(replace(order, reasons=reasons, answers=answers).on(Event.REFUSE))
    before = {s.key: s for s in previous.segments if s.wanted}
    segments = [
        replace(_handed(s, before[s.key]), quote=before[s.key].quote) if s.key in before else replace(s, wanted=False)
        for s in order.segments
    ]
    segments += [s for key, s in before.items() if order.segment(key) is None]
    return replace(
        previous,
        state=ServiceState.RESERVING,
        segments=tuple(segments),
        answers=answers,
        released_upto=max(previous.released_upto, order.released_upto),
        previous=None,
        expires=None,
        deadline=now + RESTORING,
        rounds=0,
        crankbacks=0,
    )


@task
def place(order: Order, env: Env) -> Order | Pause:
    """As it was quoted; else over the suppliers' notes, around what was refused so far, within what may be paid."""
    if order.plan is not None or order.spec is None:
        return order
    lexicon = env.lexicon(order.account, order.terms).learnt(order.words)
    spec, quoted = order.spec, order.quoted
    meant = lexicon.meant(bound(spec, order.terms.classes))
    if isinstance(meant, Reason):
        return refuse(order, env.now, *(order.reasons or (meant,)))
    standing = quoted is not None and order.avoid == Avoid() and _known(quoted.plan, env.snapshot)
    if quoted is not None and standing and keeps(quoted.plan, meant):
        plan = quoted.plan
    else:
        question = Question(within_price(order, meant), order.avoid)
        found = env.answer(question)
        if found is None:
            return Pause(order, asks=question)
        if isinstance(found, Infeasible):
            why = told(found, quoted.bound(spec) if quoted else spec, order.terms.margin, env.snapshot)
            better = tuple(reason for reason in why if reason.nogood is not None)
            return refuse(order, env.now, *((*order.reasons, *better) if order.reasons else why))
        plan = found[0]
    planned = [place for segment in plan.segments for place in segment.places.values()]
    words = {**order.words, **lexicon.of(planned, spec)}
    return replace(order, plan=plan, words=words, addressed=False)


def within_price(order: Order, spec: ServiceSpec) -> ServiceSpec:
    """The spec as it is planned: for what may be paid for it."""
    return order.quoted.bound(spec) if order.quoted is not None else order.terms.planned(spec)


def _known(plan: Plan, snapshot: Snapshot) -> bool:
    """Whether everything that a plan of before names is still announced."""
    notes = {view.alias: view.note for view in snapshot.suppliers}
    if any(segment.alias not in notes for segment in plan.segments):
        return False
    stretches = [stretch for line in plan.lines.values() for stretch in line]
    met = {(plan.segments[s.segment].alias, sap) for s in stretches for sap in (s.entry, s.exit) if sap is not None}
    return all(notes[alias].sap(sap) is not None for alias, sap in met)


@task
def address(order: Order, env: Env) -> Order | Pause:
    """Take the block if none was given, and derive the segments from the plan."""
    if order.addressed or order.plan is None or order.spec is None:
        return order
    spec, plan = order.spec, order.plan
    allowed = spec.blocks.allowed
    bits = block_bits(spec)
    if not allowed and bits:
        if order.block is None:
            taken = env.allocate(order.id, bits)
            if isinstance(taken, Reason):
                return refuse(order, env.now, taken)
            order = replace(order, pool=taken[0], block=taken[1])
        allowed = (order.block,) if order.block is not None else ()
    try:
        asked = bound(spec, order.terms.classes)
        parts = split(_mesh(asked), plan, env.snapshot, allowed, order.id, order.terms.classes)
    except CannotAddress as error:
        if error.reason.code is ReasonCode.LABELS_EXHAUSTED and order.crankbacks < MAX_CRANKBACKS:
            return again(order, Avoid(interconnects=frozenset(plan.interconnects)), error.reason)
        return refuse(order, env.now, error.reason)
    wider = next(filter(None, (widened(asked, part) for part in parts.segments)), None)
    if wider is not None:
        return refuse(order, env.now, wider)
    known = {s.key: s for s in order.segments}
    segments = tuple(
        _segment(order, known, part, planned) for part, planned in zip(parts.segments, plan.segments, strict=True)
    )
    kept = {s.key for s in segments}
    rest = tuple(replace(s, wanted=False) for s in order.segments if s.key not in kept)
    return replace(order, addressed=True, segments=(*segments, *rest), classes=parts.classes, links=parts.links)


def _mesh(spec: ServiceSpec) -> Mesh:
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh), "what was planned is a mesh"
    return mesh


def _segment(order: Order, known: dict[str, Segment], part: HandedDown, planned: PlannedSegment) -> Segment:
    old = known.get(part.key) or Segment(
        key=part.key, alias=part.alias, ref=child_ref(order.epoch, order.id, part.key), spec=part.spec
    )
    if old.state in (SegmentState.REFUSED, SegmentState.RELEASED):
        old = replace(old, reasons=())  # what was refused before, to another version or plan, is asked anew
    spec, quote = part.spec, _quote(order, part)
    if old.state is SegmentState.HELD and _fits(old, spec) and old.quote == quote:
        spec = old.spec  # what is held and still fits is not asked again
    return replace(_handed(old, part), spec=spec, quote=quote, announced=planned.price, place=_place_of(planned))


def _handed(segment: Segment, part: HandedDown | Segment) -> Segment:
    """The segment, wanted as `part` says."""
    return replace(
        segment,
        spec=part.spec,
        towards=part.towards,
        crossings=part.crossings,
        lines=part.lines,
        wanted=True,
    )


def _quote(order: Order, part: HandedDown) -> str:
    """The supplier's quote for this segment, where it was given for just this."""
    quoted = order.quoted.parts.get(part.key) if order.quoted is not None else None
    return quoted.quote if quoted is not None and quoted.digest == part.spec.priced().digest() else ""


def _fits(held: Segment, wanted: ServiceSpec) -> bool:
    """Whether a hold serves the new spec: the same but for labels, and its labels are allowed."""
    if held.choice is None:
        return False
    bare = {e.id: replace(e, labels=None, suggested_label=None) for e in held.spec.ends}
    if replace(held.spec, ends=tuple(bare.values())) != replace(
        wanted, ends=tuple(replace(e, labels=None, suggested_label=None) for e in wanted.ends)
    ):
        return False
    return all(e.labels is None or held.choice.labels.get(e.id) in e.labels for e in wanted.ends)


def _place_of(planned: PlannedSegment) -> str:
    places = sorted(set(planned.places.values()))
    return ", ".join(places)


def again(order: Order, more: Avoid, *reasons: Reason) -> Order:
    """Plan again around `more`: one crank-back."""
    return replace(
        order,
        avoid=order.avoid | more,
        plan=None,
        addressed=False,
        crankbacks=order.crankbacks + 1,
        reasons=reasons,
        rounds=0,
    )


@task
def crank_back(order: Order, env: Env) -> Order | Pause:
    """Around what was refused: choose a label again, plan again, or give up with the reasons."""
    refused = [
        s
        for s in order.segments
        if s.wanted and s.reasons and s.asked == s.body() and s.state in (SegmentState.REFUSED, SegmentState.RELEASED)
    ]
    if not refused or order.spec is None:
        return order
    if lost := [s for s in refused if s.quote and s.reasons[0].code is ReasonCode.QUOTE_NOT_VALID]:
        return _unquoted(order, lost)
    segment = refused[0]
    reasons = tuple(wrapped(s, ReasonCode.SEGMENT_REFUSED, words_of(order.spec)) for s in refused)
    label_class = class_refused(order, segment)
    if label_class is None and (above := label_from_above(order, segment, reasons)) is not None:
        return refuse(order, env.now, above)
    if label_class is not None:
        if order.rounds >= MAX_ROUNDS:
            return refuse(order, env.now, *reasons)
        nogood = segment.reasons[0].nogood
        acceptable = nogood.acceptable_labels if nogood else None
        try:
            smaller = without(label_class, label_class.suggested, acceptable, order.id, beside(order, label_class))
        except LabelsExhausted:
            exhausted = Reason(
                code=ReasonCode.LABELS_EXHAUSTED, message=NO_COMMON_LABEL, causes=reasons, retryable=True
            )
            if order.crankbacks >= MAX_CRANKBACKS:
                return refuse(order, env.now, exhausted)
            return again(order, Avoid(interconnects=frozenset(label_class.interconnects)), exhausted)
        return relabel(replace(order, rounds=order.rounds + 1), smaller)
    if order.crankbacks >= MAX_CRANKBACKS:
        return refuse(order, env.now, *reasons)
    learnt = reduce(or_, (learning.refused(s.alias, s.spec, s.reasons) for s in refused))
    return again(order, learnt, *reasons)


def _unquoted(order: Order, lost: list[Segment]) -> Order:
    """The segments whose suppliers do not know their quotes any more are asked for at today's price."""
    assert order.quoted is not None, "only who has a quote hands quotes down"
    keys = {s.key for s in lost}
    parts = {key: part for key, part in order.quoted.parts.items() if key not in keys}
    segments = tuple(replace(s, quote="") if s.key in keys else s for s in order.segments)
    return replace(order, quoted=replace(order.quoted, parts=parts), segments=segments)


@task
def hold(order: Order, env: Env) -> Order | Pause:
    """Ask every supplier for its segment, all at once; ask again where the outcome is not known."""
    calls: list[Call] = []
    waits = []
    late = order.deadline is not None and env.now >= order.deadline
    for segment in order.segments:
        digest = segment.body()
        if not segment.wanted or (segment.state is SegmentState.HELD and segment.asked == digest):
            continue
        if late:
            unreachable = Reason(
                code=ReasonCode.SUPPLIER_UNREACHABLE,
                message=f"segment {segment.key}: no answer in time",
                segment=segment.key,
                retryable=True,
            )
            return refuse(order, env.now, unreachable)
        if segment.state is SegmentState.RELEASING:
            if segment.retry_at is not None and segment.retry_at > env.now:
                waits.append(segment.retry_at)
            else:
                calls.append(Call(CallKind.RELEASE, segment.key, segment.version))
                order = order.with_segment(replace(segment, retry_at=None))
            continue
        version = segment.version
        if segment.state is SegmentState.RESERVING and segment.asked == digest:
            if segment.retry_at is not None and segment.retry_at > env.now:
                waits.append(segment.retry_at)
                continue
            order = order.with_segment(replace(segment, retry_at=None))
        elif segment.not_before is not None and segment.not_before > env.now:
            waits.append(segment.not_before)
            continue
        else:
            version += 1
            order = order.with_segment(
                replace(
                    segment,
                    state=SegmentState.RESERVING,
                    version=version,
                    asked=digest,
                    attempts=0,
                    retry_at=None,
                    not_before=None,
                    reasons=(),
                    lingers=segment.lingers or segment.state in (SegmentState.HELD, SegmentState.RESERVING),
                )
            )
        calls.append(Call(CallKind.RESERVE, segment.key, version))
    if calls:
        return Pause(order, tuple(calls))
    if waits:
        ends = [*waits, order.deadline] if order.deadline is not None else waits
        return Pause(order, wake=min(ends))
    return order


@task
def agree(order: Order, env: Env) -> Order | Pause:
    """Where the two sides of an interconnect chose differently, pin the other side to the authority's value."""
    chosen = chosen_labels(order)
    pinned = order
    for label_class in order.classes:
        differs = disagreement(label_class, chosen)
        if differs is None:
            continue
        value, others = differs
        for member in others:
            pinned = with_labels(pinned, member.segment, member.end, LabelSet.of([value]), value)
        classes = tuple(replace(c, suggested=value) if c.id == label_class.id else c for c in pinned.classes)
        pinned = replace(pinned, classes=classes)
    if pinned is order:
        return order
    if order.rounds >= MAX_ROUNDS:
        return refuse(
            order,
            env.now,
            Reason(code=ReasonCode.LABEL_CONTENDED, message="the suppliers did not agree on labels", retryable=True),
        )
    return replace(pinned, rounds=order.rounds + 1)


@task
def price(order: Order, env: Env) -> Order | Pause:
    """What was quoted, as long as that covers the cost; or what the suppliers ask with our margin. Either against what the
    customer allows."""
    if order.spec is None:
        return order
    try:
        cost = sum((s.price for s in order.segments if s.wanted), FREE)
    except CurrencyMismatch:
        foreign = Reason(code=ReasonCode.PRICE, message="the suppliers ask in different currencies")
        return refuse(order, env.now, foreign)
    asked = order.quoted.price if order.quoted is not None else cost.scaled(order.terms.margin)
    hours = order.spec.term_hours
    if order.quoted is not None and not order.quoted.covers(cost, hours):
        message = "price: it has become dearer than it was quoted, and than we can bear"
        return refuse(order, env.now, Reason(code=ReasonCode.PRICE, message=message, subject="quote"))
    if order.spec.max_price is not None and asked.over(hours) > order.spec.max_price:
        message = f"price: {asked.over(hours)} {asked.currency} over {hours} h > {order.spec.max_price}"
        return refuse(order, env.now, Reason(code=ReasonCode.PRICE, message=message, subject="max_price"))
    if (cost, asked) == (order.cost, order.price):
        return order
    return replace(order, cost=cost, price=asked)


@task
def decide(order: Order, env: Env) -> Order | Pause:
    """All is held and fits: the service is reserved until shortly before the first of its holds ends."""
    if order.spec is None:
        return order
    mine = [s for s in order.segments if s.wanted]
    answers = {s.key: s.choice for s in mine if s.choice is not None}
    until = env.now + timedelta(seconds=order.terms.max_hold_s)
    expires = min([until, *(s.expires - GUARD for s in mine if s.expires is not None)])
    choice = gather(order.spec, parts_of(order), answers)
    return replace(
        order,
        choice=choice,
        delay_us=_delay(order, {s.key: s.delay_us for s in mine}),
        expires=expires,
        previous=None,
        reasons=(),
        was_live=False,
    ).on(Event.HELD)


def _delay(order: Order, answered: dict[str, int]) -> int:
    """Of the slowest path: what its segments answered, each of which tells of its own slowest."""
    assert order.spec is not None
    assert order.plan is not None, "what is held was planned"
    cut = Cut(_mesh(order.spec), order.plan)
    sums: Counter[str] = Counter()
    for visit in cut.visits:
        sums[visit.path.id] += answered[cut.keys[visit.segment]]
    return max(sums.values())


def parts_of(order: Order) -> Split:
    """The split as the order records it."""
    handed = tuple(
        HandedDown(key=s.key, alias=s.alias, spec=s.spec, towards=s.towards, crossings=s.crossings, lines=s.lines)
        for s in order.segments
        if s.wanted
    )
    return Split(segments=handed, classes=order.classes, links=order.links)
