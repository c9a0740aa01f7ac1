"""A folder of administered documents: what `spbroker apply -f DIR` reads and `spbroker export -o DIR` writes.

Rules kept here
- Every `*.yml` and `*.yaml` below the folder is read, in the order of their paths; a file may hold several documents.
- Everything wrong is told at once, each with file, line and field, also what only the node can find (`located`).
- The value `{file: path.json}` of an `anchor` stands for the content of that file, relative to the document's own; so does
  `{file: path.pem}` of a `ca`.
- What is written can be read again; there is one file for each kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.settings.administered import TYPES
from broker.settings.problems import faults, key_of
from broker.settings.process import NODE_FILE
from service_model.yaml_lines import MAX_BYTES, Document, DocumentError, DocumentRefused, field_text, load_documents
from service_model.yaml_written import yaml_text

SUFFIXES = frozenset({".yml", ".yaml"})
ANCHOR_FILE = {
    "title": "AnchorFile",
    "description": "The anchor.json of the partner, relative to this file.",
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
}
CA_FILE = {**ANCHOR_FILE, "title": "AuthorityFile", "description": "A certificate in PEM, relative to this file."}


@dataclass(frozen=True, slots=True)
class Folder:
    """Documents as read, in the order of files and lines; each knows its file and the lines of its fields."""

    lined: tuple[Document, ...]

    @property
    def documents(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(document.data for document in self.lined)

    def where(self, kind: str, name: str) -> tuple[str, int] | None:
        """File and line of a document."""
        document = self._find(kind, name)
        return (document.file, document.line(())) if document else None

    def located(self, kind: str, name: str, problem: str) -> str:
        """A problem that the node found, `field: reason`, with file and line where the document is in this folder."""
        document = self._find(kind, name)
        if document is None:
            return f"{kind} {name}: {problem}"
        field = problem.partition(": ")[0]
        texts = {field_text(path): path for path in document.positions if path}
        best = max((t for t in texts if field == t or field.startswith((f"{t}.", f"{t}["))), key=len, default="")
        return f"{document.file}:{document.line(texts.get(best, ()))}: {problem}"

    def _find(self, kind: str, name: str) -> Document | None:
        return next((d for d in self.lined if key_of(d.data) == (kind, name)), None)


def read_folder(folder: Path) -> Folder:
    """The documents below `folder` (or of one file), but for `node.yml`: settings of the process are not administered.
    Raises DocumentRefused with everything that is wrong."""
    if not folder.exists():
        raise DocumentRefused((DocumentError(str(folder), 1, "", "there is no such file or folder"),))
    files = (
        [folder]
        if folder.is_file()
        else sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.name != NODE_FILE and p.is_file())
    )
    found: list[Document] = []
    errors: list[DocumentError] = []
    for file in files:
        try:
            loaded = load_documents(file.read_bytes(), str(file))
        except DocumentError as error:
            errors.append(error)
            continue
        except OSError as error:
            errors.append(DocumentError(str(file), 1, "", f"cannot be read: {error.strerror}"))
            continue
        for document in loaded:
            problems = _resolve(document, file.parent)
            found.append(document)
            errors.extend(problems)
            if not problems:
                errors.extend(_faults(document))
    errors.extend(_duplicates(found))
    if not errors and not found:
        errors.append(DocumentError(str(folder), 1, "", f"no documents: files end in {' or '.join(sorted(SUFFIXES))}"))
    if errors:
        raise FolderRefused(tuple(errors))
    return Folder(tuple(found))


class FolderRefused(DocumentRefused):
    """Everything that is wrong in several files, in the order of files and lines."""

    def __init__(self, errors: tuple[DocumentError, ...]) -> None:
        super().__init__(errors)
        self.errors = tuple(sorted(self.errors, key=lambda error: (error.file, error.line)))


def _faults(document: Document) -> list[DocumentError]:
    if not isinstance(document.data, dict):
        return [document.error((), "a document is a mapping of fields, first `kind` and `name`")]
    result = faults(document)
    if not isinstance(result, tuple):
        return []
    paths = {field_text(path): path for path in document.positions}
    return [
        DocumentError(document.file, document.line(paths.get(field, ())), field, reason) for field, reason in result
    ]


def _resolve(document: Document, parent: Path) -> list[DocumentError]:
    """Put the content of a file in the place of `anchor: {file: …}`, and of `ca: {file: …}`."""
    errors = []
    for field, kind, name in (("anchor", "the anchor's own fields", "anchor.json"), ("ca", "the PEM itself", "ca.pem")):
        given = document.data.get(field) if isinstance(document.data, dict) else None
        if not isinstance(given, dict) or "file" not in given:
            continue
        path = (field, "file")
        if set(given) != {"file"} or not isinstance(given["file"], str):
            errors.append(document.error((field,), f"either {kind} or {{file: {name}}}"))
            continue
        file = parent / given["file"]
        try:
            content = file.read_bytes()
            if len(content) > MAX_BYTES:
                errors.append(document.error(path, f"{file} is larger than {MAX_BYTES} bytes"))
                continue
            document.data[field] = json.loads(content) if field == "anchor" else content.decode("ascii")
        except OSError as error:
            errors.append(document.error(path, f"cannot read {file}: {error.strerror}"))
        except (ValueError, RecursionError):
            errors.append(document.error(path, f"{file} is not {'JSON' if field == 'anchor' else 'PEM'}"))
    return errors


def _duplicates(documents: Iterable[Document]) -> list[DocumentError]:
    first: dict[tuple[str, str], Document] = {}
    errors = []
    for document in documents:
        if not isinstance(document.data, dict) or not all(key_of(document.data)):
            continue
        kind, name = key_of(document.data)
        known = first.setdefault((kind, name), document)
        if known is not document:
            reason = f"a second {kind} {name!r}, the first is in {known.file}:{known.line(())}"
            errors.append(document.error(("name",), reason))
    return errors


def write_folder(folder: Path, documents: Iterable[Mapping[str, Any]]) -> tuple[Path, ...]:
    """One file for each kind, named after it; `folder` is made if it is not there. Files of other kinds stay."""
    folder.mkdir(parents=True, exist_ok=True)
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        by_kind.setdefault(key_of(document)[0], []).append(document)
    written = []
    for kind in sorted(by_kind, key=lambda kind: list(TYPES).index(kind)):
        path = folder / f"{kind}s.yml"
        path.write_text("---\n".join(yaml_text(dict(document)) for document in by_kind[kind]), encoding="utf-8")
        written.append(path)
    return tuple(written)
