"""Folders of documents, to and from the running node: the only module of the command line that knows how they are kept."""

from __future__ import annotations

from pathlib import Path

from broker.accounts.admin_port import Applied
from broker.cli.connection import Connection
from broker.cli.faults import WrongFile
from broker.northbound.admin_servicer import APPLIED
from broker.settings.folder import read_folder
from lower_sp_clients.wire import WireError, encode_struct
from service_model.yaml_lines import DocumentRefused
from spbroker.v1 import admin_service_pb2 as pb


def apply(connection: Connection, path: Path, *, dry_run: bool, prune: bool, reason: str) -> Applied:
    """What changed or would change. Raises WrongFile, with file and line, where a document has a problem."""
    try:
        folder = read_folder(path)
    except DocumentRefused as refused:
        raise WrongFile(*map(str, refused.errors)) from None
    except OSError as error:
        raise WrongFile(f"{path}: {error.strerror or error}") from None
    request = pb.ApplyRequest(dry_run=dry_run, prune=prune, reason=reason)
    try:
        request.documents.extend(encode_struct(d, f"documents[{i}]") for i, d in enumerate(folder.documents))
    except WireError as error:
        raise WrongFile(str(error)) from None
    applied = APPLIED.decode(connection.administer("Apply", request))
    if lines := tuple(folder.located(c.kind, c.name, problem) for c in applied.changes for problem in c.problems):
        raise WrongFile(*lines, hint="nothing was applied")
    return applied
