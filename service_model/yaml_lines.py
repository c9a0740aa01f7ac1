"""YAML documents as plain data, with the line and column of everything in them.

Rules kept here
- The subset is YAML 1.2 as JSON has it: mappings with text keys, sequences, text, integers, finite decimal numbers,
  true, false, null. No tags, no merge keys; `no`, `on` and `12:30` are text; a date is text until a type asks for one.
- Refused: a duplicate key (YAML 1.2.2, 3.2.1.1), more than `MAX_ALIASES` aliases or `MAX_NODES` nodes once they are
  expanded, nesting deeper than `MAX_DEPTH`, input over `MAX_BYTES`, anything that is not UTF-8.
- The limits are applied while the parser runs, so what is refused was not built first.
- Every refusal is a `DocumentError`; its text is `file:line: field: reason`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_NODES = 50_000
MAX_ALIASES = 32

Path = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?")
_CONSTANTS = {"": None, "~": None} | {
    form: value
    for text, value in (("null", None), ("true", True), ("false", False))
    for form in (text, text.title(), text.upper())
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_Parser: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(ValueError):
    """One thing wrong in one document. `line` counts from 1; `field` is a path like `links[2].points`, or empty."""

    def __init__(self, file: str, line: int, field: str, reason: str) -> None:
        super().__init__(file, line, field, reason)
        self.file, self.line, self.field, self.reason = file, line, field, reason

    def __str__(self) -> str:
        return ": ".join(part for part in (f"{self.file}:{self.line}", self.field, self.reason) if part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DocumentError) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)


class DocumentRefused(ValueError):
    """A document with everything that is wrong in it, in the order of its lines. `errors` is never empty."""

    def __init__(self, errors: tuple[DocumentError, ...]) -> None:
        ordered = tuple(sorted(dict.fromkeys(errors), key=lambda e: (e.line, e.field, e.reason)))
        super().__init__(ordered)
        self.errors = ordered

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


def field_text(path: Path) -> str:
    """`("links", 2, "points")` → `"links[2].points"`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


@dataclass(frozen=True, slots=True)
class Document:
    """One document. `positions`: path → (line, column), both from 1, of the key or the sequence item.

    `written` has the text of each number, true, false and null: `1.10` as a version is not the number 1.1.
    """

    file: str
    data: Any
    positions: Mapping[Path, tuple[int, int]]
    written: Mapping[Path, str] = field(default_factory=dict)

    def nearest(self, path: Path) -> Path:
        """The longest beginning of `path` that the document has."""
        while path and path not in self.positions:
            path = path[:-1]
        return path

    def line(self, path: Path) -> int:
        return self.positions[self.nearest(path)][0]

    def error(self, path: Path, reason: str) -> DocumentError:
        return DocumentError(self.file, self.line(path), field_text(path), reason)


@dataclass(slots=True)
class _Node:
    """A node as parsed. `children`: key → (line, column of the key or item, node); `size`, `height` after expansion."""

    line: int
    column: int
    value: Any = None
    written: str | None = None
    kind: type[Any] = str
    children: dict[str | int, tuple[int, int, _Node]] = field(default_factory=dict)
    size: int = 1
    height: int = 1


def load_document(text: str | bytes, file: str) -> Document:
    """The one document of `text`. Raises DocumentError, also when there is none or a second one."""
    documents = load_documents(text, file)
    if not documents:
        raise DocumentError(file, 1, "", "the file is empty")
    if len(documents) > 1:
        raise DocumentError(file, documents[1].line(()), "", "a second document: one is read")
    return documents[0]


def load_documents(text: str | bytes, file: str) -> tuple[Document, ...]:
    """Every document of `text`; one without content is left out. Raises DocumentError."""
    parser = _Parser(_decoded(text, file))
    try:
        return tuple(_documents(_Builder(parser, file), file))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        if "maximum nesting depth" in reason:  # a limit of libyaml's own, met before ours where it reads ahead
            raise DocumentError(file, mark.line + 1 if mark else 1, "", f"nested deeper than {MAX_DEPTH}") from None
        raise DocumentError(file, mark.line + 1 if mark else 1, "", f"not YAML: {reason}") from None
    except yaml.YAMLError as error:
        raise DocumentError(file, 1, "", f"not YAML: {' '.join(str(error).split())}") from None
    finally:
        parser.dispose()


def _decoded(text: str | bytes, file: str) -> str:
    if len(text) > MAX_BYTES:
        raise DocumentError(file, 1, "", f"larger than {MAX_BYTES} bytes")
    try:
        data = text.encode() if isinstance(text, str) else text
        decoded = data.decode()
    except UnicodeError as error:
        before = text[: error.start] if isinstance(error, UnicodeEncodeError | UnicodeDecodeError) else text
        line = before.count("\n" if isinstance(before, str) else b"\n") + 1  # type: ignore[arg-type]
        raise DocumentError(file, line, "", "not UTF-8") from None
    if len(data) > MAX_BYTES:
        raise DocumentError(file, 1, "", f"larger than {MAX_BYTES} bytes")
    decoded = decoded.removeprefix("\ufeff")
    for number, line_text in enumerate(decoded.split("\n"), 1):
        if bad := yaml.reader.Reader.NON_PRINTABLE.search(line_text):
            raise DocumentError(file, number, "", f"the character U+{ord(bad[0]):04X} may not stand in YAML")
    return decoded


def _documents(builder: _Builder, file: str) -> Iterator[Document]:
    while (root := builder.document()) is not None:
        positions: dict[Path, tuple[int, int]] = {(): (root.line, root.column)}
        written: dict[Path, str] = {}
        data = _plain(root, (), positions, written)
        if data is not None:
            yield Document(file, data, positions, written)


def _plain(node: _Node, path: Path, positions: dict[Path, tuple[int, int]], written: dict[Path, str]) -> Any:
    if node.written is not None:
        written[path] = node.written
    for key, (line, column, _) in node.children.items():
        positions[(*path, key)] = (line, column)
    if node.kind is dict:
        return {key: _plain(child, (*path, key), positions, written) for key, (_, _, child) in node.children.items()}
    if node.kind is list:
        return [_plain(child, (*path, key), positions, written) for key, (_, _, child) in node.children.items()]
    return node.value


class _Builder:
    """Builds nodes from the parser's events, one look at each limit before anything is kept."""

    def __init__(self, parser: Any, file: str) -> None:
        self._parser = parser
        self._file = file
        self._anchors: dict[str, _Node] = {}
        self._nodes = 0
        self._aliases = 0

    def document(self) -> _Node | None:
        """The root of the next document; None at the end of the stream."""
        event = self._parser.get_event()
        while not isinstance(event, yaml.DocumentStartEvent):
            if isinstance(event, yaml.StreamEndEvent):
                return None
            event = self._parser.get_event()
        self._anchors = {}
        return self._node(self._parser.get_event(), 1)

    def _refuse(self, event: Any, reason: str) -> DocumentError:
        return DocumentError(self._file, event.start_mark.line + 1, "", reason)

    def _count(self, event: Any, size: int, depth: int) -> None:
        self._nodes += size
        if depth > MAX_DEPTH:
            raise self._refuse(event, f"nested deeper than {MAX_DEPTH}")
        if self._nodes > MAX_NODES:
            raise self._refuse(event, f"more than {MAX_NODES} values")

    def _node(self, event: Any, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event, depth)
        self._count(event, 1, depth)
        node = _Node(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, node)
        else:
            if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
                raise self._refuse(event, f"the tag {event.tag!r} is not read")
            (self._mapping if isinstance(event, yaml.MappingStartEvent) else self._sequence)(node, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _aliased(self, event: Any, depth: int) -> _Node:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise self._refuse(event, f"more than {MAX_ALIASES} aliases")
        node = self._anchors.get(event.anchor)
        if node is None:
            raise self._refuse(event, f"the alias *{event.anchor} has no anchor before it")
        self._count(event, node.size, depth + node.height - 1)
        return node

    def _keep(self, parent: _Node, key: str | int, event: Any, child: _Node) -> None:
        parent.children[key] = (event.start_mark.line + 1, event.start_mark.column + 1, child)
        parent.size += child.size
        parent.height = max(parent.height, child.height + 1)

    def _sequence(self, node: _Node, depth: int) -> None:
        node.kind = list
        while not isinstance(event := self._parser.get_event(), yaml.SequenceEndEvent):
            self._keep(node, len(node.children), event, self._node(event, depth + 1))

    def _mapping(self, node: _Node, depth: int) -> None:
        node.kind = dict
        while not isinstance(event := self._parser.get_event(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._refuse(event, "a key that is not plain text")
            key = str(event.value)
            if key == "<<" and event.implicit[0]:
                raise self._refuse(event, "merge keys (<<) are not read")
            if key in node.children:
                raise self._refuse(event, f"duplicate key {key!r}, first in line {node.children[key][0]}")
            self._keep(node, key, event, self._node(self._parser.get_event(), depth + 1))

    def _scalar(self, event: Any, node: _Node) -> None:
        text: str = event.value
        node.value = text
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise self._refuse(event, f"the tag {event.tag!r} is not read")
        if event.tag is not None or not event.implicit[0]:
            return
        if text in _CONSTANTS:
            node.value = _CONSTANTS[text]
        elif _INTEGER.fullmatch(text):
            if len(text) > 40:
                raise self._refuse(event, "an integer of more than 40 digits")
            node.value = int(text)
        elif _DECIMAL.fullmatch(text):
            node.value = float(text)
            if not isfinite(node.value):
                raise self._refuse(event, f"{text[:40]!r} is too large a number")
        elif _NOT_FINITE.fullmatch(text):
            raise self._refuse(event, f"{text!r} is not a finite number")
        else:
            return
        node.written = text
