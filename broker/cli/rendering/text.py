"""The text that renderables are made of: what it is given is shown, never obeyed."""

from __future__ import annotations

from typing import Any, Self

from rich import text

from broker.cli.harmless import harmless


class Text(text.Text):
    """rich's Text, without control characters and without markup."""

    def __init__(self, text: str = "", style: str = "", **more: Any) -> None:
        super().__init__(harmless(text), style, **more)

    def append(self, text: Any, style: Any = None) -> Self:
        super().append(harmless(text) if isinstance(text, str) else text, style)
        return self
