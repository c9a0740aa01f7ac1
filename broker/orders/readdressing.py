"""What an order does about a prefix that a supplier cannot use: choose that one again, and no other. Pure.

Rules kept here
- A conflict is a refusal with what was refused and what would do instead. What it teaches is kept off wherever a prefix of the
  order is chosen from then on: a prefix is told to both sides of an interconnect.
- The plan stays, and so do labels and the prefixes that are in no conflict: what is held and not concerned is not asked again.
- Where no room is left, the top takes another block of its pools; the one before goes back when nobody below can use it any
  more. Who has a share from above cannot: it refuses with what would do, and so does who was given the prefix itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from address_planner.conflicts import conflicting, nearest, unusable
from address_planner.prefixes import aggregate, subtract
from broker.orders.reasons import PHRASES
from broker.orders.records import Order, Segment
from broker.orders.split import HandedDown
from broker.orders.tasks import Env
from service_model.outcomes import Nogood, Reason, ReasonCode
from service_model.spec import ServiceSpec
from service_model.words import Prefix


def readdressed(order: Order, segment: Segment, reasons: tuple[Reason, ...]) -> Order | Reason | None:
    """The order with what the refusal of the segment taught, to be addressed again; why only whoever is above can choose again;
    None where it is no conflict about what we gave."""
    first = segment.reasons[0]
    if first.code is not ReasonCode.PREFIX_CONFLICT or first.nogood is None or order.spec is None:
        return None
    refused = conflicting(_given(segment.spec), first.nogood.refused_prefixes)
    if not refused:
        return None
    proposed = first.nogood.acceptable_prefixes or ()
    learnt = unusable(refused, proposed)
    for link in order.spec.links:
        if clash := conflicting(link.addressing.prefixes, refused):
            return conflict(link.id, clash, proposed, reasons)
    theirs = {segment.lines.get(link.id, link.id) for link in segment.spec.links}
    stays = {
        id: tuple(p for p in prefixes if id not in theirs or not conflicting([p], refused))
        for id, prefixes in order.carved.items()
    }
    if stays == order.carved:
        return None  # nothing of it was chosen here
    return replace(
        order,
        unusable=aggregate([*order.unusable, *learnt]),
        carved=stays,
        addressed=False,
        rounds=order.rounds + 1,
        reasons=reasons,
    )


def _given(spec: ServiceSpec) -> list[Prefix]:
    required = [prefix for link in spec.links for prefix in link.addressing.prefixes]
    return [*required, *spec.blocks.allowed]


def conflict(
    link: str, refused: tuple[Prefix, ...], proposed: tuple[Prefix, ...], causes: tuple[Reason, ...] = ()
) -> Reason:
    """A prefix of the caller's that cannot be used, for whoever chose it."""
    return Reason(
        code=ReasonCode.PREFIX_CONFLICT,
        message=f"{PHRASES[ReasonCode.PREFIX_CONFLICT]} ({', '.join(map(str, refused))})",
        subject=link,
        nogood=Nogood(link=link, refused_prefixes=refused, acceptable_prefixes=proposed),
        causes=causes,
    )


def without_room(order: Order, env: Env, sizes: Mapping[int, int], wanted: str) -> Order | Reason:
    """The order with another block, clear of what cannot be used; or why there is none. `wanted`: the link that found no room."""
    assert order.spec is not None
    share = order.spec.blocks.allowed
    if share:
        carved = [prefix for prefixes in order.carved.values() for prefix in prefixes]
        refused = conflicting(subtract(share, carved), order.unusable)
        left = subtract(share, order.unusable)
        return conflict(wanted, refused, aggregate([*left, *nearest(refused, order.unusable)]), order.reasons)
    taken = env.allocate(order.id, sizes, order.unusable)
    return taken if isinstance(taken, Reason) else order.with_blocks(taken)


def as_labelled(order: Order, part: HandedDown) -> HandedDown:
    """The part with the labels that its segment has in an order whose plan stays."""
    segment = order.segment(part.key)
    if segment is None:
        return part
    known = {end.id: end for end in segment.spec.ends}
    ends = tuple(
        replace(end, labels=old.labels, suggested_label=old.suggested_label)
        if (old := known.get(end.id)) is not None
        else end
        for end in part.spec.ends
    )
    return replace(part, spec=replace(part.spec, ends=ends))
