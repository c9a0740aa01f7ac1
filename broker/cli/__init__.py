"""The command line. `main` is what `spbroker` runs.

Rules kept here
- A command's module is imported when the command is called; `spbroker --help` imports nothing of the broker.
- Data goes to stdout, everything else to stderr. What ends a command is one `Fault`, with its exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command line and exits with its code (`exit_codes`)."""
    from broker.cli.loader import run

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
