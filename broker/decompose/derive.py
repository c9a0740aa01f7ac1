"""Our own capability note, made from the notes of our suppliers and domains.

Rules kept here (sound: whatever the note promises alone can be delivered)
- Exported are the SAPs that `SupplierView.saps` names: UNI SAPs, dangling NNI SAPs, and inner ones where we hand over. Names, ids
  and interconnects of lower levels do not appear; the peer of such an interconnect does, since it knows us.
- Where we hand over, a way ends at an interconnect that others of ours go over: both draw on it. None does both.
- Where several suppliers have something at one place, each is a part of the site (`site_parts`). The one with most capacity,
  by powers of two, bears the site's id; ways to the others are guarded.
- Between two exported points the ways that `capability_registry.front` chooses. Each has the figures of one route: prices
  and delays add, bandwidth and MTU are minima, availability multiplies, countries are those of all its parts.
- What several ways draw on together becomes a shared limit: interconnects, suppliers' entries, their own limits.
  So do the labels of an inner interconnect where they are few, and those of an exported SAP that a way takes
  (`capability_registry.label_pools`): a class of tied interconnects uses one of each.
- Of free labels at most RANGES ranges are announced, the longest: single allocations fragment a set without end. Which of
  them a way takes, and what is said so that every reader understands it, is in `end_labels`.
- Prices are times `margin`, rounded up: what is charged for several parts together is never more than their sum.
- What is told is free at any time; what is more in periods is made of the periods of suppliers' notes (`periods_told`).
- The note is our word, for as long as ours holds. What a supplier's note that lapses contributed is left out at once; were
  ours bounded by theirs, the notes of providers in a ring would all end together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache, partial
from itertools import count
from operator import is_

from address_planner.labels import LabelSet
from broker.decompose.drawn import Stock
from broker.decompose.end_labels import narrowed, plain, taken, told_by
from broker.decompose.graph import Graph, PlaceVertex, graph_of, price_of
from broker.decompose.origins import Origins
from broker.decompose.periods_told import period, told_windows, with_others
from broker.decompose.plan import Snapshot, SupplierView
from broker.decompose.reach import Known, Reach, crosses
from broker.decompose.shares import Shares
from broker.decompose.site_parts import named_by
from broker.decompose.timely import choice, in_periods, timely
from broker.decompose.told_ways import Joint, Told, Ways
from capability_registry.note import (
    COUNTRY_UNTOLD,
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    FunctionOffer,
    Outage,
    Place,
    PlaceCapacity,
    PlaceNaming,
    SharedLimit,
)
from capability_registry.packing import total
from capability_registry.sharing import marked, minted
from service_model.constraints import PLACEMENT
from service_model.families import FIXED_PORTS
from service_model.flavours import Flavour
from service_model.flows import PATHS
from service_model.money import Price
from service_model.qos import QOS
from service_model.spec import LAN_SITES, MACS
from service_model.window import Window

COMPARED_HOURS = 720
"""The term over which prices are compared where the buyer's is not known: a month, a spec's default."""
HOLD_GUARD_S = 10
HANDED_DOWN = frozenset({FIXED_PORTS, LAN_SITES, MACS, PATHS, PLACEMENT, QOS})
"""Features that whoever delivers a part must have, too."""
RANGES = 128


@dataclass(frozen=True, slots=True)
class _Point:
    """An exported point: its announced id, the vertex to leave it from and the one to arrive at."""

    id: str
    leave: int
    arrive: int


@dataclass(frozen=True, slots=True)
class _Part:
    """What one supplier has at a site. `id` is the site's where it bears it."""

    id: str
    site: str
    at: PlaceVertex

    @property
    def beside(self) -> bool:
        """Whether another part bears the site's id."""
        return self.id != self.site


def derive(
    snapshot: Snapshot,
    own_sp_id: str,
    edition: int,
    audience: str,
    now: datetime,
    validity: timedelta,
    margin: Decimal,
    currency: str,
    origin_token: str,
    max_hold_s: int,
    api_features: tuple[str, ...],
    findings: Findings | None = None,
    share_secret: bytes = b"",
) -> CapabilityNote:
    """The note for one audience. `margin` is a factor (1.1 adds 10 %); suppliers of another currency are left out. `findings`: of
    a note before, to save work. `share_secret`: ours, for the pools of our own domains; b"": they are not told."""
    findings = findings or Findings()
    served = tuple(
        replace(
            v,
            usable=v.usable and v.note.currency == currency and v.note.not_before <= now < v.note.expires,
            note=findings.marked(v, share_secret) if v.local and share_secret else v.note,
        )
        for v in snapshot.suppliers
    )
    whole = replace(snapshot, suppliers=served)
    graph = graph_of(timely(whole, Window(start=now)))
    views = graph.suppliers
    names = {index: name for name, index in reversed(graph.announced.items())}
    parts = _parts(graph)
    points = [_Point(name, index, graph.outward(index)) for index, name in sorted(names.items())]
    points += [_Point(p.id, p.at.vertex, p.at.vertex) for p in parts]
    free = {name: graph.sap_offer(i).free.longest(RANGES) for i, name in names.items()}
    beside = {p.id for p in parts if p.beside}
    joints = {
        name: Joint(graph.sap_offer(i).interconnect, beyond)
        for i, name in names.items()
        if (beyond := graph.hands_over(i))
    }
    asked = points, free, beside, _closed(graph, now), joints
    always, labels = findings.of(graph, *asked)
    windows = told_windows((v.note for v in served if v.usable), now, partial(choice, whole))
    others = findings.within([window for window, _ in windows])
    then = [Graph(in_periods(whole, c), f.graph or graph) for (_, c), f in zip(windows, others, strict=True)]
    within = [f.of(at, *asked)[0] for f, at in zip(others, then, strict=True)]
    ways, shared = findings.together(graph, [always, *within], joints, free)
    numbers = {p.id: p.at.vertex - 2 * graph.sap_count for p in parts}
    saps = {name: i for i, name in names.items()}
    origins, shares = Origins(graph, origin_token), Shares(graph)
    sites = _sites(views)
    at = {i: sites.get((graph.saps[i].supplier, graph.saps[i].offer.place), graph.saps[i].offer.place) for i in names}
    return CapabilityNote(
        sp_id=own_sp_id,
        edition=edition,
        audience=audience,
        not_before=now,
        expires=now + validity,
        api_features=tuple(
            f for f in api_features if f not in HANDED_DOWN or all(f in v.note.api_features for v in views)
        ),
        currency=currency,
        places=_places(views, parts, set(at.values())),
        functions=tuple(
            replace(_reprice(o, margin), place=p.id, origins=origins.of(p.at.supplier, o.origins))
            for p in parts
            for _, o in sorted(p.at.offers.items())
        ),
        capacities=tuple(
            PlaceCapacity(
                place=p.id,
                bins=p.at.capacity.bins,
                lan=p.at.capacity.lan,
                shares=shares.of(p.at.supplier, p.at.capacity.shares),
            )
            for p in parts
        ),
        saps=tuple(
            replace(
                graph.saps[i].offer,
                id=name,
                place=at[i],
                labels=labels[name],
                more_labels=free[name] - labels[name],
                origins=origins.of(graph.saps[i].supplier, graph.saps[i].offer.origins),
                shares=shares.of(graph.saps[i].supplier, graph.saps[i].offer.shares),
                beyond=joints[name].beyond if name in joints else graph.saps[i].offer.beyond,
            )
            for i, name in sorted(names.items())
        ),
        matrix=_entries(ways, False, margin, currency, origins, shares),
        shared=shared,
        outages=_outages(graph, names, parts),
        max_hold_s=max(1, min([max_hold_s] + [v.note.max_hold_s - (0 if v.local else HOLD_GUARD_S) for v in views])),
        remaining_depth=min(64, max((1 + v.note.remaining_depth for v in views if not v.local), default=0)),
        origin_tokens=origins.tokens,
        max_functions=min((v.note.max_functions for v in views), default=0),
        guarded=_entries(ways, True, margin, currency, origins, shares),
        shares=shares.told,
        periods=tuple(
            period(w, graph, at, ways, saps, numbers, joints, free) for (w, _), at in zip(windows, then, strict=True)
        ),
    )


def _parts(graph: Graph) -> list[_Part]:
    """What each supplier has at each site. The one with most free capacity bears the site's id: local before bought, then by
    alias."""

    def rank(place: PlaceVertex) -> tuple[int, bool, str, str]:
        view = graph.suppliers[place.supplier]
        return -total(place.capacity.bins).bit_length(), not view.local, view.alias, place.place

    out = []
    for site, numbers in sorted(graph.sites.items()):
        first, *others = sorted((graph.places[n] for n in numbers), key=rank)
        out.append(_Part(site, site, first))
        out += [_Part(graph.part_name(p.vertex - 2 * graph.sap_count), site, p) for p in others]
    return out


def _sites(views: tuple[SupplierView, ...]) -> dict[tuple[int, str], str]:
    """(supplier, its id of a place) -> the site."""
    return {(i, place.id): place.location for i, view in enumerate(views) for place in view.note.places}


def _places(views: tuple[SupplierView, ...], parts: list[_Part], met: set[str]) -> tuple[Place, ...]:
    """The sites of parts and SAPs (`met`), and the parts that have words of their own. Of a site that is merged in one note
    nothing is certain: a SAP may be at that."""
    known: dict[str, Place] = {}
    for view in views:
        for place in view.note.places:
            relayed = _relayed(place, view.alias)
            first = known.setdefault(place.location, replace(relayed, id=place.location, site=""))
            if place.merged and not first.merged:
                known[place.location] = replace(first, merged=True)
    told = {site: known[site] for site in met | {p.site for p in parts} if site in known}
    for p in parts:
        if p.beside:
            told[p.id] = replace(known.get(p.site, Place(id=p.site, country=COUNTRY_UNTOLD)), id=p.id, site=p.site)
    return tuple(told[id] for id in sorted(told))


def _relayed(place: Place, alias: str) -> Place:
    """We cannot tell what a supplier named itself from places of others; only from what else it named."""
    if place.naming is PlaceNaming.OWN or place.named_by:
        return replace(place, naming=PlaceNaming.RELAYED, named_by=named_by(alias, place.named_by))
    return place


def _scaled(price: Price, margin: Decimal) -> Price:
    """Times the margin and rounded up to what prices are rounded to: so a sum of announced prices is never below the price of
    the whole, which is rounded once."""
    scaled = price.scaled(margin)
    return replace(
        scaled,
        once=(price.once * margin).quantize(scaled.once, ROUND_CEILING),
        per_hour=(price.per_hour * margin).quantize(scaled.per_hour, ROUND_CEILING),
    )


@lru_cache(maxsize=1 << 16)
def _price(currency: str, once: int, hour: int, margin: Decimal) -> Price:
    return _scaled(price_of(currency, once, hour), margin)


def _reprice(offer: FunctionOffer, margin: Decimal) -> FunctionOffer:
    flavours: tuple[Flavour, ...] = tuple(replace(f, price=_scaled(f.price, margin)) for f in offer.flavours)
    return replace(offer, flavours=flavours)


class Findings:
    """What was found between exported points, for all who see the same suppliers; the next is found beside it."""

    def __init__(self) -> None:
        self._reach: Reach | None = None
        self._notes: tuple[CapabilityNote, ...] = ()
        self._frame: tuple[object, ...] = ()
        self._found: tuple[Ways, Mapping[str, LabelSet]]
        self._together: tuple[list[Ways], Ways, tuple[SharedLimit, ...]] = [], {}, ()
        self._marked: dict[str, tuple[CapabilityNote, bytes, CapabilityNote]] = {}
        self._within: dict[Window, Findings] = {}
        self.graph: Graph | None = None
        """That it was found in last."""

    def marked(self, view: SupplierView, secret: bytes) -> CapabilityNote:
        """The note of a domain of our own with its shares: the same object while the note is."""
        if view.note.shares:
            return view.note
        note, by, made = self._marked.get(view.alias, (None, b"", None))
        if note is not view.note or by != secret or made is None:
            made = marked(view.note, partial(minted, secret, view.alias))
            self._marked[view.alias] = view.note, secret, made
        return made

    @property
    def walks(self) -> int:
        """How many are kept."""
        own = self._reach.size if self._reach is not None else 0
        return own + sum(findings.walks for findings in self._within.values())

    def within(self, windows: Sequence[Window]) -> list[Findings]:
        """Those for each of these windows; what was found for others is forgotten."""
        self._within = {window: self._within.get(window) or Findings() for window in windows}
        return [self._within[window] for window in windows]

    def of(
        self,
        graph: Graph,
        points: list[_Point],
        free: Mapping[str, LabelSet],
        beside: set[str],
        closed: frozenset[int],
        joints: Mapping[str, Joint],
    ) -> tuple[Ways, Mapping[str, LabelSet]]:
        """The ways, and the labels that may be used at the SAPs."""
        self.graph, notes = graph, tuple(view.note for view in graph.suppliers)
        frame = points, closed, graph.peer.tolist(), [view.alias for view in graph.suppliers], joints
        if self._reach is None:
            self._reach = Reach(graph, COMPARED_HOURS, closed)
        elif frame != self._frame or len(notes) != len(self._notes) or not all(map(is_, notes, self._notes)):
            self._reach.follow(graph, closed)
        else:
            return self._found
        self._notes, self._frame = notes, frame
        self._found = _ways(self._reach, points, free, beside, joints)
        return self._found

    def together(
        self, graph: Graph, found: list[Ways], joints: Mapping[str, Joint], free: Mapping[str, LabelSet]
    ) -> tuple[Ways, tuple[SharedLimit, ...]]:
        """All ways and what they share. `found`: those of always, and those of each window, as `of` gave them."""
        before, ways, shared = self._together
        if len(found) != len(before) or not all(map(is_, found, before)):
            ways = with_others(graph, found[0], found[1:])
            shared = Stock(graph).limits(ways, joints, free)
            self._together = found, ways, shared
        return ways, shared


def _closed(graph: Graph, now: datetime) -> frozenset[int]:
    """SAPs that are not to be crossed at this moment."""
    return frozenset(
        s.index
        for s in graph.saps
        for o in graph.suppliers[s.supplier].note.outages
        if o.subject == s.offer.id and o.start <= now < o.end
    )


def _ways(
    reach: Reach,
    points: list[_Point],
    free: Mapping[str, LabelSet],
    beside: set[str],
    joints: Mapping[str, Joint],
) -> tuple[Ways, Mapping[str, LabelSet]]:
    """The ways between exported points, and the labels at the exported SAPs that do for all but guarded ones."""
    found: dict[tuple[str, str], list[Known]] = {}
    for i, a in enumerate(points[:-1]):
        there = reach.from_(a.leave, (b.arrive for b in points[i + 1 :]))
        for b in points[i + 1 :]:
            pair = a.id, b.id
            ended = {joints[name].interconnect for name in pair if name in joints}
            if usable := [
                k
                for k in there.get(b.arrive, ())
                if taken(k, pair, free) and reach.sells(k) and not (ended and crosses(k, ended))
            ]:
                found[pair] = usable
    labels = narrowed(free, found)
    ways: dict[tuple[str, str], list[Told]] = {}
    for pair, known in found.items():
        apart = not beside.isdisjoint(pair)
        chosen = [(kind, way, not apart and plain(way, pair, labels)) for kind, way in reach.announced(known)]
        if not apart and not any(simple for _, _, simple in chosen):
            others = reach.announced([k for k in known if plain(k, pair, labels)], most=2)
            chosen += [(kind, way, True) for kind, way in others]
        counts = {True: count(), False: count()}
        ways[pair] = [
            Told(kind, way, f"{'' if simple else 'g'}{next(counts[simple])}", told_by(way, pair, free), not simple)
            for kind, way, simple in chosen
        ]
    return ways, labels


def _entries(
    ways: Ways, guarded: bool, margin: Decimal, currency: str, origins: Origins, shares: Shares
) -> tuple[BorderEntry, ...]:
    return tuple(
        BorderEntry(
            a=a,
            b=b,
            points=tuple(_point(t, margin, currency, shares) for t in these),
            origins=origins.along(t.way for t in these),
        )
        for (a, b), found in ways.items()
        if (these := [t for t in found if t.guarded == guarded])
    )


def _point(told: Told, margin: Decimal, currency: str, shares: Shares) -> BorderPoint:
    way = told.way
    return BorderPoint(
        kind=told.kind,
        price=_price(currency, way.once, way.hour, margin),
        delay_us=way.delay_us,
        bandwidth_bps=way.bandwidth_bps,
        availability=way.availability,
        mtu=way.mtu,
        swaps_labels=way.swaps_labels,
        lan=way.lan,
        lan_alone=way.lan_alone,
        isolation=way.isolation,
        countries=way.countries,
        labels_a=told.labels[0],
        labels_b=told.labels[1],
        shares=shares.along(way.passages),
    )


def _outages(graph: Graph, names: Mapping[int, str], parts: list[_Part]) -> tuple[Outage, ...]:
    out: list[Outage] = []
    for index, name in sorted(names.items()):
        sap = graph.saps[index]
        outages = graph.suppliers[sap.supplier].note.outages
        out.extend(replace(o, subject=name) for o in outages if o.subject == sap.offer.id)
    for part in parts:
        outages = graph.suppliers[part.at.supplier].note.outages
        out.extend(replace(o, subject=part.id) for o in outages if o.subject == part.at.place)
    return tuple(out)
