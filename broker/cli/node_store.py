"""Where the database of a node's directory is."""

from __future__ import annotations

import os
from pathlib import Path

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault, WrongFile
from broker.settings.process import NODE_FILE, Database, load_process
from service_model.yaml_lines import DocumentRefused


def store_of(directory: Path) -> Path:
    """As `node.yml` and SPBROKER_STORE say. Raises WrongFile, and Fault where it is no file."""
    try:
        store = load_process(directory / NODE_FILE, os.environ).store
    except DocumentRefused as refused:
        raise WrongFile(*map(str, refused.errors)) from None
    if isinstance(store, Database):
        raise Fault(
            Exit.WRONG_INPUT,
            f"{store}: this is a database of PostgreSQL, and the command copies files of SQLite",
            hint="copy it with what the server has, as pg_dump and pg_restore",
        )
    return store.absolute()
