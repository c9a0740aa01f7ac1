"""How a newer version comes beside a live one, and takes its place. Pure.

Rules kept here
- The newer version is an order of its own within the live one (`beside`), with a workflow of its own. It begins with what is
  live: a segment that it asks nothing new of is *kept*. What it asks anew at the same supplier is the next version under the same
  ref; what it asks elsewhere has a ref of its own, since one that has ended is never used again.
- Nothing of the live version is changed until the newer one is active. Then that takes its place at once; what it has not is
  past, and ends by itself while the service goes on.
- A healing is such an order too (`healing`): the live version once more, without what is lost. The newer version that its owner
  may have asked for meanwhile, and not brought in, is none of its business.
- A version under a ref is asked for once, whoever of these orders asks (`spent`).
- Whoever ends the service ends all its versions.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.orders.records import Order, Segment, remains
from broker.orders.states import SegmentState
from service_model.outcomes import ServiceState
from service_model.replacing import replace
from service_model.words import Prefix

ENDED = frozenset(
    {
        SegmentState.FAILED,
        SegmentState.TERMINATING,
        SegmentState.LEAVING,
        SegmentState.TERMINATED,
        SegmentState.ABANDONED,
    }
)
"""Under its ref nothing can be asked for any more."""


def standing(segment: Segment) -> Segment:
    """A live segment as a modification begins with it; where only an older version lives, nothing is held beside that."""
    made = replace(segment, wanted=False, gave_way=False, waits=0, reasons=(), expires=None, lives=0)
    if segment.lives:
        return replace(made, stands=segment.lives, state=SegmentState.RELEASED)
    return replace(made, stands=segment.version)


def begun(live: Order, fresh: Order) -> Order:
    """The newer version as it begins beside `live`."""
    return replace(
        fresh,
        newer=True,
        block=live.block,
        second_block=live.second_block,
        pool=live.pool,
        second_pool=live.second_pool,
        carved=live.carved,
        unusable=live.unusable,
        path_ids=live.path_ids,
        segments=_standing(live),
    )


def with_healing(live: Order, fresh: Order) -> Order:
    """`live` with what is to heal it. What a former try has left is past: nobody waits for that."""
    made = begun(live, fresh)
    refs = {(s.alias, s.ref) for s in (*live.segments, *made.segments)}
    past = live.past
    if any(_left(refs, live.healing)):
        past = _past(live, tuple(_left(refs, live.healing, past)), past.former_blocks if past is not None else ())
    return replace(live, healing=made, past=past)


def _past(live: Order, left: tuple[Segment, ...], blocks: tuple[Prefix, ...]) -> Order:
    """What of `live` and beside it is not wanted any more, as an order that ends by itself."""
    return replace(
        live,
        state=ServiceState.TERMINATING,
        segments=left,
        answers={},
        reasons=(),
        former_blocks=blocks,
        block=None,
        second_block=None,
        beside=None,
        past=None,
        healing=None,
        previous=None,
        choice=None,
        bindings=None,
        plan=None,
        quoted=None,
    )


def _standing(live: Order) -> tuple[Segment, ...]:
    """What a version beside `live` begins with: all that lives, under which no version is asked for twice."""
    spent: dict[tuple[str, str], int] = {}
    for s in live.all_segments():
        spent[s.alias, s.ref] = max(spent.get((s.alias, s.ref), 0), s.version, s.spent)
    mine = (s for s in live.segments if s.wanted and (s.lives or s.state not in ENDED))
    return tuple(replace(standing(s), spent=spent[s.alias, s.ref]) for s in mine)


def replaced(former: Order, fresh: Order, live: Order | None = None) -> Order:
    """A newer version in place of one that was held, refused or expired; of what was held it may come back to that. `live`: what
    both stand beside."""
    held = former.state is ServiceState.RESERVED
    spent = {(s.alias, s.ref): max(s.spent, s.version) for s in live.healing.segments} if live and live.healing else {}
    segments = (replace(s, wanted=False, spent=max(s.spent, spent.get((s.alias, s.ref), 0))) for s in former.segments)
    return replace(
        fresh,
        newer=former.newer,
        block=former.block,
        former_blocks=former.former_blocks,
        carved=former.carved,
        unusable=former.unusable,
        pool=former.pool,
        path_ids=former.path_ids,
        second_block=former.second_block,
        second_pool=former.second_pool,
        segments=tuple(renamed(s, former.mark) if s.state in ENDED else s for s in segments),
        released_upto=former.released_upto,
        answers=former.answers,
        previous=replace(former, previous=None, extending=None) if held else former.previous,
    )


def renamed(segment: Segment, mark: str) -> Segment:
    """A segment that gives up its key: the next one at that supplier has it."""
    return segment if "@" in segment.key else replace(segment, key=f"{segment.key}@{mark}")


def succeeded(live: Order, newer: Order) -> Order:
    """The order when the newer version is active: in place of the live one, what that had besides is past."""
    current = {(s.alias, s.ref): s for s in live.segments}

    def taken_over(segment: Segment) -> Segment:
        if not segment.kept:
            return replace(segment, stands=0, losses=current.get((segment.alias, segment.ref), segment).losses)
        known = current[segment.alias, segment.ref]
        return replace(
            known, towards=segment.towards, crossings=segment.crossings, lines=segment.lines, spent=segment.spent
        )

    segments = tuple(taken_over(s) for s in newer.segments if s.wanted)
    refs = {(s.alias, s.ref) for s in segments}
    mends = newer.healed > 0 and newer.version == live.version
    others = (live, newer, live.past) if mends else (live, newer, live.past, live.healing)
    left = tuple(_left(refs, *others))
    whole = replace(
        newer,
        newer=False,
        state=live.state,
        created=live.created,
        segments=segments,
        reasons=live.reasons,
        expires=None,
        answers={**live.answers, **newer.answers},
        released_upto=max(live.released_upto, newer.released_upto),
        previous=None,
        was_live=True,
        confirmed=True,
        former_blocks=(),
        beside=None,
        past=None,
        healing=None,
        heals=live.heals,
        care=live.care if live.state is ServiceState.ACTIVE else replace(live.care, broken={}),
        lost=frozenset(),
    )
    if mends and live.beside is not None:
        whole = replace(whole, beside=_rebased(live.beside, whole))
    blocks = tuple(b for b in _blocks(*others) if b not in whole.own_blocks())
    if not left:
        return whole
    return replace(whole, past=_past(live, left, blocks))


def _rebased(beside: Order, live: Order) -> Order:
    """A newer version that was not brought in, beside the live one as it was healed: of that it would begin anew."""
    made = _standing(replace(live, beside=beside))
    refs = {(s.alias, s.ref) for s in made}
    return replace(beside, segments=(*made, *_left(refs, beside)))


def absorbed(order: Order) -> Order:
    """The order with whatever its other versions may still have, as its own: it ends as one."""
    versions = (order.beside, order.healing, order.past)
    if not any(versions):
        return order
    refs = {(s.alias, s.ref) for s in order.segments}
    left = tuple(_left(refs, *versions))
    others = tuple(b for b in _blocks(*versions) if b not in order.own_blocks())
    ids = {id: n for o in reversed(versions) if o is not None for id, n in o.path_ids.items()}
    return replace(
        order,
        segments=(*order.segments, *left),
        former_blocks=(*order.former_blocks, *dict.fromkeys(others)),
        path_ids={**ids, **order.path_ids},
        answers=order.refusals,
        beside=None,
        healing=None,
        past=None,
    )


def settled(order: Order) -> Order:
    """The order with a newer version that is active in its place, and without what is past and gone."""
    past = order.past
    if past is not None and past.state is ServiceState.TERMINATED and not any(s.abandoned for s in past.segments):
        order = replace(order, past=None)
    for newer in (order.beside, order.healing):
        if newer is not None and newer.state is ServiceState.ACTIVE:
            return succeeded(order, newer)
    return order


def _left(refs: set[tuple[str, str]], *orders: Order | None) -> Iterator[Segment]:
    """What may still be somewhere under other refs than these, each once."""
    seen = set(refs)
    for order in orders:
        for segment in order.segments if order is not None else ():
            if (segment.alias, segment.ref) not in seen and (remains(segment) or segment.abandoned):
                seen.add((segment.alias, segment.ref))
                yield replace(renamed(segment, order.mark if order else ""), wanted=False, stands=0)


def _blocks(*orders: Order | None) -> Iterator[Prefix]:
    for order in orders:
        if order is not None:
            yield from order.own_blocks()
