"""Where the database of a node's directory is."""

from __future__ import annotations

import os
from pathlib import Path

from broker.cli.faults import WrongFile
from broker.settings.process import NODE_FILE, Database, load_process
from service_model.yaml_lines import DocumentRefused


def store_of(directory: Path) -> Path:
    """As `node.yml` and SPBROKER_STORE say. Raises WrongFile, also where it is no file."""
    try:
        store = load_process(directory / NODE_FILE, os.environ).store
    except DocumentRefused as refused:
        raise WrongFile(*map(str, refused.errors)) from None
    if isinstance(store, Database):
        raise WrongFile(f"{store}: is a database of PostgreSQL, which pg_dump and pg_restore copy; this is for SQLite")
    return store.absolute()
