"""Text of others, made safe for a terminal: control characters would move its cursor or recolour what is not theirs."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """`text` with a replacement character for each control but the line break, and for marks of writing direction."""
    return _CONTROL.sub("\ufffd", text)
