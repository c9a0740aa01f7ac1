"""The file that an order is in: read whole within its limit, or refused with file, line and field.

A field that the provider calls wrong is led back to the line that it was written in, where the file is our own form.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault, WrongFile
from capability_registry.note import CapabilityNote
from service_model.sonata_form import DescriptorKind, kind_of
from service_model.spec import FunctionType, ServiceSpec
from service_model.spec_yaml import load_order
from service_model.yaml_lines import MAX_BYTES, DocumentError, DocumentRefused, load_document

_STEP = re.compile(r'\[(\d+)\]|\["([^"]*)"\]|([^.\[\]]+)')


def read_text(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of the file. Raises WrongFile where it cannot be read or is larger than `limit`."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise WrongFile(f"{path}: has {size} bytes, at most {limit} are accepted; nothing was sent")
        return path.read_bytes()
    except OSError as error:
        raise WrongFile(f"{path}: {error.strerror or error}") from None


def is_descriptor(text: bytes, path: Path) -> bool:
    """Whether it is not our own form, so that function types and SAPs come from beside it."""
    try:
        return kind_of(load_document(text, str(path)).data) is not DescriptorKind.SPEC
    except DocumentError as error:
        raise WrongFile(str(error)) from None


def load(
    text: bytes,
    path: Path,
    catalogue: Mapping[FunctionType, Collection[str]] | None,
    attach: Mapping[str, str],
    from_sap: str | None,
    to_sap: str | None,
) -> ServiceSpec:
    """Raises WrongFile with everything that is wrong, one line each."""
    try:
        return load_order(text, str(path), catalogue=catalogue, attach=attach, from_sap=from_sap, to_sap=to_sap)
    except DocumentRefused as refused:
        raise WrongFile(*(_in_our_words(error) for error in refused.errors)) from None


def _in_our_words(error: DocumentError) -> str:
    """The option that attaches an end has another name here."""
    return str(error).replace("--attach", "--sap")


def catalogue_of(note: CapabilityNote) -> dict[FunctionType, frozenset[str]]:
    """Function type → names of its ports, as far as any place offers it."""
    ports: dict[FunctionType, frozenset[str]] = {}
    for offer in note.functions:
        ports[offer.type] = ports.get(offer.type, frozenset()) | {port.name for port in offer.ports}
    return ports


def with_lines(fault: Fault, text: bytes, path: Path) -> Fault:
    """The same fault, its fields of the spec led back to the lines of our own form."""
    lines = fault.details or (fault.message,)
    if fault.exit_code is not Exit.WRONG_INPUT or is_descriptor(text, path):
        return fault
    document = load_document(text, str(path))
    found = []
    for line in lines:
        field, _, reason = line.partition(": ")
        if not field.startswith("spec."):
            found.append(line)
            continue
        steps = tuple(int(i) if i else key or name for i, key, name in _STEP.findall(field.removeprefix("spec.")))
        found.append(str(document.error(steps, reason)))
    return WrongFile(*found)
