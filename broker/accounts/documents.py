"""Changes to administered documents, and the book that keeps every version of them.

Rules kept here
- A change is one transaction: the versions it ends, those it begins, and one audit row for each.
- Neither a diff nor an audit row shows a password hash; they show that there is one.
- A change is made to the versions that were looked at: if another has come between, nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from broker.accounts.admin_port import FieldDiff
from broker.settings.administered import AccountDoc, Document, plain
from broker.settings.present import Administered, Key, Versioned
from broker.settings.walk import leaves
from service_model.yaml_lines import Path, field_text

REDACTED = "(set)"


class DocumentsChanged(Exception):
    """Another change of the same document came between; nothing of this one was written."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One document before and after: `before` None for a new one, `after` None for one that is removed."""

    key: Key
    before: Versioned | None
    after: Document | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorship:
    """Whose change it is, when and why; `action` is the audit's word for it."""

    at: datetime
    actor: str
    reason: str
    action: str


class DocumentBook(Protocol):
    async def load(self) -> Administered:
        """Every current document."""

    async def save(self, edits: Sequence[Edit], by: Authorship) -> Mapping[Key, int]:
        """All or nothing, durable on return: the version of each document that there now is. Raises DocumentsChanged."""


def shown(document: Document | None) -> dict[str, Any]:
    """The document as people write it, its password hash hidden; empty for none."""
    if document is None:
        return {}
    data = plain(document)
    if isinstance(document, AccountDoc) and document.password_hash is not None:
        data["password_hash"] = REDACTED
    return data


def audited(document: Document | None) -> str:
    """What the audit keeps of a document: JSON, or empty for none."""
    return json.dumps(shown(document)) if document is not None else ""


def diffs(before: Document | None, after: Document | None) -> tuple[FieldDiff, ...]:
    """The fields that differ, by path, each value as JSON."""
    old, new = _flat(shown(before)), _flat(shown(after))
    changed = [path for path in dict.fromkeys([*old, *new]) if old.get(path) != new.get(path)]
    found = [FieldDiff(field=field_text(path), before=old.get(path, ""), after=new.get(path, "")) for path in changed]
    if not found and _hash(before) != _hash(after):
        return (FieldDiff(field="password_hash", before=json.dumps(REDACTED), after=json.dumps(REDACTED)),)
    return tuple(found)


def _hash(document: Document | None) -> str | None:
    return document.password_hash if isinstance(document, AccountDoc) else None


def _flat(data: Mapping[str, Any]) -> dict[Path, str]:
    return {path: json.dumps(value) for path, value in leaves(data) if path}


def with_edits(present: Administered, edits: Iterable[Edit], versions: Mapping[Key, int]) -> Administered:
    """What is administered after the edits; a document without a version in `versions` gets 0."""
    by_key = dict(present.by_key)
    for edit in edits:
        if edit.after is None:
            by_key.pop(edit.key, None)
        else:
            by_key[edit.key] = Versioned(edit.after, versions.get(edit.key, 0))
    return Administered(by_key)
