"""`spbroker backup`: copy a node's database while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.output import say


def command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The node's directory.")],
    to: Annotated[Path, typer.Argument(metavar="FILE", help="The backup; a file that is there is not overwritten.")],
) -> None:
    """Copy the database of the node in DIR to FILE, while it runs or not, and check the copy.

    It is one committed state. FILE appears when it is whole, and is readable by its owner only: it holds secrets. Keys and
    settings are not in it; keep DIR/pki and DIR/node.yml too.
    """
    from broker.cli.node_store import store_of
    from broker.storage.backup import back_up
    from broker.storage.errors import StoreError

    try:
        made = back_up(store_of(directory), to)
    except StoreError as error:
        raise Fault(Exit.ENVIRONMENT_MISSING, str(error)) from None
    say(f"{made.path}: {made.size} bytes, {made.services} services, revision {made.revision}; checked")
