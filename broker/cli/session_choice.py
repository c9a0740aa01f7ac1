"""Under which stored login a command acts: `--as` behind the command, `--as` before it, SPBROKER_PROFILE, `default`."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Annotated

import typer

DEFAULT = "default"

_chosen: ContextVar[str] = ContextVar("_chosen", default="")

As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Act as this login (SPBROKER_PROFILE).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def choose(name: str | None) -> None:
    """Makes `name` the login that commands without an `--as` of their own act under."""
    _chosen.set(name or "")


def chosen(name: str | None) -> str:
    return name or _chosen.get() or os.environ.get("SPBROKER_PROFILE", "") or DEFAULT
