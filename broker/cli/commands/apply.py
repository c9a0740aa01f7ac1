"""`spbroker apply`: make what is administered be as a folder of documents says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from broker.accounts.admin_port import Applied, ChangeAction
from broker.cli import documents
from broker.cli.connection import connected
from broker.cli.output import print_json, say, show
from broker.cli.rendering import changes_table
from broker.cli.session_choice import As, AsJson

Folder = Annotated[
    Path, typer.Option("-f", "--folder", metavar="DIR", help="A folder of YAML documents, or one file of them.")
]
Prune = Annotated[bool, typer.Option("--prune", help="Remove what no document names, of the kinds given.")]


def command(
    folder: Folder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    prune: Prune = False,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; for the audit trail.")] = "",
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Make what is administered be as the documents say, in one transaction or not at all. Needs the role operator."""
    with connected(as_) as connection:
        applied = documents.apply(connection, folder, dry_run=dry_run, prune=prune, reason=reason)
    print_applied(applied, as_json)


def print_applied(applied: Applied, as_json: bool) -> None:
    if as_json:
        print_json(TypeAdapter(Applied).dump_python(applied, mode="json"))
        return
    show(changes_table(applied))
    differs = any(change.action is not ChangeAction.UNCHANGED for change in applied.changes)
    if applied.applied:
        say("applied")
    elif differs:
        say("nothing was applied: this is what would change")
