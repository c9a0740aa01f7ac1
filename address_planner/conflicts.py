"""Prefixes that one side gives and the other cannot use: what it proposes instead, and what is learnt of that. Pure.

Rules kept here
- A proposal is near: what is free in the smallest block around the refused prefix that has room for one like it. So it tells of
  what is in use no more than it must.
- Who proposes nothing teaches of the refused prefix alone; who does, of all that lies around it and is not proposed.
- Only what cannot stay is chosen again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from address_planner.prefixes import Prefix, PrefixTooSmall, aggregate, carve, inside, overlap, subtract

MOST_PROPOSED = 16


def nearest(refused: Iterable[Prefix], excluded: Sequence[Prefix]) -> tuple[Prefix, ...]:
    """What may be used instead, near each of `refused`: the fewest prefixes, at most MOST_PROPOSED, the largest first."""
    found = aggregate(prefix for one in refused for prefix in _near(one, excluded))
    return tuple(sorted(found, key=lambda p: p.prefixlen)[:MOST_PROPOSED])


def _near(refused: Prefix, excluded: Sequence[Prefix]) -> tuple[Prefix, ...]:
    for length in range(refused.prefixlen - 1, -1, -1):
        free = subtract([refused.supernet(new_prefix=length)], excluded)
        if any(p.prefixlen <= refused.prefixlen for p in free):
            return free
    return ()


def unusable(refused: Iterable[Prefix], proposed: Sequence[Prefix]) -> tuple[Prefix, ...]:
    """What a refusal with this proposal tells not to use."""
    return aggregate(prefix for one in refused for prefix in _around(one, proposed))


def _around(refused: Prefix, proposed: Sequence[Prefix]) -> tuple[Prefix, ...]:
    for length in range(refused.prefixlen - 1, -1, -1) if proposed else ():
        block = refused.supernet(new_prefix=length)
        if any(overlap(block, p) for p in proposed):
            return aggregate([refused, *subtract([block], proposed)])
    return (refused,)


def conflicting(given: Iterable[Prefix], others: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """The parts of `given` that are in `others`, aggregated."""
    against = list(others)
    return aggregate(_shared(a, b) for a in given for b in against if overlap(a, b))


def _shared(a: Prefix, b: Prefix) -> Prefix:
    return a if inside(a, b) else b


def carved_again(
    allowed: Sequence[Prefix],
    excluded: Sequence[Prefix],
    wanted: Mapping[str, int],
    kept: Mapping[str, Prefix],
    avoid: Sequence[Prefix] = (),
) -> dict[str, Prefix]:
    """As `carve`; each key that has a prefix in `kept` which is allowed and not excluded keeps it, the others keep off `avoid`
    too. Where they then find no room, all are carved anew. Raises PrefixTooSmall."""
    stays = dict(_serving(allowed, excluded, wanted, kept))
    rest = {key: bits for key, bits in wanted.items() if key not in stays}
    try:
        return stays | carve(allowed, (*excluded, *avoid, *stays.values()), rest)
    except PrefixTooSmall:
        return carve(allowed, (*excluded, *avoid), wanted)


def _serving(
    allowed: Sequence[Prefix], excluded: Sequence[Prefix], wanted: Mapping[str, int], kept: Mapping[str, Prefix]
) -> Iterator[tuple[str, Prefix]]:
    for key, prefix in kept.items():
        fits = prefix.max_prefixlen - prefix.prefixlen == wanted.get(key)
        if fits and any(inside(prefix, a) for a in allowed) and not any(overlap(prefix, x) for x in excluded):
            yield key, prefix
