"""Documents as what the broker and its drivers work with."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_network
from typing import Any

import pytest

from address_planner.labels import LabelSet
from broker.bootstrap.domains import domain_value, not_offered, sap_ports
from broker.bootstrap.mapping import listings, next_turn, pools, terms
from broker.orders.catalogue import Catalogue, Listing
from broker.orders.flapping import Flapping
from broker.orders.pools import Pool
from broker.orders.records import Terms
from broker.settings.administered import DomainDoc
from broker.settings.present import Administered, Versioned
from capability_registry.abstraction import Abstraction, Disclosure, PlaceDetail
from capability_registry.note import Lifecycle, PointKind
from lower_sp_clients.vim.announcing import note
from lower_sp_clients.vim.domain import Domain, Usage
from lower_sp_clients.vim.driver import DriverOffer, SapPort
from service_model.families import ANY_FAMILY, AddressFamily
from service_model.flavours import Flavour, Runtime
from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode
from tests.support import administered as docs

OFFER = DriverOffer(
    implementations=frozenset({"firewall"}), encapsulations=frozenset({"ETHERNET", "VXLAN"}), lan=True, probes=False
)
START, END = docs.NOW + timedelta(hours=1), docs.NOW + timedelta(hours=2)
WINDOW = {"start": START.isoformat(), "end": END.isoformat()}
HOUR = timedelta(hours=1)


def value(
    *documents: dict[str, Any], name: str = "dc", offer: DriverOffer = OFFER, after: timedelta | None = None
) -> Domain:
    whole = docs.administered(*documents)
    doc = whole.find(DomainDoc, name)
    assert doc is not None
    return domain_value(doc, whole, offer, docs.OWN, docs.NOW + (after or timedelta()))


def usable(domain: Domain) -> dict[str, bool]:
    return {sap.id: sap.usable for sap in domain.saps}


def sap(i: int, **more: Any) -> dict[str, Any]:
    saps = [dict(s) for s in docs.domain()["saps"]]
    saps[i].update(more)
    return docs.domain(saps=saps)


def test_a_domain_is_its_document_with_its_interconnects() -> None:
    domain = value()
    uni, nni = domain.saps
    assert (uni.id, uni.labels, uni.interconnect, uni.peer) == ("site-a", LabelSet.of([0]), "", "")
    assert (nni.interconnect, nni.peer, nni.decides_labels) == ("ic-1", "lower", True)
    assert nni.labels == LabelSet.parse("100-199")
    assert domain.hosts == {"zrh": (4, 4)}
    assert domain.lan == {"zrh"}
    assert domain.sp_id == docs.OWN
    assert (domain.look_every_s, domain.dead_after_s) == (10, 60)
    assert [p.country for p in domain.places] == ["CH"]
    assert len({way.id for way in domain.ways} | {s.id for s in domain.saps}) == 4


def test_its_note_announces_ways_between_its_saps() -> None:
    announced = note(value(), Usage(), 1, docs.NOW, HOUR)
    [entry] = [e for e in announced.matrix if {e.a, e.b} == {"site-a", "to-lower"}]
    [cheapest] = [p for p in entry.points if p.kind is PointKind.CHEAPEST]
    assert (cheapest.delay_us, cheapest.price.per_hour) == (1000, Decimal("0.2"))
    assert [(f.place, str(f.type)) for f in announced.functions] == [("zrh", "eu.spbroker/firewall/1.0")]


def test_only_functions_that_the_driver_makes_are_in_it() -> None:
    meter = docs.function("meter", parameters={"a": 1})
    assert [f.implementation for f in value(meter).functions] == ["firewall"]
    both = DriverOffer(
        implementations=frozenset({"firewall", "meter"}), encapsulations=frozenset(), lan=False, probes=False
    )
    domain = value(meter, offer=both)
    assert [f.implementation for f in domain.functions] == ["firewall", "meter"]
    assert domain.functions[1].parameters == {"a": 1}
    assert domain.lan == frozenset()


def test_flavours_are_announced_as_they_are_administered_and_the_first_is_the_default() -> None:
    small = {"name": "small", "units": 2, "max_bandwidth_bps": 10**7}
    large = {"name": "large", "units": 8, "runtime": "VM", "price": {"per_hour": "0.30"}}
    (told,) = note(value(docs.function(flavours=[small, large])), Usage(), 1, docs.NOW, HOUR).functions
    assert told.flavours == (
        Flavour(name="small", units=2, max_bandwidth_bps=10**7),
        Flavour(name="large", units=8, runtime=Runtime.VM, price=Price(per_hour=Decimal("0.30"))),
    )


def test_a_function_is_offered_for_the_families_that_it_and_the_driver_have() -> None:
    def told(offer: DriverOffer = OFFER, **more: Any) -> list[tuple[AddressFamily, ...]]:
        announced = note(value(docs.function(**more), offer=offer), Usage(), 1, docs.NOW, HOUR)
        return [f.families for f in announced.functions]

    four = replace(OFFER, versions=frozenset({4}))
    assert told() == [ANY_FAMILY]
    assert told(four) == [(AddressFamily.IPV4,)]
    assert told(families=["ipv6"]) == [(AddressFamily.IPV6,)]
    assert told(four, families=["IPV6"]) == []


def test_a_function_is_offered_at_its_own_places_of_the_domain_only() -> None:
    gva = docs.domain(
        "dc2",
        places=[{"place": "gva"}],
        saps=[{"id": "x", "role": "UNI", "place": "gva"}],
        links=[{"a": "x", "b": "gva", "ways": [{"name": "w", "delay_us": 1}]}],
    )
    there = (docs.place("gva"), gva, docs.function(places=["gva"]))
    assert value(*there).functions == ()
    assert [f.places for f in value(*there, name="dc2").functions] == [frozenset({"gva"})]


def test_a_sap_whose_encapsulation_the_driver_has_not_is_not_usable() -> None:
    plain = DriverOffer(implementations=frozenset(), encapsulations=frozenset({"ETHERNET"}), lan=True, probes=False)
    assert usable(value(offer=plain)) == {"site-a": True, "to-lower": False}


@pytest.mark.parametrize("state", ["DRAINING", "DISABLED"])
def test_what_is_not_in_service_takes_nothing_new(state: str) -> None:
    assert usable(value(sap(0, state=state))) == {"site-a": False, "to-lower": True}
    assert usable(value(docs.interconnect(state=state))) == {"site-a": True, "to-lower": False}
    assert usable(value(docs.domain(state=state))) == {"site-a": False, "to-lower": False}


def test_maintenance_counts_within_its_window_only() -> None:
    changed = docs.interconnect(state="MAINTENANCE", window=WINDOW)
    seen = [usable(value(changed, after=HOUR * n / 2))["to-lower"] for n in range(5)]
    assert seen == [True, True, False, False, True]


def test_one_side_decides_of_an_interconnect_between_own_domains() -> None:
    second = docs.domain(
        "dc2",
        saps=[{"id": "y", "role": "NNI", "place": "zrh", "encapsulation": "VXLAN", "interconnect": "ic-1"}],
        links=[{"a": "y", "b": "zrh", "ways": [{"name": "w", "delay_us": 1}]}],
    )
    for decides in (True, False):
        joint = docs.interconnect(peer=docs.OWN, decides_labels=decides)
        sides = [value(second, joint, name=name).saps[-1].decides_labels for name in ("dc", "dc2")]
        assert sides == [decides, not decides]


def test_the_driver_gets_each_sap_with_its_settings() -> None:
    [doc] = docs.administered(sap(1, settings={"namespace": "b1"})).domains
    assert sap_ports(doc) == (
        SapPort(id="site-a", encapsulation="ETHERNET", mtu=1500),
        SapPort(id="to-lower", encapsulation="VXLAN", mtu=1450, settings={"namespace": "b1"}),
    )


@pytest.mark.parametrize(("encapsulation", "mtu"), [("ETHERNET", 1500), ("VLAN", 1500), ("VXLAN", 1450)])
def test_what_a_sap_carries_follows_from_its_encapsulation_where_nothing_is_said(encapsulation: str, mtu: int) -> None:
    """In the domain, for its driver and in its note."""
    changed = sap(0, encapsulation=encapsulation)
    offer = replace(OFFER, encapsulations=frozenset({"ETHERNET", "VLAN", "VXLAN"}))
    [doc] = docs.administered(changed).domains
    announced = note(value(changed, offer=offer), Usage(), 1, docs.NOW, HOUR)
    told = announced.sap("site-a")
    assert told is not None
    assert (sap_ports(doc)[0].mtu, told.mtu) == (mtu, mtu)
    [doc] = docs.administered(sap(0, encapsulation=encapsulation, mtu=9000)).domains
    assert sap_ports(doc)[0].mtu == 9000


def test_a_sap_that_the_driver_has_no_device_for_is_named_and_not_announced() -> None:
    changed = sap(0, encapsulation="VLAN")
    [doc] = docs.administered(changed).domains
    lacking = replace(OFFER, missing=("shaper: no sch_tbf", "VLAN: Operation not permitted; it takes cls_bpf"))
    assert not_offered(doc, lacking) == [("site-a", "VLAN", "Operation not permitted; it takes cls_bpf")]
    announced = note(value(changed), Usage(), 1, docs.NOW, HOUR)
    assert [s.id for s in announced.saps] == ["to-lower"]
    assert not [e for e in announced.matrix if "site-a" in (e.a, e.b)]
    assert not_offered(doc, replace(OFFER, encapsulations=frozenset({"VLAN", "VXLAN"}))) == []


def test_a_domain_that_does_not_swap_converts_between_unlike_encapsulations_and_swaps_there() -> None:
    document = docs.domain(swaps_labels=False)
    document["saps"] = [*document["saps"], {"id": "site-b", "role": "UNI", "place": "zrh", "encapsulation": "VXLAN"}]
    document["links"] = [*document["links"], {"a": "site-b", "b": "zrh", "ways": [{"name": "w", "delay_us": 1}]}]
    announced = note(value(document), Usage(), 1, docs.NOW, HOUR)
    for swaps, uni in ((True, "site-a"), (False, "site-b")):
        [entry] = [e for e in announced.matrix if {e.a, e.b} == {uni, "to-lower"}]
        assert {p.swaps_labels for p in entry.points} == {swaps}, uni


def test_pools_are_as_administered() -> None:
    assert pools(docs.administered(docs.pool(quarantine_s=60)), docs.NOW) == (
        Pool(name="v4", prefix=ip_network("10.0.0.0/16"), block=24, quarantine=timedelta(seconds=60)),
    )
    (drained,) = pools(docs.administered(docs.pool(state="DRAINING")), docs.NOW)
    assert not drained.usable


def test_domains_and_lower_sps_are_listed_alike() -> None:
    whole = docs.administered(docs.supplier(expose_saps={"uni": "site-b"}), docs.domain(state="DRAINING"))
    assert listings(whole, docs.OWN, docs.NOW) == (
        Listing(
            alias="dc",
            sp_id=docs.OWN,
            local=True,
            usable=False,
            expose={"site-a": "site-a", "to-lower": "to-lower"},
        ),
        Listing(alias="lower", sp_id="lower", local=False, usable=True, expose={"uni": "site-b"}),
    )


def test_how_a_domain_is_looked_after_is_a_matter_of_its_document() -> None:
    whole = docs.administered(docs.domain(look_every_s=2, dead_after_s=20, heal_after_s=5))
    (heals,) = (listing.heal_after for listing in listings(whole, docs.OWN, docs.NOW) if listing.alias == "dc")
    assert heals == timedelta(seconds=5)
    domain = value(docs.domain(look_every_s=2, dead_after_s=20))
    assert (domain.look_every_s, domain.dead_after_s) == (2, 20)


def test_how_often_a_part_may_be_lost_is_a_matter_of_its_suppliers_document() -> None:
    for whole, alias in (
        (docs.administered(docs.domain(heal_after_losses=6, losses_within_s=600)), "dc"),
        (docs.administered(docs.supplier(heal_after_losses=6, losses_within_s=600)), "lower"),
    ):
        (found,) = (listing for listing in listings(whole, docs.OWN, docs.NOW) if listing.alias == alias)
        assert found.flapping == Flapping(losses=6, within=timedelta(minutes=10))
    said_nothing = listings(docs.administered(docs.domain(), docs.supplier()), docs.OWN, docs.NOW)
    assert {listing.flapping for listing in said_nothing} == {Flapping(losses=4, within=timedelta(hours=1))}


def test_who_is_on_trial_is_used_by_whoever_tries_it_out() -> None:
    used = {}
    for tried in (False, True):
        catalogue = Catalogue(docs.OWN)
        catalogue.list(listings(docs.administered(docs.supplier(trial=tried)), docs.OWN, docs.NOW))
        for lifecycle in (Lifecycle.TRIAL, Lifecycle.ACTIVE, Lifecycle.TRIAL):
            catalogue.put("lower", replace(note(value(), Usage(), 1, docs.NOW, HOUR), lifecycle=lifecycle))
            used[tried, lifecycle] = [view.usable for view in catalogue.snapshot.suppliers]
    assert used == {
        (False, Lifecycle.TRIAL): [False],
        (False, Lifecycle.ACTIVE): [True],
        (True, Lifecycle.TRIAL): [True],
        (True, Lifecycle.ACTIVE): [True],
    }


def test_the_next_turn_is_when_a_window_begins_or_ends() -> None:
    whole = docs.administered(docs.supplier(state="MAINTENANCE", window=WINDOW))
    assert next_turn(whole, docs.NOW) == START
    assert next_turn(whole, START) == END
    assert next_turn(whole, END) is None


def test_the_terms_pin_the_version_of_the_agreement() -> None:
    shown = {"abstraction": "BLACK", "place_detail": "NONE"}
    whole = docs.administered(docs.agreement(margin_percent="12.5", max_hold_s=60, show_segments=False, note=shown))
    key = ("agreement", "gold")
    later = Administered({**whole.by_key, key: Versioned(whole.by_key[key].document, 7)})
    assert terms(later, "ann") == Terms(
        agreement="gold", version=7, margin=Decimal("1.125"), currency="EUR", max_hold_s=60, show_segments=False,
        disclosure=Disclosure(abstraction=Abstraction.BLACK, place_detail=PlaceDetail.NONE),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("document", "account", "code"),
    [
        (docs.person(state="DISABLED"), "ann", ReasonCode.NOT_IN_SERVICE),
        (docs.person(state="DRAINING"), "ann", ReasonCode.NOT_IN_SERVICE),
        (docs.person(), "nobody", ReasonCode.NOT_IN_SERVICE),
        (docs.person(agreement=None), "ann", ReasonCode.QUOTA),
        (docs.agreement(lifecycle="WITHDRAWING"), "ann", ReasonCode.NOT_IN_SERVICE),
    ],
)
def test_an_account_that_may_not_order_gets_a_reason(document: dict[str, Any], account: str, code: ReasonCode) -> None:
    reason = terms(docs.administered(document), account)
    assert isinstance(reason, Reason)
    assert reason.code is code
