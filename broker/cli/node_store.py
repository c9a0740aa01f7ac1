"""Where the database of a node's directory is."""

from __future__ import annotations

import os
from pathlib import Path

from broker.cli.faults import WrongFile
from broker.settings.process import NODE_FILE, load_process
from service_model.yaml_lines import DocumentRefused


def store_of(directory: Path) -> Path:
    """As `node.yml` and SPBROKER_STORE say. Raises WrongFile."""
    try:
        return load_process(directory / NODE_FILE, os.environ).store.absolute()
    except DocumentRefused as refused:
        raise WrongFile(*map(str, refused.errors)) from None
