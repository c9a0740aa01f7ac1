"""`spbroker export`: what is administered, as documents that can be applied again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from broker.cli.connection import connected
from broker.cli.faults import WrongFile
from broker.cli.output import print_json, say
from broker.cli.session_choice import As, AsJson
from broker.settings.folder import write_folder
from lower_sp_clients.wire import decode_struct
from spbroker.v1 import admin_service_pb2 as pb


def command(
    folder: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write a folder instead of to stdout.")
    ] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only this kind; repeatable.")
    ] = None,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Write what is administered as documents. Password hashes are left out. Needs the role operator."""
    with connected(as_) as connection:
        answer = connection.administer("Export", pb.ExportRequest(kinds=kinds or []))
    documents = tuple(decode_struct(document, f"documents[{i}]") for i, document in enumerate(answer.documents))
    if folder is not None:
        try:
            write_folder(folder, documents)
        except OSError as error:
            raise WrongFile(f"{folder}: {error.strerror or error}") from None
        say(f"{len(documents)} documents written to {folder}")
    elif as_json:
        print_json({"documents": documents})
    else:
        ordered = [{"kind": d["kind"], "name": d["name"], **d} for d in documents]
        print(yaml.safe_dump_all(ordered, sort_keys=False, allow_unicode=True, width=120), end="")
