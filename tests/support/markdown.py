"""The pages of the documentation as what tests need of them: fenced blocks by their markers, links, headings.

Markers are HTML comments, so a reader does not see them
- `<!-- run: NAME -->` before a fenced block: it is run by a test; blocks of one name follow each other.
- `<!-- shown: NAME -->` before a fenced block: output that a test compares with what was really printed.
- `<!-- document: NAME -->` before a fenced block: an administered document that a test reads.
- `<!-- generated: NAME -->` … `<!-- end -->`: text that `tests.support.generated_docs` writes from the code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_MARKED = re.compile(r"^<!-- (run|shown|document): ([\w-]+) -->\n```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"^<!-- generated: ([\w-]+) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block behind a marker; `what` is run, shown or document."""

    what: str
    name: str
    language: str
    text: str


def pages() -> tuple[Path, ...]:
    """Every page of the documentation."""
    return (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))


def blocks(page: Path, what: str, name: str = "") -> tuple[Block, ...]:
    """The marked blocks of a page, in order; `name` empty: of every name."""
    found = (Block(*match.groups()) for match in _MARKED.finditer(page.read_text()))
    return tuple(block for block in found if block.what == what and name in ("", block.name))


def generated(page: Path) -> dict[str, str]:
    """What stands between each pair of markers of generated text."""
    return {match[1]: match[2] for match in _GENERATED.finditer(page.read_text())}


def with_generated(text: str, parts: dict[str, str]) -> str:
    """The page's text with its generated parts made anew."""

    def made(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n{parts[match[1]]}<!-- end -->"

    return _GENERATED.sub(made, text)


def links(page: Path) -> tuple[str, ...]:
    """The targets of the links outside fenced blocks."""
    return tuple(_LINK.findall(_FENCED.sub("", page.read_text())))


def anchors(page: Path) -> frozenset[str]:
    """The fragments that lead to the page's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text()))
    return frozenset(re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings)
