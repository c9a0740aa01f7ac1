"""Where output goes: data to stdout, everything else to stderr; JSON as one document, or one per line in a stream."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console, RenderableType

PLAIN_WIDTH = 120
"""Columns where the output is no terminal and COLUMNS does not say."""


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal and console.width == 80:
        console = Console(stderr=stderr, highlight=False, soft_wrap=False, width=PLAIN_WIDTH)
    return console


def data() -> Console:
    """For what was asked for."""
    return _console(False)


def messages() -> Console:
    """For progress, hints and errors."""
    return _console(True)


def show(*parts: RenderableType) -> None:
    """Prints `parts` to stdout, with an empty line between them."""
    console = data()
    for i, part in enumerate(parts):
        if i:
            console.print()
        console.print(part)


def say(text: str) -> None:
    """One line to stderr, as it is."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Any, *, in_stream: bool = False) -> None:
    """One document to stdout: indented, or on one line of a stream."""
    text = json.dumps(document, ensure_ascii=False, indent=None if in_stream else 2)
    print(text, flush=True)
