"""All current documents as one value: what the node is administered to be, at one moment.

A change makes a new value, so whatever was derived from one can be told by its identity to be out of date.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from broker.settings.administered import (
    TYPES,
    AccountDoc,
    AdminState,
    AgreementDoc,
    Document,
    DomainDoc,
    FunctionDoc,
    InterconnectDoc,
    ManagerDoc,
    PlaceDoc,
    PoolDoc,
    QosDoc,
    SupplierDoc,
    Window,
)

Key = tuple[str, str]
"""Kind and name."""
D = TypeVar("D", bound=Document)
_KINDS: dict[type[Any], str] = {type: kind for kind, type in TYPES.items()}


@dataclass(frozen=True, slots=True)
class Versioned:
    """A document and which version of it this is; versions of a name only grow, also over its removal."""

    document: Document
    version: int


@dataclass(frozen=True, slots=True)
class Administered:
    by_key: Mapping[Key, Versioned] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Administered:
        """These documents, each in its first version."""
        return cls({(d.kind, d.name): Versioned(d, 1) for d in documents})

    def all(self, type: type[D]) -> tuple[D, ...]:
        """The documents of a type, by name."""
        found = [v.document for v in self.by_key.values() if isinstance(v.document, type)]
        return tuple(sorted(found, key=lambda document: document.name))

    def find(self, type: type[D], name: str) -> D | None:
        known = self.by_key.get((_KINDS[type], name))
        return known.document if known is not None and isinstance(known.document, type) else None

    def version(self, document: Document) -> int:
        """0 for a document that is not in here."""
        known = self.by_key.get((document.kind, document.name))
        return known.version if known is not None else 0

    @property
    def accounts(self) -> tuple[AccountDoc, ...]:
        return self.all(AccountDoc)

    @property
    def agreements(self) -> tuple[AgreementDoc, ...]:
        return self.all(AgreementDoc)

    @property
    def classes(self) -> tuple[QosDoc, ...]:
        return self.all(QosDoc)

    @property
    def domains(self) -> tuple[DomainDoc, ...]:
        return self.all(DomainDoc)

    @property
    def functions(self) -> tuple[FunctionDoc, ...]:
        return self.all(FunctionDoc)

    @property
    def interconnects(self) -> tuple[InterconnectDoc, ...]:
        return self.all(InterconnectDoc)

    @property
    def managers(self) -> tuple[ManagerDoc, ...]:
        return self.all(ManagerDoc)

    @property
    def places(self) -> tuple[PlaceDoc, ...]:
        return self.all(PlaceDoc)

    @property
    def pools(self) -> tuple[PoolDoc, ...]:
        return self.all(PoolDoc)

    @property
    def suppliers(self) -> tuple[SupplierDoc, ...]:
        return self.all(SupplierDoc)


def takes_new(state: AdminState, window: Window | None, now: datetime) -> bool:
    """Whether something in this state takes new orders. MAINTENANCE counts within its window only."""
    if state is AdminState.MAINTENANCE and window is not None:
        return not window.start <= now < window.end
    return state is AdminState.IN_SERVICE
