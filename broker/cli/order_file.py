"""The file that an order is in: read whole within its limit, or refused with file, line and field.

A field that the provider calls wrong is led back to the line that it was written in, where the file is our own form.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from broker.cli.capability import current_note
from broker.cli.connection import Connection
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault, WrongFile
from capability_registry.note import CapabilityNote
from service_model.sonata_form import DescriptorKind, kind_of
from service_model.spec import FunctionType, ServiceSpec
from service_model.spec_yaml import load_order
from service_model.yaml_lines import MAX_BYTES, DocumentError, DocumentRefused, load_document

_STEP = re.compile(r'\[(\d+)\]|\["([^"]*)"\]|([^.\[\]]+)')


def read_order(
    connection: Connection,
    file: Path,
    from_sap: str | None = None,
    to_sap: str | None = None,
    attach: Mapping[str, str] | None = None,
    unsold: Collection[FunctionType] = (),
) -> ServiceSpec:
    """What `file` orders: our own form, or a SONATA NSD over the functions that the provider sells.

    The SAPs are for an NSD: of the first path's two ends, and by connection point. A function type that is not announced
    now may still be the provider's: only those it calls `unsold` are wrong. Raises WrongFile with everything that is wrong,
    one line each.
    """
    text = read_text(file)
    spec = _loaded(text, file, None, attach or {}, from_sap, to_sap)
    if not _is_descriptor(text, file):
        return spec
    asked = {f.type: None for f in spec.functions if f.type not in unsold}
    catalogue = {**asked, **_catalogue(current_note(connection))}
    return _loaded(text, file, catalogue, attach or {}, from_sap, to_sap)


def read_unjudged(file: Path, from_sap: str | None, to_sap: str | None, attach: Mapping[str, str]) -> ServiceSpec:
    """What `file` orders, whatever is sold: whoever gets it judges its functions. Raises WrongFile."""
    return _loaded(read_text(file), file, None, attach, from_sap, to_sap)


def read_spec(file: Path) -> ServiceSpec:
    """A spec of our own form, without a provider. Raises WrongFile."""
    return _loaded(read_text(file), file, None, {}, None, None)


def read_text(file: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of the file. Raises WrongFile where it cannot be read or is larger than `limit`."""
    try:
        size = file.stat().st_size
        if size > limit:
            raise WrongFile(f"{file}: has {size} bytes, at most {limit} are accepted; nothing was sent")
        return file.read_bytes()
    except OSError as error:
        raise WrongFile(f"{file}: {error.strerror or error}") from None


def with_lines(fault: Fault, file: Path) -> Fault:
    """The same fault, its fields of the spec led back to the lines of our own form."""
    text = read_text(file)
    if fault.exit_code is not Exit.WRONG_INPUT or _is_descriptor(text, file):
        return fault
    document, found, led_back = load_document(text, str(file)), [], False
    for line in fault.details or (fault.message,):
        field, _, reason = line.partition(": ")
        if field.startswith("spec."):
            steps = tuple(int(i) if i else key or name for i, key, name in _STEP.findall(field.removeprefix("spec.")))
            line, led_back = str(document.error(steps, reason)), True
        found.append(line)
    return WrongFile(*found) if led_back else fault


def _is_descriptor(text: bytes, file: Path) -> bool:
    """Whether it is not our own form, so that function types and SAPs come from beside it."""
    try:
        return kind_of(load_document(text, str(file)).data) is not DescriptorKind.SPEC
    except DocumentError as error:
        raise WrongFile(str(error)) from None


def _loaded(
    text: bytes,
    file: Path,
    catalogue: Mapping[FunctionType, Collection[str] | None] | None,
    attach: Mapping[str, str],
    from_sap: str | None,
    to_sap: str | None,
) -> ServiceSpec:
    try:
        return load_order(text, str(file), catalogue=catalogue, attach=attach, from_sap=from_sap, to_sap=to_sap)
    except DocumentRefused as refused:
        # The option that attaches an end has another name here.
        raise WrongFile(*(str(error).replace("--attach", "--sap") for error in refused.errors)) from None


def _catalogue(note: CapabilityNote) -> dict[FunctionType, frozenset[str]]:
    """Function type → names of its ports, as far as any place offers it."""
    ports: dict[FunctionType, frozenset[str]] = {}
    for offer in note.functions:
        ports[offer.type] = ports.get(offer.type, frozenset()) | {port.name for port in offer.ports}
    return ports
