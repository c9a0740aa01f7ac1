"""Documents as what the broker works with: suppliers' listings, address pools, the terms of an account.

Rules kept here
- Own domains and lower SPs are listed alike. An own SAP is announced by its own name.
- An account that is not in service, has no agreement, or one that is not for new orders, gets a reason, not terms.
- When the next window begins or ends, what was derived is out of date: `next_turn` says when that is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from broker.bootstrap.publication import Standing
from broker.orders.catalogue import Listing
from broker.orders.decisions import ManagerTerms
from broker.orders.flapping import Flapping
from broker.orders.pools import Pool
from broker.orders.records import Terms
from broker.settings.administered import (
    AccountDoc,
    AdminState,
    AgreementDoc,
    DomainDoc,
    Fallback,
    ManagerDoc,
    SupplierDoc,
    Window,
)
from broker.settings.present import Administered, takes_new
from capability_registry.glossary import Glossary
from capability_registry.note import Lifecycle
from service_model.outcomes import Reason, ReasonCode


def pools(administered: Administered, now: datetime) -> tuple[Pool, ...]:
    return tuple(
        Pool(
            name=p.name,
            prefix=p.prefix,
            block=p.block,
            quarantine=timedelta(seconds=p.quarantine_s),
            usable=takes_new(p.state, p.window, now),
        )
        for p in administered.pools
    )


def _flapping(doc: SupplierDoc | DomainDoc) -> Flapping:
    return Flapping(losses=doc.heal_after_losses, within=timedelta(seconds=doc.losses_within_s))


def listings(administered: Administered, own_sp_id: str, now: datetime) -> tuple[Listing, ...]:
    """Every supplier, by alias; those that take nothing new are not usable."""
    found = [
        Listing(
            alias=supplier.name,
            sp_id=supplier.sp_id,
            local=False,
            usable=takes_new(supplier.state, supplier.window, now),
            expose=dict(supplier.expose_saps),
            glossary=Glossary(isolation=dict(supplier.isolation), qos=dict(supplier.qos)),
            trial=supplier.trial,
            sold_besides=supplier.sold_besides,
            dead_after=timedelta(seconds=supplier.dead_after_s),
            heal_after=timedelta(seconds=supplier.heal_after_s),
            flapping=_flapping(supplier),
        )
        for supplier in administered.suppliers
    ]
    found += [
        Listing(
            alias=domain.name,
            sp_id=own_sp_id,
            local=True,
            usable=takes_new(domain.state, domain.window, now),
            expose={sap.id: sap.id for sap in domain.saps},
            heal_after=timedelta(seconds=domain.heal_after_s),
            flapping=_flapping(domain),
        )
        for domain in administered.domains
    ]
    return tuple(sorted(found, key=lambda listing: listing.alias))


def terms(administered: Administered, account: str) -> Terms | Reason:
    """What the account's agreement says now, with its version for the reservation to pin; or why it may not order."""
    doc = administered.find(AccountDoc, account)
    if doc is None or doc.state is not AdminState.IN_SERVICE:
        return Reason(code=ReasonCode.NOT_IN_SERVICE, message="this account takes no new orders", subject="account")
    agreement = administered.find(AgreementDoc, doc.agreement) if doc.agreement is not None else None
    if agreement is None:
        return Reason(code=ReasonCode.QUOTA, message="this account has no agreement to order under", subject="account")
    if agreement.lifecycle is Lifecycle.WITHDRAWING:
        return Reason(
            code=ReasonCode.NOT_IN_SERVICE, message="the agreement is ending: no new orders", subject="agreement"
        )
    return Terms(
        agreement=agreement.name,
        version=administered.version(agreement),
        margin=1 + agreement.margin_percent / Decimal(100),
        currency=agreement.currency,
        max_hold_s=agreement.max_hold_s,
        quote_s=agreement.quote_s,
        heal_loss=agreement.heal_loss_percent / Decimal(100),
        max_services=agreement.max_services,
        max_quotes=agreement.max_quotes,
        show_segments=agreement.show_segments,
        disclosure=agreement.note,
        classes=tuple(doc.qos_class() for doc in administered.classes),
        managers={
            name: manager_terms(manager)
            for name, document in doc.managers.items()
            if (manager := administered.find(ManagerDoc, document)) is not None
        },
    )


def manager_terms(manager: ManagerDoc) -> ManagerTerms:
    return ManagerTerms(
        document=manager.name,
        plugin=manager.plugin or "",
        decides=manager.decides,
        deadline_s=manager.deadline_s,
        refuses=manager.fallback is Fallback.REFUSE,
    )


def standing(administered: Administered, account: str) -> Standing:
    """How far the account may rely on our notes, as its agreement says."""
    doc = administered.find(AccountDoc, account)
    agreement = administered.find(AgreementDoc, doc.agreement) if doc is not None and doc.agreement else None
    return Standing() if agreement is None else Standing(lifecycle=agreement.lifecycle, notice=agreement.notice)


def sp_of(administered: Administered, account: str) -> str:
    """Which SP the account belongs to; empty for a person's."""
    doc = administered.find(AccountDoc, account)
    return doc.anchor.sp_id if doc is not None and doc.anchor is not None else ""


def next_turn(administered: Administered, now: datetime) -> datetime | None:
    """When the next maintenance window begins or ends, so that what is usable has to be looked at again."""
    windows: list[Window | None] = [d.window for d in administered.suppliers]
    windows += [d.window for d in administered.interconnects]
    windows += [d.window for d in administered.pools]
    for domain in administered.domains:
        windows += [domain.window, *(sap.window for sap in domain.saps)]
    turns = [instant for w in windows if w is not None for instant in (w.start, w.end) if instant > now]
    return min(turns, default=None)
