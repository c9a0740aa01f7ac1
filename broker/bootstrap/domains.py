"""An own domain's document as what a driver builds on: the Domain value and the SAPs' ports.

Rules kept here
- Only what the driver offers is announced: functions whose implementation it has, for the families of addresses that it
  has, SAPs whose encapsulation it has.
- Labels, the peer and who decides come from the interconnect; a UNI has every label of its encapsulation.
- What is not in service, the domain, a SAP or its interconnect, takes nothing new; what is held there stays.
- Of an interconnect between two own domains, the one first by name is the side that `decides_labels` speaks of.
"""

from __future__ import annotations

from datetime import datetime

from broker.settings.administered import (
    DomainDoc,
    DomainLink,
    DomainSap,
    FlavourDoc,
    FunctionDoc,
    InterconnectDoc,
    PlaceDoc,
)
from broker.settings.present import Administered, takes_new
from capability_registry.label_kinds import labels_of
from lower_sp_clients.vim.domain import CatalogueFunction, Domain, Sap, Way
from lower_sp_clients.vim.driver import DriverOffer, SapPort
from service_model.families import families_of, versions
from service_model.flavours import Flavour


def domain_value(
    doc: DomainDoc, administered: Administered, offer: DriverOffer, own_sp_id: str, now: datetime
) -> Domain:
    """The domain that `doc` describes, under a driver with this offer. `administered` is consistent."""
    places = tuple(place.place() for p in doc.places if (place := administered.find(PlaceDoc, p.place)) is not None)
    return Domain(
        name=doc.name,
        sp_id=own_sp_id,
        places=places,
        hosts={p.place: tuple(bin.size for bin in p.bins for _ in range(bin.count)) for p in doc.places},
        lan=frozenset(p.place for p in doc.places if p.lan and offer.lan),
        saps=tuple(_sap(sap, doc, administered, offer, own_sp_id, now) for sap in doc.saps),
        ways=tuple(way for link in doc.links for way in _ways(link)),
        functions=tuple(
            made
            for function in administered.functions
            if function.implementation in offer.implementations
            and (made := _function(function, frozenset(p.place for p in doc.places), offer)).places
            and made.families
        ),
        swaps_labels=doc.swaps_labels,
        excluded=doc.excluded,
        look_every_s=doc.look_every_s,
        dead_after_s=doc.dead_after_s,
    )


def sap_ports(doc: DomainDoc) -> tuple[SapPort, ...]:
    """The SAPs as the driver is configured with them."""
    return tuple(
        SapPort(id=sap.id, encapsulation=sap.encapsulation.short, mtu=sap.carries(), settings=dict(sap.settings))
        for sap in doc.saps
    )


def not_offered(doc: DomainDoc, offer: DriverOffer) -> list[tuple[str, str, str]]:
    """The SAPs whose encapsulation the driver does not have, each with that and with the driver's reason."""
    why = {kind: reason for kind, _, reason in (missing.partition(": ") for missing in offer.missing)}
    kinds = ((sap.id, sap.encapsulation.short) for sap in doc.saps)
    return [(id, kind, why.get(kind, "")) for id, kind in kinds if kind not in offer.encapsulations]


def _sap(
    sap: DomainSap, doc: DomainDoc, administered: Administered, offer: DriverOffer, own_sp_id: str, now: datetime
) -> Sap:
    joint = administered.find(InterconnectDoc, sap.interconnect) if sap.interconnect is not None else None
    usable = sap.encapsulation.short in offer.encapsulations and all(
        takes_new(state, window, now)
        for state, window in (
            (doc.state, doc.window),
            (sap.state, sap.window),
            *(((joint.state, joint.window),) if joint else ()),
        )
    )
    decides = False
    if joint is not None:
        decides = joint.decides_labels
        if joint.peer == own_sp_id:
            sides = [d.name for d in administered.domains if any(s.interconnect == joint.name for s in d.saps)]
            decides = decides == (doc.name == min(sides))
    return Sap(
        id=sap.id,
        role=sap.role,
        place=sap.place,
        encapsulation=sap.encapsulation,
        mtu=sap.carries(),
        labels=joint.labels if joint is not None else labels_of(sap.encapsulation),
        bandwidth_bps=sap.bandwidth_bps,
        interconnect=joint.name if joint is not None else "",
        peer=joint.peer if joint is not None else "",
        decides_labels=decides,
        path_headers=sap.id in offer.path_headers,
        usable=usable,
    )


def _ways(link: DomainLink) -> tuple[Way, ...]:
    """Ids stand beside those of SAPs where use is counted: `~` and `/` are in no name."""
    return tuple(
        Way(
            id=f"{link.a}~{link.b}/{way.name}",
            a=link.a,
            b=link.b,
            price=way.price,
            delay_us=way.delay_us,
            bandwidth_bps=way.bandwidth_bps,
            availability=way.availability,
            isolation=way.isolation,
        )
        for way in link.ways
    )


def _function(doc: FunctionDoc, here: frozenset[str], offer: DriverOffer) -> CatalogueFunction:
    return CatalogueFunction(
        type=doc.type,
        implementation=doc.implementation,
        ports=doc.ports,
        flavours=tuple(map(_flavour, doc.flavours)),
        places=frozenset(doc.places) & here if doc.places else here,
        delay_us=doc.delay_us,
        parameters=doc.parameters,
        families=families_of(offer.versions.intersection(versions(doc.families))),
    )


def _flavour(doc: FlavourDoc) -> Flavour:
    return Flavour(
        name=doc.name,
        units=doc.units,
        runtime=doc.runtime,
        price=doc.price,
        max_bandwidth_bps=doc.max_bandwidth_bps,
    )
