"""`spbroker restore`: put a backup in the place of a node's database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault, WrongInput
from broker.cli.output import say


def command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The node's directory.")],
    backup: Annotated[Path, typer.Argument(metavar="FILE", help="What `spbroker backup` made.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is written to the audit trail.")],
) -> None:
    """Put a backup in the place of the database of the node in DIR, which must not run.

    The database that was there stays beside it, under another name. The node then begins read-only: what is live stays live,
    nothing is retried, ended or ordered. Serve it, look at what suppliers and domains have otherwise (spbroker inventory),
    and let it go on (spbroker accept).
    """
    import getpass
    import uuid

    from broker.cli.node_store import store_of
    from broker.storage.backup import restore
    from broker.storage.errors import StoreError
    from service_model.clock import SystemClock

    if not reason.strip():
        raise WrongInput("--reason: say why: it is written to the audit trail")
    store, actor = store_of(directory), f"os:{getpass.getuser()}"[:63]
    try:
        aside = restore(
            store, backup, at=SystemClock().now(), epoch=uuid.uuid4(), actor=actor, reason=reason.strip()[:1000]
        )
    except StoreError as error:
        raise Fault(Exit.ENVIRONMENT_MISSING, str(error)) from None
    say(f"{store}: restored from {backup}" + (f"; what was there is {aside}" if aside else ""))
    say(f"  it changes nothing until it is accepted: spbroker serve {directory}, spbroker inventory, spbroker accept")
