"""The ways from one node to every other, and what of them a difference of passages leaves as it is.

Rules kept here
- A walk is a way as it is followed, a label in Martins, On a multicriteria shortest path problem, 1984. At each node walks are
  looked at in one order (`key`): cheapest first, or fastest first. Kept is, of the first `width`, what none before it covers.
- The order is total and depends on the walk alone, so what is kept follows from the passages, not from how it was found. A walk
  comes after the one that it goes on from, so what is kept is settled in that order.
- `follow` leaves exactly what a search from nothing would. Looked at again is, in that order, a node from where on a walk to it
  ends to be kept, or a new one begins to be. A walk that is found again over other passages, with figures and labels the same,
  is the same walk; what goes on from it stays.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import count
from operator import attrgetter

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.passages import ANY, Difference, Node, Passage
from capability_registry.front import MANY

Trail = tuple[object, ...]
Key = tuple[int, int, int, int, Trail]
_key = attrgetter("key")


class Walk:
    """A way to a node. `labels`: of the class that is still open (None: none is), `tied` if the start is in it; `near`: what
    may be used at the start (None: any). `trail`: its passages by their order, the last first. `held`: it is or was kept;
    `lost`: not any more. `many`, `near_many`: so many labels that which they are is not compared."""

    __slots__ = (
        "bandwidth", "cost", "delay", "held", "key", "labels", "lan", "lost", "many", "mtu", "near", "near_many", "node",
        "offered", "once", "parent", "passage", "passed", "tied", "trail",
    )  # fmt: skip

    node: Node
    key: Key
    trail: Trail
    cost: int
    delay: int
    bandwidth: int
    mtu: int
    lan: bool
    offered: int
    passed: int
    once: int
    labels: LabelSet | None
    many: bool
    near_many: bool
    tied: bool
    near: LabelSet | None
    passage: Passage | None
    parent: Walk | None
    held: bool
    lost: bool

    @property
    def far(self) -> LabelSet | None:
        """What may be used at the node."""
        return self.labels

    @property
    def passages(self) -> tuple[Passage, ...]:
        """In their order."""
        out: list[Passage] = []
        at: Walk | None = self
        while at is not None and at.passage is not None:
            out.append(at.passage)
            at = at.parent
        return tuple(reversed(out))


def begun(node: Node, labels: LabelSet | None) -> Walk:
    """Where a search starts; `labels`: those free there, where it is a SAP's."""
    walk = Walk()
    walk.node, walk.key, walk.trail = node, (0, 0, 0, 0, ()), ()
    walk.cost, walk.delay, walk.bandwidth, walk.mtu, walk.lan = 0, 0, 1 << 62, 1 << 31, True
    walk.offered, walk.passed, walk.labels, walk.tied, walk.near = -1, 0, labels, labels is not None, None
    walk.once, walk.many, walk.near_many = 0, _many(labels), True
    walk.passage, walk.parent, walk.held, walk.lost = None, None, True, False
    return walk


def longer(walk: Walk, passage: Passage, fastest: bool) -> Walk | None:
    """The walk with one passage more; None where no label is left to pass it."""
    labels, tied, near, lan = passage.labels, False, walk.near, walk.lan and passage.lan
    if passage.takes != ANY or (passage.straight and walk.labels is not None):
        joined = _joined(walk, passage)
        if joined is None:
            return None
        labels, tied, near, single = joined
        lan = lan and not single
    out = Walk()
    out.cost = cost = walk.cost + passage.cost
    out.delay = delay = walk.delay + passage.delay
    out.bandwidth = bandwidth = walk.bandwidth if walk.bandwidth < passage.bandwidth else passage.bandwidth
    out.mtu, out.lan = (walk.mtu if walk.mtu < passage.mtu else passage.mtu), lan
    out.offered, out.passed, out.once = (
        walk.offered & passage.offered,
        walk.passed | passage.passed,
        walk.once + passage.once,
    )
    out.labels, out.tied, out.near = labels, tied, near
    out.many = passage.many if labels is passage.labels else _many(labels)
    out.near_many = walk.near_many if near is walk.near else _many(near)
    out.trail = trail = (passage.order, walk.trail)
    hops = walk.key[3] + 1
    out.key = (delay, cost, -bandwidth, hops, trail) if fastest else (cost, delay, -bandwidth, hops, trail)
    out.node, out.passage, out.parent, out.held, out.lost = passage.head, passage, walk, False, False
    return out


def _joined(walk: Walk, passage: Passage) -> tuple[LabelSet | None, bool, LabelSet | None, bool] | None:
    """Behind the passage: the labels of the open class, whether the start is in it, what may be used at the start, and whether
    somewhere it is a single label. None where there is none."""
    here, there = passage.takes
    before, tied, near = both(walk.labels, here), passage.straight and walk.tied, walk.near
    labels = both(before, there) if passage.straight else there
    met = [known for known in (before, labels) if known is not None] if passage.takes != ANY else []
    if walk.tied and passage.takes != ANY:
        near = labels if passage.straight else before
    if passage.labels is not None:
        labels = both(labels, passage.labels)
        met.append(labels or NO_LABEL)
    if not all(met):
        return None
    return labels, tied, labels if tied else near, any(len(known) == 1 for known in met)


def both(x: LabelSet | None, y: LabelSet | None) -> LabelSet | None:
    """What both allow; None: any."""
    return y if x is None else x if y is None else x & y


def _many(labels: LabelSet | None) -> bool:
    return labels is None or len(labels) >= MANY


def covers(x: Walk, y: Walk) -> bool:
    """Whether x, which comes before y, leaves nothing to gain from it."""
    return (
        8 * x.delay <= 9 * y.delay
        and 9 * x.bandwidth >= 8 * y.bandwidth
        and x.mtu >= y.mtu
        and x.lan >= y.lan
        and not y.offered & ~x.offered
        and not x.passed & ~y.passed
        and x.cost <= y.cost
        and x.once <= y.once
        and x.tied <= y.tied
        and (x.many or x.labels is y.labels or _within(y.labels, x.labels))
        and (x.near_many or x.near is y.near or _within(y.near, x.near))
    )


def _within(y: LabelSet | None, x: LabelSet | None) -> bool:
    """Whether y is a part of x; None: any label."""
    return x is None or (y is not None and y <= x)


def _covered(known: Sequence[Walk], count: int, new: Walk) -> bool:
    """By one of the first so many."""
    for n in range(count):  # noqa: SIM110 (a generator takes twice as long, and this is most of the work)
        if covers(known[n], new):
            return True
    return False


def _astray(walk: Walk) -> bool:
    """Whether what it goes on from, or over, is no more."""
    return (walk.parent is not None and walk.parent.lost) or (walk.passage is not None and walk.passage.gone)


def same(x: Walk, y: Walk) -> bool:
    """Whether walks with one key are one, over passages that may have become others."""
    return (
        (x.mtu, x.lan, x.offered, x.passed, x.once, x.tied) == (y.mtu, y.lan, y.offered, y.passed, y.once, y.tied)
        and x.labels == y.labels
        and x.near == y.near
    )


class Search:
    """From one node. `kept`: at each node the walks that are kept, in their order."""

    def __init__(self, start: Node, labels: LabelSet | None, width: int, fastest: bool) -> None:
        self._start, self._width, self._fastest = start, width, fastest
        self.kept: dict[Node, list[Walk]] = {}
        self._settled: dict[Node, int] = {}
        """Of each node that is looked at again, how many of its walks are settled."""
        self._heap: list[tuple[Key, int, Walk]] = []
        self._unsettled: int | None = 0
        """The same of the others: None where they stand; in a search from nothing none is."""
        self._tick = count()
        self._touched: set[Node] = set()
        self._begin(labels)
        self._run()
        self._settled, self._unsettled = {}, None

    @property
    def size(self) -> int:
        """How many walks it keeps."""
        return sum(map(len, self.kept.values()))

    def follow(self, difference: Difference, labels: LabelSet | None) -> set[Node]:
        """Do what a search from nothing would have done. The nodes at which other walks are kept than before; `labels`: free at
        the start."""
        self._touched = set()
        root = self.kept[self._start][0]
        for passage in difference.gone:
            self._doubt(w for w in self.kept.get(passage.head, ()) if w.passage is passage)
        if root.labels != labels:
            root.lost = True
            self._begin(labels)
            self._doubt_after(root)
        for passage in difference.new:
            for walk in self.kept.get(passage.tail, ()):
                if passage.crossing is not None:
                    self._offer(walk, passage)
        self._run()
        self._settled = {}
        for node in self._touched:
            if not self.kept.get(node):
                self.kept.pop(node, None)
        return self._touched

    def ending(self, end: Node) -> list[Walk]:
        """What is kept at an end, in order."""
        walks = [(p, walk) for p in end.into for walk in self.kept.get(p.tail, ())]
        kept: list[Walk] = []
        for _, n in sorted((self._key_of(walk, p), n) for n, (p, walk) in enumerate(walks)):
            passage, walk = walks[n]
            ended = longer(walk, passage, self._fastest)
            if ended is not None and not _covered(kept, len(kept), ended):
                kept.append(ended)
                if len(kept) == self._width:
                    break
        return kept

    def _key_of(self, walk: Walk, passage: Passage) -> Key:
        """Of the walk with one passage more."""
        cost, delay = walk.cost + passage.cost, walk.delay + passage.delay
        least, trail = -min(walk.bandwidth, passage.bandwidth), (passage.order, walk.trail)
        return (delay, cost, least, 0, trail) if self._fastest else (cost, delay, least, 0, trail)

    def _begin(self, labels: LabelSet | None) -> None:
        root = begun(self._start, labels)
        self.kept[self._start] = [root]
        self._touched.add(self._start)
        for passage in self._start.out:
            self._offer(root, passage)

    def _doubt(self, walks: Iterable[Walk]) -> None:
        for walk in walks:
            heapq.heappush(self._heap, (walk.key, next(self._tick), walk))

    def _doubt_after(self, lost: Walk) -> None:
        for passage in lost.node.out:
            self._doubt(w for w in self.kept.get(passage.head, ()) if w.parent is lost)

    def _offer(self, walk: Walk, passage: Passage) -> None:
        """Have the walk with one passage more looked at when it is its turn, if it may be kept then."""
        known, settled = self.kept.get(passage.head), self._settled.get(passage.head, self._unsettled)
        if known:
            if settled is None:
                ahead = walk.delay + passage.delay if self._fastest else walk.cost + passage.cost
                if len(known) == self._width and known[-1].key[0] < ahead:
                    return
            elif settled == self._width:
                return
        new = longer(walk, passage, self._fastest)
        if new is None:
            return
        if known:
            at = bisect_left(known, new.key, key=_key) if settled is None else settled
            if _covered(known, at, new):
                return
            for other in known[at:]:
                if other.key == new.key and same(other, new):
                    other.parent, other.passage = walk, passage
                    if settled is None:
                        return
                    new = other
                    break
        heapq.heappush(self._heap, (new.key, next(self._tick), new))

    def _run(self) -> None:
        """Look at walks in their order: those that are offered, and held ones that are in doubt."""
        while self._heap:
            walk = heapq.heappop(self._heap)[2]
            if walk.lost or (_astray(walk) and not walk.held):
                continue
            known = self.kept.setdefault(walk.node, [])
            settled = self._settled.get(walk.node, self._unsettled)
            if settled is None and walk.held:
                if not _astray(walk):
                    continue  # it was found again over other passages
                settled = self._look_again(walk.node, known.index(walk))
            at = bisect_left(known, walk.key, key=_key) if settled is None else settled
            if walk.held and (at == len(known) or known[at] is not walk):
                continue  # it is settled
            keeps = not _astray(walk) and at < self._width and not _covered(known, at, walk)
            if keeps and settled is None:
                self._look_again(walk.node, at)
            if keeps:
                self._settled[walk.node] = at + 1
            if keeps and not walk.held:
                self._hold(walk, known, at)
            elif walk.held and not keeps:
                self._lose(walk, known, at)

    def _hold(self, walk: Walk, known: list[Walk], at: int) -> None:
        known.insert(at, walk)
        walk.held = True
        self._touched.add(walk.node)
        for passage in walk.node.out:
            self._offer(walk, passage)

    def _lose(self, walk: Walk, known: list[Walk], at: int) -> None:
        del known[at]
        walk.lost = True
        self._touched.add(walk.node)
        self._doubt_after(walk)

    def _look_again(self, node: Node, settled: int) -> int:
        """At what comes to a node after so many of its walks, which are settled."""
        self._settled[node] = settled
        for passage in node.into:
            for walk in self.kept.get(passage.tail, ()):
                self._offer(walk, passage)
        return settled
