"""What every command that reads an order's file takes: the file, and where the ends of an NSD are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.faults import WrongInput

OrderFile = Annotated[Path, typer.Option("-f", "--file", metavar="FILE", help="A spec, or a SONATA NSD.")]
FromSap = Annotated[str | None, typer.Option("--from", metavar="SAP", help="NSD: where its first path begins.")]
ToSap = Annotated[str | None, typer.Option("--to", metavar="SAP", help="NSD: where its first path ends.")]
Saps = Annotated[
    list[str] | None, typer.Option("--sap", metavar="CP=SAP", help="NSD: attach a connection point; repeatable.")
]


def attachments(saps: list[str] | None) -> dict[str, str]:
    """Connection point → SAP. Raises WrongInput."""
    pairs = [item.partition("=") for item in saps or ()]
    for point, sign, sap in pairs:
        if not point or not sap:
            raise WrongInput(f"--sap {point + sign + sap!r}: give CONNECTION-POINT=SAP")
    return {point: sap for point, _, sap in pairs}


def words(file: Path, from_sap: str | None, to_sap: str | None, saps: list[str] | None) -> list[str]:
    """The same options, as they are written on a command line."""
    out = ["-f", str(file)]
    for option, value in (("--from", from_sap), ("--to", to_sap), *(("--sap", sap) for sap in saps or ())):
        out += [option, value] if value else []
    return out
