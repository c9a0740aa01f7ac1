"""The tasks that lead from the notes to segments: place and address. Pure.

Rules kept here
- A service is planned as it was quoted; else over the notes, around what was refused so far. What is announced is always
  preferred to what is hoped for.
- What is held and still fits is never planned or asked again.
"""

from __future__ import annotations

from broker.decompose.availability import keeps
from broker.decompose.lexicon import Lexicon
from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Avoid, Infeasible, Plan, PlannedSegment, Snapshot
from broker.orders import hoping, staying, succession
from broker.orders.addressing import CannotAddress, block_bits
from broker.orders.anchoring import anchored, had, serves
from broker.orders.cut import Cut
from broker.orders.narrowing import constraint_of, wider_than
from broker.orders.path_headers import headed
from broker.orders.readdressing import as_labelled, without_room
from broker.orders.reasons import told
from broker.orders.records import Order, Segment, child_ref
from broker.orders.retrying import again, exhausted, handed, refuse
from broker.orders.sizing import sized
from broker.orders.split import NEW, Had, HandedDown, split
from broker.orders.states import SegmentState
from broker.orders.tasks import Env, Pause, Question, task
from service_model.outcomes import Reason, ReasonCode
from service_model.qos import bound
from service_model.replacing import replace
from service_model.spec import ServiceSpec


@task
def place(order: Order, env: Env) -> Order | Pause:
    """As it was quoted; else over the suppliers' notes, around what was refused so far, within what may be paid."""
    if order.plan is not None or order.spec is None:
        return order
    lexicon = env.lexicon(order.account, order.terms).learnt(order.words)
    spec, quoted = sized(order), order.quoted
    meant = lexicon.meant(bound(spec, order.terms.classes))
    if isinstance(meant, Reason):
        return refuse(order, env.now, *(order.reasons or (meant,)))
    standing = quoted is not None and order.avoid == Avoid() and _known(quoted.plan, env.snapshot)
    stays = _staying(order, env, meant)
    if quoted is not None and standing and keeps(quoted.plan, meant):
        plan = quoted.plan
    elif isinstance(stays, Plan):
        plan = stays
    else:
        question = Question(within_price(order, meant), order.avoid, why=not order.unannounced)
        if order.healed and stays is not None:  # what moves is what must
            staying_put = replace(question, spec=within_price(order, stays), why=False)
            found = env.answer(staying_put)
            if found is None:
                return Pause(order, asks=staying_put)
            if not isinstance(found, Infeasible):
                return planned(order, found[0], lexicon)
            stays = None
        found = env.answer(question)
        if found is None:
            return Pause(order, asks=question)
        if stays is not None and not isinstance(found, Infeasible):
            near = replace(question, spec=within_price(order, stays), why=False)
            where_it_is = env.answer(near)
            if where_it_is is None:
                return Pause(order, asks=near)
            found = staying.better(found, where_it_is)
        if isinstance(found, Infeasible):
            why = (
                order.reasons if order.unannounced else _why(order, found, quoted.bound(spec) if quoted else spec, env)
            )
            hope = hoping.plan(order, env, question)
            if isinstance(hope, Question):
                return Pause(order, asks=hope)
            if hope is None:
                return refuse(order, env.now, *why)
            plan, order = hope, hoping.begun(order, env, why)
        else:
            plan, order = found[0], replace(order, hoping=0, unannounced=())
    return planned(order, plan, lexicon)


def planned(order: Order, plan: Plan, lexicon: Lexicon) -> Order:
    """The order with a plan, and with what its owner calls the places in it."""
    assert order.spec is not None, "only what is asked for is planned"
    places = [place for segment in plan.segments for place in segment.places.values()]
    return replace(order, plan=plan, words={**order.words, **lexicon.of(places, order.spec)}, addressed=False)


def _staying(order: Order, env: Env, meant: ServiceSpec) -> Plan | ServiceSpec | None:
    """Of a newer version of what is live: the live plan, where that will do; else the spec with all that stays where it is."""
    if env.live is None or env.live.spec is None:
        return None
    was = (
        env.lexicon(order.account, order.terms)
        .learnt(env.live.words)
        .meant(bound(sized(env.live), order.terms.classes))
    )
    plan = staying.plan(order, env, meant, was) if not isinstance(was, Reason) else None
    if plan is not None and _known(plan, env.snapshot):
        return plan
    return staying.where_it_is(meant, env.live)


def _why(order: Order, found: Infeasible, spec: ServiceSpec, env: Env) -> tuple[Reason, ...]:
    """What was refused, and the nearest that there is; or why nothing can be planned."""
    why = told(found, spec, order.terms.margin, env.snapshot)
    better = tuple(reason for reason in why if reason.nogood is not None)
    return (*order.reasons, *better) if order.reasons else why


def within_price(order: Order, spec: ServiceSpec) -> ServiceSpec:
    """The spec as it is planned: for what may be paid for it. Of a healing, what stays costs what it did, and not what is
    announced now: that is judged when it is known what stays."""
    if order.healed:
        return replace(spec, max_price=None)
    return order.quoted.bound(spec) if order.quoted is not None else order.terms.planned(spec)


def _known(plan: Plan, snapshot: Snapshot) -> bool:
    """Whether everything that a plan of before names is still announced."""
    notes = {view.alias: view.note for view in snapshot.suppliers}
    if any(segment.alias not in notes for segment in plan.segments):
        return False
    stretches = [stretch for line in plan.lines.values() for stretch in line]
    met = {(plan.segments[s.segment].alias, sap) for s in stretches for sap in (s.entry, s.exit) if sap is not None}
    met |= {(plan.segments[site.segment].alias, site.sap) for site in plan.lan_sites}
    return all(notes[alias].sap(sap) is not None for alias, sap in met)


@task
def address(order: Order, env: Env) -> Order | Pause:
    """Take a block of each family if none was given and ids for the paths, and derive the segments from the plan."""
    if order.addressed or order.plan is None or order.spec is None:
        return order
    spec, plan = sized(order), order.plan
    allowed = spec.blocks.allowed
    sizes = {} if order.healed else block_bits(spec)
    if not allowed and sizes:
        taken = env.allocate(order.id, sizes)
        if isinstance(taken, Reason):
            return refuse(order, env.now, taken)
        order = order.with_blocks(taken)
        allowed = order.present_blocks
    asked = bound(spec, order.terms.classes)
    if order.healed:
        assert env.live is not None, "a healing is of something live"
        asked = anchored(order, asked, env.live, env.snapshot)
    mesh, snapshot = mesh_of(asked), hoping.over(order, env)
    ids = env.identify(order.id, headed(Cut(mesh, plan), snapshot), order.path_ids)
    if isinstance(ids, Reason):
        return refuse(order, env.now, ids)
    order = replace(order, path_ids=ids)
    try:
        classes = order.terms.classes
        parts = split(
            mesh, plan, snapshot, allowed, order.id, classes, order.carved, order.unusable, ids, _had(order, env.live)
        )
    except CannotAddress as error:
        if order.unusable and error.reason.code is ReasonCode.PREFIX_TOO_SMALL:
            found = without_room(order, env, sizes, error.reason.subject)
            return refuse(order, env.now, found) if isinstance(found, Reason) else found
        if error.interconnects and not exhausted(order):
            return again(order, Avoid(interconnects=frozenset(error.interconnects)), error.reason)
        return refuse(order, env.now, error.reason)
    if order.classes:  # the plan stays: only prefixes were chosen again
        same = tuple(as_labelled(order, part) for part in parts.segments)
        parts = replace(parts, segments=same, classes=order.classes)
    above = constraint_of(asked)
    wider = next(filter(None, (wider_than(above, asked, part) for part in parts.segments)), None)
    if wider is not None:
        return refuse(order, env.now, wider)
    known = {s.key: s for s in order.segments}
    segments = tuple(
        replace(
            _segment(order, env, known, part, planned), hoped=not hoping.promised(order, env, part, asked.isolation)
        )
        for part, planned in zip(parts.segments, plan.segments, strict=True)
    )
    if order.healed and (dear := _too_dear(order, segments)) is not None:
        return refuse(order, env.now, dear)
    kept = {s.key for s in segments}
    rest = tuple(replace(s, wanted=False) for s in order.segments if s.key not in kept)
    return replace(
        order,
        addressed=True,
        segments=(*segments, *rest),
        classes=parts.classes,
        links=parts.links,
        carved=order.carved if order.healed else parts.carved,
    )


def _too_dear(order: Order, segments: tuple[Segment, ...]) -> Reason | None:
    """Why a healing costs us more than we bear, by what is announced of that which is bought anew."""
    assert order.quoted is not None, "a healing is bounded"
    assert order.spec is not None, "what is placed was asked for"
    hours = order.spec.term_hours
    if sum(s.announced.over(hours) for s in segments) <= order.quoted.most(hours):
        return None
    message = "price: what would do costs more than the service brings in"
    return Reason(code=ReasonCode.PRICE, message=message, subject="max_price")


def mesh_of(spec: ServiceSpec) -> Mesh:
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh), "what was planned is a mesh"
    return mesh


def _had(order: Order, live: Order | None) -> Had:
    if live is None:
        return NEW
    if order.healed:
        return had(live, order)
    mine = [s for s in live.segments if s.wanted and s.choice is not None]
    labels = {(s.key, end): label for s in mine if s.choice for end, label in s.choice.labels.items()}
    return Had(links=live.links, labels=labels)


def _segment(order: Order, env: Env, known: dict[str, Segment], part: HandedDown, planned: PlannedSegment) -> Segment:
    own = part.key if env.live is None else f"{part.key}@{order.mark}"
    old = known.get(part.key) or Segment(
        key=part.key, alias=part.alias, ref=child_ref(order.epoch, order.id, own), spec=part.spec
    )
    if (kept := _kept(order, env, old, part)) is not None:
        return replace(kept, announced=kept.price, place=_place_of(planned), gave_way=False)
    if old.state in (SegmentState.REFUSED, SegmentState.RELEASED):
        old = replace(old, reasons=())  # what was refused before, to another version or plan, is asked anew
    spec, quote = part.spec, _quote(order, part)
    if old.state is SegmentState.HELD and _fits(old, spec) and old.quote == quote:
        spec = old.spec  # what is held and still fits is not asked again
    return replace(
        handed(old, part), spec=spec, quote=quote, announced=planned.price, place=_place_of(planned), gave_way=False
    )


def _kept(order: Order, env: Env, old: Segment, part: HandedDown) -> Segment | None:
    """The live segment, where it does for what is wanted of the newer version, and nothing else is held in its place."""
    live = env.live.segment(part.key) if env.live is not None else None
    free = old.kept or (old.state in (SegmentState.REFUSED, SegmentState.RELEASED) and not old.lingers)
    if live is None or (live.alias, live.ref) != (old.alias, old.ref) or not free:
        return None
    if order.healed:
        if live.ref in order.lost or not serves(live, part.spec):
            return None
    elif not _fits(live, replace(part.spec, name=live.spec.name)):
        return None
    spent = max(old.spent, old.version, live.spent)
    return replace(handed(succession.standing(live), part), spec=live.spec, spent=spent)


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
