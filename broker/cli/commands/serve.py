"""`spbroker serve`: run a node."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault, WrongFile
from service_model.yaml_lines import DocumentRefused

STOPS = (signal.SIGTERM, signal.SIGINT)


def command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `spbroker init` made.")],
) -> None:
    """Run the node in DIR until SIGTERM or SIGINT; then give running calls a moment (drain_s) and stop. A second one ends it at
    once: what was answered is recorded.

    Settings come from DIR/node.yml and SPBROKER_* variables; all else is administered (spbroker apply).
    """
    from broker.bootstrap.serving import CannotServe, run

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            stopping.set()
            for number in STOPS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)  # the next one is the kernel's, whatever the loop is doing

        for number in STOPS:
            loop.add_signal_handler(number, stop)
        await run(directory, stopping)

    try:
        asyncio.run(main())
    except DocumentRefused as refused:
        raise WrongFile(*map(str, refused.errors)) from None
    except CannotServe as error:
        raise Fault(Exit.ENVIRONMENT_MISSING, str(error), hint=error.hint) from None
