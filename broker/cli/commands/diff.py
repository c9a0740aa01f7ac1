"""`spbroker diff`: what apply would change."""

from __future__ import annotations

from broker.cli import documents
from broker.cli.commands.apply import Folder, Prune, print_applied
from broker.cli.connection import connected
from broker.cli.session_choice import As, AsJson


def command(folder: Folder, prune: Prune = False, as_json: AsJson = False, as_: As = None) -> None:
    """Say what `apply` of this folder would change, and change nothing. Needs the role operator."""
    with connected(as_) as connection:
        applied = documents.apply(connection, folder, dry_run=True, prune=prune, reason="")
    print_applied(applied, as_json)
