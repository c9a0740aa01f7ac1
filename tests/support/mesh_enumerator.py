"""A plain enumerator as the oracle of the planner for meshes: every place of every function, every walk of every line.

It walks notes directly (no graph, no bounds, no dominance) and judges what is whole by sums. A walk that draws too much, or
costs more than the best found, is not gone on with.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, product

from address_planner.labels import LabelSet
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.note import BorderPoint, FunctionOffer
from service_model.constraints import GroupKind, GroupScope
from service_model.spec import LinkKind, ServiceSpec, split_point

Spot = tuple[str, str, bool]
"""(alias, SAP or place, whether it is a place)"""


@dataclass(frozen=True)
class Walk:
    """Of one line: the ways, and the SAPs crossed: (alias, out), (alias, in)."""

    ways: tuple[tuple[str, str, int, BorderPoint], ...]
    crossed: tuple[tuple[str, tuple[str, str], tuple[str, str]], ...]

    @property
    def cost(self) -> Decimal:
        return sum((p.price.once for *_, p in self.ways), Decimal(0))

    @property
    def delay(self) -> int:
        return sum(p.delay_us for *_, p in self.ways)


@dataclass(frozen=True)
class Bound:
    """The walks of these links, by their points, and these functions take at most so many microseconds together."""

    links: frozenset[frozenset[str]]
    functions: frozenset[str]
    limit: int


class Oracle:
    def __init__(self, spec: ServiceSpec, snapshot: Snapshot) -> None:
        self.spec = spec
        self.views = {v.alias: v for v in snapshot.suppliers}
        self.sides: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for v in snapshot.suppliers:
            for s in v.note.saps:
                if s.interconnect:
                    self.sides[s.interconnect].append((v.alias, s.id))
        self.lines = [link for link in spec.links if link.kind is LinkKind.LINE]
        self.bounds = [*self._bounds()]

    def _bounds(self) -> Iterator[Bound]:
        """Of each path, and of a distance by delay on each path that has both of its points."""
        for path in self.spec.paths:
            pairs = [frozenset(pair) for pair in zip(path.hops[::2], path.hops[1::2], strict=True)]
            names = [path.hops[0], *(split_point(hop)[0] for hop in path.hops[1:-1:2]), path.hops[-1]]
            limit = self.spec.delay_limit(path)
            if limit is not None:
                yield Bound(frozenset(pairs), frozenset(names), limit)
            for d in self.spec.distances:
                if d.max_delay_us is not None and {d.function, d.to} <= set(names):
                    i, j = sorted((names.index(d.function), names.index(d.to)))
                    yield Bound(frozenset(pairs[i:j]), frozenset(names[i + 1 : j]), d.max_delay_us)

    def best(self) -> Decimal | None:
        """The least price of what is feasible."""
        ids = [f.id for f in self.spec.functions]
        offers = [[(v.alias, o) for v in self.views.values() for o in v.note.functions if o.type == f.type]
                  for f in self.spec.functions]  # fmt: skip
        found: Decimal | None = None
        for chosen in product(*offers):
            at = dict(zip(ids, chosen, strict=True))
            if self._hosted(at):
                own = sum((o.flavours[0].price.once for _, o in chosen), Decimal(0))
                rest = self._laid(at, None if found is None else found - own)
                found = found if rest is None else own + rest
        return found

    def _hosted(self, at: Mapping[str, tuple[str, FunctionOffer]]) -> bool:
        for group in self.spec.groups:
            if group.scope is not GroupScope.HOST:
                spots = [at[f][0] if group.scope is GroupScope.SUPPLIER else at[f][1].place for f in group.functions]
                if len(set(spots)) != (1 if group.kind is GroupKind.AFFINITY else len(spots)):
                    return False
        placed: dict[tuple[str, str], list[str]] = defaultdict(list)
        for f, (alias, o) in at.items():
            placed[alias, o.place].append(f)
        return all(self._packed(where, {f: at[f][1].flavours[0].units for f in fs}) for where, fs in placed.items())

    def _packed(self, where: tuple[str, str], units: Mapping[str, int]) -> bool:
        """Whether some choice of hosts has room for these functions and keeps the groups by host among them."""
        note = self.views[where[0]].note
        sizes = [b.size for c in note.capacities if c.place == where[1] for b in c.bins for _ in range(b.count)]
        groups = [group for group in self.spec.groups if group.scope is GroupScope.HOST]
        for hosts in product(range(len(sizes)), repeat=len(units)):
            host = dict(zip(units, hosts, strict=True))
            load: Counter[int] = Counter()
            for f, number in host.items():
                load[number] += units[f]
            here = [([host[f] for f in group.functions if f in host], group.kind) for group in groups]
            kept = all(
                len(set(taken)) == (min(1, len(taken)) if kind is GroupKind.AFFINITY else len(taken))
                for taken, kind in here
            )
            if kept and all(n <= sizes[number] for number, n in load.items()):
                return True
        return False

    def _by_host(self, at: Mapping[str, tuple[str, FunctionOffer]], walks: Sequence[Walk]) -> bool:
        """At one place of one supplier, who has it of one domain, functions share a host or have different ones."""
        for group in self.spec.groups:
            for f, g in combinations(group.functions, 2) if group.scope is GroupScope.HOST else ():
                one = (at[f][0], at[f][1].place) == (at[g][0], at[g][1].place)
                if not (one if group.kind is GroupKind.AFFINITY else one or at[f][1].place != at[g][1].place):
                    return False
        return True

    def _laid(self, at: Mapping[str, tuple[str, FunctionOffer]], below: Decimal | None) -> Decimal | None:
        """The least price of the lines, if it is below what is given."""
        spots = {f: (alias, o.place, True) for f, (alias, o) in at.items()}
        spots |= {e.id: (*_pair(e.sap), False) for e in self.spec.ends}
        choices = []
        for link in self.lines:
            x, y = (spots[split_point(p)[0]] for p in link.points)
            walks = sorted((w for w in self._walks(x, y) if self._alone(w, x, y)), key=lambda w: w.cost)
            if not walks:
                return None
            choices.append(walks)
        delays = [sum(at[f][1].delay_us for f in bound.functions & at.keys()) for bound in self.bounds]
        ends: Counter[tuple[str, ...]] = Counter()
        for e in self.spec.ends:
            ends["sap", *_pair(e.sap)] += self.spec.bandwidth_bps
        if not self._within(ends):
            return None
        floor = [Decimal(0)]
        for walks in reversed(choices):
            floor.append(floor[-1] + walks[0].cost)
        best = below

        def go(price: Decimal, use: Counter[tuple[str, ...]], late: list[int], laid: tuple[Walk, ...]) -> None:
            nonlocal best
            n = len(laid)
            if n == len(choices):
                best = price if self._by_host(at, laid) else best
                return
            on = [frozenset(self.lines[n].points) in bound.links for bound in self.bounds]
            for walk in choices[n]:
                total = price + walk.cost
                if best is not None and total + floor[len(choices) - n - 1] >= best:
                    return
                more = use + self._draws(walk)
                times = [d + walk.delay * part for d, part in zip(late, on, strict=True)]
                if self._in_time(times) and self._within(more):
                    go(total, more, times, (*laid, walk))

        if self._in_time(delays):
            go(Decimal(0), ends, delays, ())
        return best if best != below else None

    def _in_time(self, times: list[int]) -> bool:
        return all(late <= bound.limit for late, bound in zip(times, self.bounds, strict=True))

    def _walks(self, x: Spot, y: Spot) -> Iterator[Walk]:
        def go(at: Spot, walk: Walk, entered: frozenset[tuple[str, str]]) -> Iterator[Walk]:
            view = self.views[at[0]]
            if at == y and y[2]:
                yield walk
            if at[0] == y[0] and at != y:
                for way in _ways(view, at[1], y[1]):
                    yield Walk((*walk.ways, way), walk.crossed)
            for sap in view.note.saps:
                if not sap.interconnect or (sap.id == at[1] and not at[2]):
                    continue
                for other in self.sides[sap.interconnect]:
                    if other == (view.alias, sap.id) or other in entered:
                        continue
                    joint = (sap.interconnect, (view.alias, sap.id), other)
                    for way in _ways(view, at[1], sap.id):
                        longer = Walk((*walk.ways, way), (*walk.crossed, joint))
                        yield from go((*other, False), longer, entered | {other})

        yield from go(x, Walk((), ()), frozenset() if x[2] else frozenset({(x[0], x[1])}))

    def _alone(self, walk: Walk, x: Spot, y: Spot) -> bool:
        """What holds for one line by itself: MTU, and labels that continue where a segment does not swap."""
        saps = {(v.alias, s.id): s for v in self.views.values() for s in v.note.saps}
        passed = [pair for _, near, far in walk.crossed for pair in (near, far)]
        passed += [(alias, id) for alias, id, place in (x, y) if not place]
        if any(p.mtu < self.spec.min_mtu for *_, p in walk.ways) or any(
            saps[s].mtu < self.spec.min_mtu for s in passed
        ):
            return False
        run: LabelSet | None = None if x[2] else saps[x[0], x[1]].labels
        outs = [saps[near].labels for _, near, _ in walk.crossed] + ([] if y[2] else [saps[y[0], y[1]].labels])
        for (*_, way), free in zip(walk.ways, outs, strict=False):
            run = free if run is None or way.swaps_labels else run & free
            if not run:
                return False
        return True

    def _draws(self, walk: Walk) -> Counter[tuple[str, ...]]:
        use: Counter[tuple[str, ...]] = Counter()
        bps = self.spec.bandwidth_bps
        for alias, key, number, _ in walk.ways:
            use["way", alias, key, str(number)] += bps
        for id, x, y in walk.crossed:
            use["labels", id] += 1
            use["sap", *x] += bps
            use["sap", *y] += bps
        return use

    def _within(self, use: Counter[tuple[str, ...]]) -> bool:
        for (kind, *name), amount in use.items():
            if kind == "way":
                alias, key, number = name
                entry = next(e for e in self.views[alias].note.matrix if f"{e.a}|{e.b}" == key)
                most = entry.points[int(number)].bandwidth_bps
            elif kind == "sap":
                sap = self.views[name[0]].note.sap(name[1])
                assert sap is not None
                most = sap.bandwidth_bps
            else:
                alias, id = self.sides[name[0]][0]
                joint = self.views[alias].note.sap(id)
                assert joint is not None
                most = len(joint.labels)
            if amount > most:
                return False
        return True


def _pair(name: str) -> tuple[str, str]:
    alias, _, sap = name.partition(".")
    return alias, sap


def _ways(view: SupplierView, a: str, b: str) -> Iterator[tuple[str, str, int, BorderPoint]]:
    for e in view.note.matrix:
        if {e.a, e.b} == {a, b} and a != b:
            for number, p in enumerate(e.points):
                yield view.alias, f"{e.a}|{e.b}", number, p
