"""What an agreement lets its customers see of our places: sound at every level, and a way back from their words."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import combinations

import pytest

from broker.decompose.derive import derive
from broker.decompose.graph import Graph
from broker.decompose.lexicon import Lexicon, lexicon
from broker.decompose.plan import Infeasible, Snapshot, SupplierView
from broker.decompose.search import plan
from broker.decompose.site_parts import part_of
from broker.decompose.whereabouts import apart
from capability_registry.abstraction import OPEN, Abstraction, Disclosure, PlaceDetail, abstracted
from capability_registry.distance import kilometres
from capability_registry.note import NOTE, Bin, CapabilityNote, Place, PlaceCapacity, PlaceNaming
from service_model.constraints import Countries, Distance, Group, GroupKind, GroupScope
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import ServiceSpec
from tests.support.planning import NOW, chain_spec, entry, offer, point, random_snapshot, sap, snapshot, view

SECRET = b"s" * 32
GREY, BLACK = (Disclosure(abstraction=level) for level in (Abstraction.GREY, Abstraction.BLACK))
LOCATED = replace(GREY, place_detail=PlaceDetail.COORDINATES)
TOGETHER, APART = GroupKind.AFFINITY, GroupKind.ANTI_AFFINITY


def shown(snap: Snapshot, disclosure: Disclosure, audience: str = "above") -> tuple[CapabilityNote, Lexicon]:
    made = derive(
        snap, "middle", 1, audience, NOW, timedelta(minutes=30), Decimal(1), "EUR", "mine", 120,
        snap.suppliers[0].note.api_features,
    )  # fmt: skip
    words = lexicon(snap, SECRET, audience, disclosure)
    return abstracted(made, disclosure, words.words or {}), words


def above(note: CapabilityNote) -> Snapshot:
    return snapshot(
        SupplierView(alias="m", sp_id="middle", note=note, local=False, saps={s.id: s.id for s in note.saps})
    )


def scattered(seed: int, rng: random.Random) -> Snapshot:
    """A random federation in two countries, of which one supplier may have places under words of its own."""
    snap = random_snapshot(seed, rng.choice([3, 4]), labels=40)
    views = []
    for v in snap.suppliers:
        naming = rng.choice(list(PlaceNaming))
        namer = rng.choice(("", "n")) if naming is PlaceNaming.RELAYED else ""
        places = (replace(p, country=rng.choice(("DE", "NL")), naming=naming, named_by=namer) for p in v.note.places)
        views.append(replace(v, note=replace(v.note, places=tuple(places))))
    return snapshot(*views)


@pytest.mark.parametrize("disclosure", [OPEN, GREY, LOCATED, BLACK])
def test_whatever_a_note_promises_is_delivered_under_its_words_at_least_as_well(disclosure: Disclosure) -> None:
    promised = grouped = 0
    for seed in range(45):
        rng = random.Random(seed)
        snap = scattered(seed, rng)
        note, words = shown(snap, disclosure)
        types = [rng.choice("xy") for _ in range(rng.randint(1, 3))]
        pair = tuple(f"f{i}" for i in range(len(types)))[:2]
        groups: tuple[Group, ...] = ()
        if len(pair) == 2:
            scope = rng.choice((GroupScope.PLACE, GroupScope.PLACE, GroupScope.HOST))
            groups = (Group(id="g", kind=rng.choice((TOGETHER, APART)), scope=scope, functions=pair),)
        countries = rng.choice((Countries(), Countries(), Countries(allowed=("DE",))))
        for a, b in (("s0.uni", "s1.uni"), ("s0.uni", "s2.uni"), ("s1.uni", "s1.uni")):
            spec = chain_spec(a, b, types, term_hours=1, bandwidth_bps=1, groups=groups)
            spec = replace(spec, functions=tuple(replace(f, countries=countries) for f in spec.functions))
            upper = plan(spec, above(note), NOW, alternatives=1)
            if isinstance(upper, Infeasible):
                continue
            (promise,) = upper
            places = promise.segments[0].places
            pinned = tuple(replace(f, places=(places[f.id],)) for f in spec.functions)
            asked = words.meant(replace(spec, functions=pinned, max_delay_us=promise.delay_us, max_price=promise.cost))
            assert isinstance(asked, ServiceSpec)
            assert not isinstance(plan(asked, snap, NOW), Infeasible), (seed, a, b)
            promised, grouped = promised + 1, grouped + bool(groups)
    assert promised > 20
    assert grouped > 5


def two_cities(**more: object) -> Snapshot:
    """One supplier with three places: BER and HAM alike in Germany, with 8 and 20 units; VIE with another type."""
    saps = [sap("uni", "BER"), sap("out", "HAM")]
    points = ("uni", "out", "BER", "HAM", "VIE")
    ways = [entry(a, b, point(1, 10 * (i + j))) for i, a in enumerate(points) for j, b in enumerate(points[:i])]
    made = view(
        "m", saps, ways, [offer("x", "BER"), offer("x", "HAM"), offer("y", "VIE")],
        capacities=tuple(
            PlaceCapacity(place=p, bins=(Bin(size=size, count=1),)) for p, size in (("BER", 8), ("HAM", 20), ("VIE", 4))
        ),
    )  # fmt: skip
    places = tuple(
        Place(id=id, country=country, latitude=50, longitude=10, tags=("dc",))
        for id, country in (("BER", "DE"), ("HAM", "DE"), ("VIE", "AT"))
    )
    return snapshot(replace(made, note=replace(made.note, places=places)))


def test_grey_shows_every_place_under_a_word_of_its_own_and_no_name() -> None:
    note, words = shown(two_cities(), GREY)
    assert words.words is not None
    assert {p.id for p in note.places} == {c.place for c in note.capacities} == set(words.words.values())
    assert [p.naming for p in note.places] == [PlaceNaming.OWN] * 3
    assert {(p.country, p.latitude, p.tags, p.merged) for p in note.places} == {
        ("DE", 0.0, (), False),
        ("AT", 0.0, (), False),
    }
    text = NOTE.dump_json(note).decode()
    assert not any(name in text for name in ("BER", "HAM", "VIE"))
    assert {s.id for s in note.saps} == {"m.uni", "m.out"}


def test_a_word_is_the_same_each_time_and_another_for_each_audience_and_secret() -> None:
    snap = two_cities()
    first = lexicon(snap, SECRET, "above", GREY)
    assert lexicon(replace(snap, number=9), SECRET, "above", GREY) == first
    others = ((SECRET, "beside", GREY), (b"t" * 32, "above", GREY), (SECRET, "above", BLACK))
    for other in (lexicon(snap, *more) for more in others):
        assert set((other.words or {}).values()).isdisjoint((first.words or {}).values())


def test_black_has_one_place_for_those_of_a_country_that_offer_the_same() -> None:
    snap = two_cities()
    note, words = shown(snap, BLACK)
    assert words.words is not None
    germany, austria = words.words["BER"], words.words["VIE"]
    assert words.words["HAM"] == germany != austria
    assert {(p.id, p.country, p.merged) for p in note.places} == {(germany, "DE", True), (austria, "AT", False)}
    assert {c.place: c.bins for c in note.capacities}[germany] == (Bin(size=20, count=1),), "that of one, not the sum"
    assert {s.id: s.place for s in note.saps} == {"m.uni": germany, "m.out": germany}
    whole = shown(snap, OPEN)[0]
    names = {"HAM": germany, "VIE": austria}
    assert [(e.a, e.b, e.points) for e in note.matrix] == [
        (names.get(e.a, e.a), names.get(e.b, e.b), e.points) for e in whole.matrix if "BER" not in (e.a, e.b)
    ]


def one_hub(*types: str) -> Snapshot:
    """Suppliers that all have a function at HUB, and the last one also at FRA."""
    views = [
        view(f"s{n}", [sap("uni", "HUB")], [entry("uni", "HUB", point(1, 1))], [offer(type, "HUB")])
        for n, type in enumerate(types)
    ]
    last = views[-1]
    more = replace(
        last.note,
        places=(*last.note.places, Place(id="FRA", country=last.note.places[0].country)),
        functions=(*last.note.functions, offer(types[-1], "FRA")),
        matrix=(*last.note.matrix, entry("uni", "FRA", point(1, 1))),
    )
    return snapshot(*views[:-1], replace(last, note=more))


def test_grey_has_a_word_for_each_part_of_a_site_and_says_that_they_are_parts_of_one() -> None:
    snap = one_hub("x", "x")
    note, words = shown(snap, GREY)
    assert words.words is not None
    hub, other = words.words["HUB"], words.words[part_of("HUB", "s1", "HUB")]
    assert {(p.id, p.site) for p in note.places} == {(hub, ""), (other, hub), (words.words["FRA"], "")}
    assert {e.b for e in note.guarded} == {other}
    meant = words.meant(pinned("s1.uni", other))
    assert isinstance(meant, ServiceSpec)
    assert meant.functions[0].places == (part_of("HUB", "s1", "HUB"),)
    found = plan(meant, snap, NOW)
    assert not isinstance(found, Infeasible)
    assert found[0].segments[0].alias == "s1"


def pinned(end: str, *words: str) -> ServiceSpec:
    spec = chain_spec(end, end, ["x"])
    return replace(spec, functions=(replace(spec.functions[0], places=words),))


def test_what_a_supplier_calls_its_part_is_the_sites_word_to_our_customers() -> None:
    middle, _ = shown(one_hub("x", "y"), OPEN)
    bought = SupplierView(alias="m", sp_id="middle", note=middle, local=False, saps={s.id: s.id for s in middle.saps})
    words = lexicon(snapshot(bought), SECRET, "above", GREY).words
    assert words is not None
    assert words[part_of("HUB", "s1", "HUB")] == words["HUB"] != words[part_of("HUB", "m", "HUB")]


def test_black_says_nothing_of_where_the_parts_of_a_site_are_when_one_shares_its_word() -> None:
    note, words = shown(one_hub("x", "y"), BLACK)
    assert words.words is not None
    hub, part = words.words["HUB"], words.words[part_of("HUB", "s1", "HUB")]
    assert words.words["FRA"] == part != hub
    told = {p.id: (p.merged, p.site, p.naming) for p in note.places}
    assert told == {hub: (False, "", PlaceNaming.RELAYED), part: (True, "", PlaceNaming.RELAYED)}


@pytest.mark.parametrize("disclosure", [OPEN, GREY])
def test_what_is_near_a_sap_of_its_site_is_near_whichever_part_it_is(disclosure: Disclosure) -> None:
    note, _ = shown(one_hub("x", "y"), disclosure)
    near = (Distance(id="d", function="f0", to="a", max_km=1),)
    for end, type in (("s0.uni", "x"), ("s1.uni", "y")):
        assert not isinstance(plan(chain_spec(end, end, [type], distances=near), above(note), NOW), Infeasible)


def test_parts_whose_sites_share_a_word_are_not_told_to_be_at_one_place() -> None:
    """Two places in one country that offer the same at BLACK, each with a part that has a word of its own."""
    views = [
        view(
            alias, [sap("uni", place)], [entry("uni", place, point(1, 1))], [offer(t, place) for t in types], bins=bins
        )
        for alias, place, types, bins in (
            ("s0", "HUB", "xy", 8), ("s1", "HUB", "x", 2), ("s2", "FRA", "xy", 8), ("s3", "FRA", "y", 2),
        )
    ]  # fmt: skip
    note, words = shown(snapshot(*views), BLACK)
    assert words.words is not None
    parts = [words.words[part_of(site, alias, site)] for site, alias in (("HUB", "s1"), ("FRA", "s3"))]
    told = {p.id: p for p in note.places}
    assert words.words["HUB"] == words.words["FRA"] == told[parts[0]].site == told[parts[1]].site
    assert all(told[part].merged for part in parts)
    assert kilometres(told[parts[0]], told[parts[1]]) == float("inf")


def test_of_a_site_that_one_supplier_merged_nothing_is_certain() -> None:
    views = [
        replace(v, note=replace(v.note, places=tuple(replace(p, merged=merged) for p in v.note.places)))
        for v, merged in zip(one_hub("x", "y").suppliers, (False, True), strict=True)
    ]
    for order in (views, views[::-1]):
        note, _ = shown(snapshot(*order), OPEN)
        assert {p.id: p.merged for p in note.places}["HUB"]


def test_who_names_a_merged_place_may_get_any_of_them() -> None:
    snap = two_cities()
    words = lexicon(snap, SECRET, "above", BLACK)
    assert words.words is not None
    spec = chain_spec("m.uni", "m.out", ["x"])
    asked = replace(spec, functions=(replace(spec.functions[0], places=(words.words["BER"],)),))
    meant = words.meant(asked)
    assert isinstance(meant, ServiceSpec)
    assert meant.functions[0].places == ("BER", "HAM")
    assert words.of(["VIE"], asked).keys() == {"BER", "HAM", "VIE"}
    assert words.of([], spec) == {}


def test_our_own_names_are_unknown_to_who_has_words_for_them() -> None:
    words = lexicon(two_cities(), SECRET, "above", GREY)
    spec = chain_spec("m.uni", "m.out", ["x"])
    refused = words.meant(replace(spec, functions=(replace(spec.functions[0], places=("BER",)),)))
    assert isinstance(refused, Reason)
    assert (refused.code, refused.subject) == (ReasonCode.UNKNOWN_PLACE, "BER")
    assert "'BER'" in refused.message


def test_what_was_learnt_counts_though_the_place_offers_more_today() -> None:
    before = lexicon(two_cities(), SECRET, "above", BLACK)
    (today,) = two_cities().suppliers
    more = replace(today, note=replace(today.note, functions=(*today.note.functions, offer("y", "BER"))))
    after = lexicon(snapshot(more), SECRET, "above", BLACK)
    assert before.words is not None
    assert after.words is not None
    assert after.words["BER"] != before.words["BER"]
    assert after.learnt({"BER": before.words["BER"]}).words == {**after.words, "BER": before.words["BER"]}


@pytest.mark.parametrize(
    ("detail", "country", "latitude", "tags"),
    [
        (PlaceDetail.COORDINATES, "DE", 50, ("dc",)),
        (PlaceDetail.FULL, "DE", 50, ("dc",)),
        (PlaceDetail.COUNTRY, "DE", 0, ()),
        (PlaceDetail.NONE, None, 0, ()),
    ],
)
def test_place_detail_is_what_is_told_of_a_place_that_keeps_its_name(
    detail: PlaceDetail, country: str | None, latitude: float, tags: tuple[str, ...]
) -> None:
    note, _ = shown(two_cities(), Disclosure(place_detail=detail))
    told = next(p for p in note.places if p.id == "BER")
    assert (told.told_country, told.latitude, told.tags) == (country, latitude, tags)
    for asked in (Countries(allowed=("DE", "AT")), Countries(denied=("FR",))):
        answer = plan(chain_spec("m.uni", "m.out", countries=asked), above(note), NOW)
        assert isinstance(answer, Infeasible) is (country is None)


def test_coordinates_may_be_told_of_words_that_stand_for_one_place() -> None:
    """The two German places are one to whoever sees BLACK, and lie nowhere."""
    grey, words = shown(two_cities(), LOCATED)
    black, _ = shown(two_cities(), replace(BLACK, place_detail=PlaceDetail.COORDINATES))
    assert [(p.latitude, p.longitude, p.tags) for p in grey.places] == [(50, 10, ())] * 3
    assert sorted((p.country, p.latitude) for p in black.places) == [("AT", 50), ("DE", 0)]
    assert words.words is not None
    assert {p.id for p in grey.places} == set(words.words.values())
    near = chain_spec("m.uni", "m.out", "x", distances=(Distance(id="d", function="f0", to="a", max_km=1),))
    elsewhere = replace(near, functions=tuple(replace(f, places=(words.words["HAM"],)) for f in near.functions))
    assert not isinstance(plan(elsewhere, above(grey), NOW), Infeasible)
    assert isinstance(plan(elsewhere, above(shown(two_cities(), GREY)[0]), NOW), Infeasible)
    assert isinstance(plan(near, above(black), NOW), Infeasible)


@pytest.mark.parametrize(("latitude", "certain"), [(50.05, False), (50.2, True)])
def test_places_of_two_suppliers_are_apart_where_their_coordinates_are(latitude: float, certain: bool) -> None:
    """6 km may be two figures for one building; 22 km are not."""

    def at(alias: str, north: float) -> SupplierView:
        made = view(alias, [sap("uni", "w")], [entry("uni", "w", point(1, 1))], [offer("x", "w")])
        place = Place(id=f"w-{alias}", country="DE", latitude=north, longitude=10, naming=PlaceNaming.RELAYED)
        note = replace(
            made.note,
            places=(place,),
            saps=tuple(replace(s, place=place.id) for s in made.note.saps),
            functions=tuple(replace(f, place=place.id) for f in made.note.functions),
            capacities=tuple(replace(c, place=place.id) for c in made.note.capacities),
            matrix=tuple(replace(e, b=place.id) for e in made.note.matrix),
        )
        return replace(made, note=note)

    assert apart(Graph(snapshot(at("m", 50), at("n", latitude))), 0, 1) is certain


def test_how_far_it_is_to_where_nobody_says_is_not_known() -> None:
    here, there = Place(id="a", country="DE", latitude=50), Place(id="b", country="DE")
    assert kilometres(here, there) == kilometres(there, replace(there, id="c")) == float("inf")
    assert kilometres(there, there) == kilometres(there, replace(there, id="c", site="b")) == 0
    assert kilometres(replace(there, merged=True), replace(there, merged=True)) == float("inf")


# --- what a planner makes of such places -----------------------------------------------------------------------------


def named(alias: str, id: str, joint: tuple[str, str], **more: object) -> SupplierView:
    """A supplier with one place that offers x."""
    saps = [sap("uni", id), sap("n", id, to="j", peer=joint[0], decides_labels=alias < "m")]
    ways = [entry("uni", "n", point(1, 1)), entry("uni", id, point(1, 1)), entry("n", id, point(1, 1))]
    made = view(alias, saps, ways, [offer("x", id)])
    places = (Place(id=id, country=joint[1], **more),)  # type: ignore[arg-type]
    return replace(made, note=replace(made.note, places=places))


def grouped(kind: GroupKind, scope: GroupScope = GroupScope.PLACE, at: tuple[str, str] = ("", "")) -> ServiceSpec:
    spec = chain_spec(
        "left.uni", "right.uni", ["x", "x"], groups=(Group(id="g", kind=kind, scope=scope, functions=("f0", "f1")),)
    )
    pinned = (replace(f, places=(place,) if place else ()) for f, place in zip(spec.functions, at, strict=True))
    return replace(spec, functions=tuple(pinned))


OWN, RELAYED, PUBLIC = PlaceNaming.OWN, PlaceNaming.RELAYED, PlaceNaming.PUBLIC


@pytest.mark.parametrize(
    ("left", "right", "countries", "certain"),
    [
        (PUBLIC, PUBLIC, ("DE", "DE"), True),
        (OWN, PUBLIC, ("DE", "DE"), False),  # may be the same place under another word
        (OWN, OWN, ("DE", "DE"), False),
        (RELAYED, PUBLIC, ("DE", "DE"), False),
        (PlaceNaming.UNSPECIFIED, PUBLIC, ("DE", "DE"), False),
        (OWN, PUBLIC, ("DE", "NL"), True),
        (OWN, PUBLIC, ("DE", "ZZ"), False),
    ],
)
@pytest.mark.parametrize("scope", [GroupScope.PLACE, GroupScope.HOST])
def test_places_of_two_suppliers_are_apart_where_that_is_certain(
    left: PlaceNaming, right: PlaceNaming, countries: tuple[str, str], certain: bool, scope: GroupScope
) -> None:
    snap = snapshot(
        named("left", "p-1", ("sp-right", countries[0]), naming=left),
        named("right", "p-2", ("sp-left", countries[1]), naming=right),
    )
    answer = plan(grouped(APART, scope, ("p-1", "p-2")), snap, NOW)
    assert isinstance(answer, Infeasible) is not certain
    if isinstance(answer, Infeasible):
        assert answer.reasons[0].code is ReasonCode.AFFINITY


@pytest.mark.parametrize(("naming", "certain"), [(PUBLIC, True), (OWN, True), (RELAYED, False)])
def test_what_one_supplier_named_itself_it_tells_apart(naming: PlaceNaming, certain: bool) -> None:
    (whole,) = two_cities().suppliers
    places = tuple(replace(p, naming=naming) for p in whole.note.places)
    snap = snapshot(replace(whole, note=replace(whole.note, places=places)))
    group = Group(id="g", kind=APART, scope=GroupScope.PLACE, functions=("f0", "f1"))
    answer = plan(chain_spec("m.uni", "m.out", ["x", "x"], groups=(group,)), snap, NOW)
    assert isinstance(answer, Infeasible) is not certain


def sold_by(*brokers: str, disclosure: Disclosure) -> Snapshot:
    """All of these brokers sell the same two cities, in words of their own."""
    views = []
    for alias in brokers:
        made, _ = shown(two_cities(), disclosure, audience=alias)
        views.append(SupplierView(alias=alias, sp_id=alias, note=made, local=False, saps={}))
    return snapshot(*views)


@pytest.mark.parametrize("middle", [OPEN, GREY])
@pytest.mark.parametrize("top", [OPEN, GREY])
def test_what_one_of_those_below_named_it_tells_apart_at_every_level_above(middle: Disclosure, top: Disclosure) -> None:
    note = shown(sold_by("a", "b", disclosure=GREY), middle)[0]
    again = SupplierView(alias="m", sp_id="middle", note=note, local=False, saps={})
    graph = Graph(above(shown(snapshot(again), top)[0]))
    assert graph.place_count == 6
    named = [place.named_by for n in range(6) if (place := graph.place_known(n)) is not None]
    assert len(set(named)) == 2
    for x, y in combinations(range(6), 2):
        certain = named[x] == named[y] or graph.place_country[x] != graph.place_country[y]
        assert apart(graph, x, y) is certain


def test_of_a_word_for_places_that_two_named_it_is_not_told_who_did() -> None:
    note, _ = shown(sold_by("a", "b", disclosure=GREY), BLACK)
    assert [(p.merged, p.named_by) for p in note.places] == [(True, "")] * 2
    alone, _ = shown(sold_by("a", disclosure=GREY), BLACK)
    assert all(p.named_by for p in alone.places)


def test_in_a_merged_place_functions_are_neither_together_nor_apart_nor_near() -> None:
    note, words = shown(two_cities(), BLACK)
    assert words.words is not None
    at = words.words["BER"]
    for asked, code in (
        ({"groups": (Group(id="g", kind=TOGETHER, scope=GroupScope.PLACE, functions=("f0", "f1")),)}, ReasonCode.AFFINITY),
        ({"groups": (Group(id="g", kind=APART, scope=GroupScope.PLACE, functions=("f0", "f1")),)}, ReasonCode.AFFINITY),
        ({"distances": (Distance(id="d", function="f0", to="f1", max_km=1000),)}, ReasonCode.DISTANCE),
    ):  # fmt: skip
        spec = chain_spec("m.uni", "m.out", ["x", "x"], **asked)
        refused = plan(spec, above(note), NOW)
        assert isinstance(refused, Infeasible)
        assert refused.reasons[0].code is code
    host = Group(id="g", kind=TOGETHER, scope=GroupScope.HOST, functions=("f0", "f1"))
    kept = plan(chain_spec("m.uni", "m.out", ["x", "x"], groups=(host,)), above(note), NOW)
    assert not isinstance(kept, Infeasible), "hosts are handed down, and kept by who has them"
    assert kept[0].segments[0].places == {"f0": at, "f1": at}
