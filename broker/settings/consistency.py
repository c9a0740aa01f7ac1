"""Whether all documents together make sense: what no document shows alone.

Rules kept here
- Everything named exists: places, interconnects, agreements. A reference to a document that was refused for other
  reasons is not reported again.
- Aliases of suppliers and domains, and the names under which SAPs are announced, are unique.
- A supplier's anchor is that of its sp_id, and not our own; it has one word for each mechanism and class of
  ours. A service has an anchor, a person none.
- A class of service bounds something.
- Managers and who may name them: `consistency_managers`.
- Pools do not overlap, and their blocks fit. Own prices are in one currency: nothing converts.
- Whoever could administer the node before still can: the last operator in service stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import combinations

from broker.settings.administered import (
    AccountDoc,
    AdminState,
    AgreementDoc,
    Document,
    QosDoc,
    SupplierDoc,
    Window,
)
from broker.settings.consistency_domains import domain_problems, function_problems, interconnect_problems
from broker.settings.consistency_managers import manager_problems
from broker.settings.present import Administered, Key
from broker.settings.problems import Problem
from broker.settings.walk import unspecified

ARGON2ID = "$argon2id$"


def problems(whole: Administered, own_sp_id: str, broken: Set[Key] = frozenset()) -> tuple[Problem, ...]:
    """What is wrong with `whole`, by kind and name. `broken` names documents that were given but cannot be read."""
    found = [
        *_of_each(whole),
        *_aliases(whole),
        *_announced(whole),
        *(p for supplier in whole.suppliers for p in _supplier(supplier, own_sp_id)),
        *_classes(whole, broken),
        *(p for account in whole.accounts for p in _account(account, whole, broken)),
        *_pools(whole),
        *_currencies(whole),
        *domain_problems(whole, own_sp_id, broken),
        *interconnect_problems(whole),
        *function_problems(whole, broken),
        *manager_problems(whole, broken),
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda p: (p.kind, p.name)))


def has_operator(whole: Administered) -> bool:
    """Whether an account in service may administer the node, and can log in."""
    return any(
        "operator" in a.roles and a.state is AdminState.IN_SERVICE and (a.anchor or a.password_hash)
        for a in whole.accounts
    )


def _no(document: Document, field: str, reason: str) -> Problem:
    return Problem(document.kind, document.name, field, reason)


def _of_each(whole: Administered) -> Iterator[Problem]:
    for versioned in whole.by_key.values():
        document = versioned.document
        for field in unspecified(document):
            yield _no(document, field, "a value has to be named here")
        if not isinstance(document, QosDoc | AgreementDoc | AccountDoc):
            parts = [("", document), *((f"saps[{i}].", s) for i, s in enumerate(getattr(document, "saps", ())))]
            for prefix, part in parts:
                yield from _window(document, prefix, getattr(part, "state", None), getattr(part, "window", None))


def _window(document: Document, prefix: str, state: AdminState | None, window: Window | None) -> Iterator[Problem]:
    if state is AdminState.MAINTENANCE and window is None:
        yield _no(document, f"{prefix}state", "MAINTENANCE needs a window")
    if window is not None and window.end <= window.start:
        yield _no(document, f"{prefix}window.end", "the window ends before it begins")


def _aliases(whole: Administered) -> Iterator[Problem]:
    domains = {d.name for d in whole.domains}
    for supplier in whole.suppliers:
        if supplier.name in domains:
            yield _no(supplier, "name", f"the domain {supplier.name!r} has this name too: both are suppliers")


def _announced(whole: Administered) -> Iterator[Problem]:
    """Names under which SAPs are announced: an own SAP's id, a supplier's as its document says."""
    owner: dict[str, str] = {}
    for domain in whole.domains:
        for i, sap in enumerate(domain.saps):
            first = owner.setdefault(sap.id, f"domain {domain.name!r}")
            if first != f"domain {domain.name!r}":
                yield _no(domain, f"saps[{i}].id", f"{first} has a SAP {sap.id!r} too")
    aliases = {s.name for s in whole.suppliers}
    for supplier in whole.suppliers:
        for theirs, ours in supplier.expose_saps.items():
            first = owner.get(ours, "")
            if first:
                yield _no(supplier, f"expose_saps.{theirs}", f"{first} announces {ours!r} too")
            owner[ours] = first or f"supplier {supplier.name!r}"
            alias, dot, rest = ours.partition(".")
            if dot and alias in aliases and (alias, rest) != (supplier.name, theirs):
                yield _no(
                    supplier, f"expose_saps.{theirs}", f"{ours!r} is what supplier {alias!r} announces {rest!r} as"
                )


def _supplier(supplier: SupplierDoc, own_sp_id: str) -> Iterator[Problem]:
    if supplier.sp_id == own_sp_id:
        yield _no(supplier, "sp_id", "this is our own: an own domain is a document of kind domain")
    if supplier.anchor.sp_id != supplier.sp_id:
        yield _no(supplier, "anchor.sp_id", f"the anchor is of {supplier.anchor.sp_id!r}, not of {supplier.sp_id!r}")
    for field, words in (("isolation", supplier.isolation), ("qos", supplier.qos)):
        first: dict[str, str] = {}
        for theirs, ours in words.items():
            if first.setdefault(ours, theirs) != theirs:
                reason = f"{first[ours]!r} is {ours!r} too: which one is to be asked for?"
                yield _no(supplier, f"{field}.{theirs}", reason)


def _classes(whole: Administered, broken: Set[Key]) -> Iterator[Problem]:
    for doc in whole.classes:
        if doc.max_delay_us is None and doc.min_availability is None:
            yield _no(doc, "", "the class bounds nothing: it needs max_delay_us or min_availability")
    for supplier in whole.suppliers:
        for theirs, ours in supplier.qos.items():
            if not _known(whole, broken, "qos", ours):
                yield _no(supplier, f"qos.{theirs}", f"there is no class of service {ours!r}")


def _account(account: AccountDoc, whole: Administered, broken: Set[Key]) -> Iterator[Problem]:
    if account.agreement is not None and not _known(whole, broken, "agreement", account.agreement):
        yield _no(account, "agreement", f"there is no agreement {account.agreement!r}")
    if len(set(account.roles)) < len(account.roles):
        yield _no(account, "roles", "a role stands twice")
    if account.type == "service":
        if account.anchor is None:
            yield _no(account, "anchor", "a service needs the anchor of its SP: its certificates prove who it is")
        if account.password_hash is not None:
            yield _no(account, "password_hash", "a service has no password: its certificate proves who it is")
        return
    if account.anchor is not None:
        yield _no(account, "anchor", "a person has none; an account with certificates is of type service")
    if account.password_hash is not None and not account.password_hash.startswith(ARGON2ID):
        yield _no(account, "password_hash", "not an argon2id hash")


def _pools(whole: Administered) -> Iterator[Problem]:
    for pool in whole.pools:
        longest = pool.prefix.max_prefixlen - 1
        if not pool.prefix.prefixlen <= pool.block <= longest:
            yield _no(pool, "block", f"a block of {pool.prefix} has a length of {pool.prefix.prefixlen} to {longest}")
    for first, second in combinations(whole.pools, 2):
        if first.prefix.version == second.prefix.version and first.prefix.overlaps(second.prefix):
            yield _no(second, "prefix", f"{second.prefix} overlaps {first.prefix} of pool {first.name!r}")


def _currencies(whole: Administered) -> Iterator[Problem]:
    prices = [
        (domain, f"links[{i}].ways[{j}].price.currency", way.price)
        for domain in whole.domains
        for i, link in enumerate(domain.links)
        for j, way in enumerate(link.ways)
    ]
    own: list[tuple[Document, str, str]] = [(d, field, p.currency) for d, field, p in prices if p.once or p.per_hour]
    own += [
        (function, f"flavours[{i}].price.currency", flavour.price.currency)
        for function in whole.functions
        for i, flavour in enumerate(function.flavours)
        if flavour.price.once or flavour.price.per_hour
    ]
    own += [(agreement, "currency", agreement.currency) for agreement in whole.agreements]
    for document, field, currency in own[1:]:
        if currency != own[0][2]:
            first = own[0][0]
            yield _no(
                document, field, f"{currency} beside {own[0][2]} of {first.kind} {first.name!r}: nothing converts"
            )


def _known(whole: Administered, broken: Set[Key], kind: str, name: str) -> bool:
    return (kind, name) in whole.by_key or (kind, name) in broken
