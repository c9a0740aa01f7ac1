"""The form of SONATA descriptors: which kind a document is, which fields it may have, how they are read.

Rules kept here
- A field is read, or known and informational (`IGNORED`: who wrote it, hints for another orchestrator), or refused. One
  that asks for something that would not be delivered (`NOT_DONE`) is refused with that reason; an unknown one too.
- A newer kind of descriptor (ETSI SOL006, SOL001/TOSCA) is named and refused, not half read.
- Text is what is written: an unquoted version 1.10 stays `1.10`.

The fields are those of the SONATA NSD and VNFD schemas, version 1 (github sonata-nfv/tng-schema), as public examples
use them; names of connection points may carry the prefix `ns:` or `vnf:`, which says only whose they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from service_model.yaml_lines import Document, DocumentError, DocumentRefused, Path, load_document


class ImportRefused(DocumentRefused):
    """A descriptor that was not imported, with everything that is wrong in it."""


class DescriptorKind(Enum):
    NSD = "a SONATA network service descriptor (NSD)"
    VNFD = "a SONATA function descriptor (VNFD)"
    SOL006 = "an ETSI SOL006 descriptor"
    TOSCA = "an ETSI SOL001 (TOSCA) descriptor"
    SPEC = "a spbroker spec"
    UNKNOWN = "no descriptor of a kind known here"


_SOL006 = ("nsd", "vnfd", "nsd-catalog", "vnfd-catalog", "nst", "etsi-nfv-descriptors", "etsi-nfv-nsd", "etsi-nfv-vnfd")
_NSD_FIELDS = {"network_functions", "network_services", "forwarding_graphs"}
_VNFD_FIELDS = {"virtual_deployment_units", "cloudnative_deployment_units", "physical_deployment_units"}

IGNORED = (
    "$schema descriptor_schema descriptor_flavor author description created_at updated_at "
    "monitoring_parameters monitoring_rules lifecycle_events vnf_dependency vnf_depedency services_dependency"
)
"""Top-level fields that change nothing in what is delivered: all functions start together and stop together."""

NOT_DONE = {
    "network_services": "services made of services are not read; list their functions",
    "auto_scale_policy": "scaling rules are not carried out",
    "soft_constraints": "soft constraints are not carried out; give places in a spec",
    "qos": "QoS of a link is not read from a descriptor; order bandwidth and delay",
    "qos_requirements": "QoS of a link is not read from a descriptor; order bandwidth and delay",
    "constituent_services": "services made of services are not read",
}


def kind_of(data: Any) -> DescriptorKind:
    """What kind of descriptor `data` is, by the fields that only that kind has."""
    if not isinstance(data, Mapping):
        return DescriptorKind.UNKNOWN
    if next(iter(data), None) == "spec":
        return DescriptorKind.SPEC
    if "tosca_definitions_version" in data:
        return DescriptorKind.TOSCA
    if any(key.split(":")[0] in _SOL006 for key in data):
        return DescriptorKind.SOL006
    version, type_ = str(data.get("descriptor_version")), str(data.get("descriptor_type"))
    if _VNFD_FIELDS & data.keys() or version.startswith("vnfd-schema") or type_ in ("function", "vnfd"):
        return DescriptorKind.VNFD
    if _NSD_FIELDS & data.keys() or version.startswith("nsd-schema") or type_ in ("service", "nsd"):
        return DescriptorKind.NSD
    return DescriptorKind.UNKNOWN


def load_descriptor(text: str | bytes, file: str, kind: DescriptorKind) -> Descriptor:
    """The document of `text` if it is of `kind`. Raises ImportRefused."""
    try:
        document = load_document(text, file)
    except DocumentError as error:
        raise ImportRefused((error,)) from None
    found = kind_of(document.data)
    if found is not kind:
        reason = f"this is {found.value}; only {kind.value} is read here"
        if found in (DescriptorKind.SOL006, DescriptorKind.TOSCA):
            reason = f"this is {found.value}; only SONATA descriptors (and spbroker specs) are read"
        raise ImportRefused((document.error(tuple(document.data)[:1] if found.name != "UNKNOWN" else (), reason),))
    return Descriptor(document)


def plain_id(name: str) -> str:
    """An id of a descriptor as a name of ours: without `ns:` or `vnf:`, other colons as dots."""
    return name.removeprefix("ns:").removeprefix("vnf:").replace(":", ".")


class Descriptor:
    """Reads a document's fields and collects what is wrong with them. `refuse` raises what was collected."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.root: Mapping[str, Any] = document.data
        self._errors: list[DocumentError] = []

    def fault(self, path: Path, reason: str) -> None:
        self._errors.append(self.document.error(path, reason))

    def faults(self, errors: tuple[DocumentError, ...]) -> None:
        self._errors.extend(errors)

    def refuse(self) -> None:
        """Raise ImportRefused if anything was found wrong so far."""
        if self._errors:
            raise ImportRefused(tuple(self._errors))

    def fields(self, path: Path, item: Mapping[str, Any], read: str, ignored: str = "") -> None:
        """Refuse each field of `item` that is neither in `read` nor in `ignored` (names with spaces between)."""
        names = {*read.split(), *ignored.split()}
        for key in item:
            if key in NOT_DONE:
                if item[key]:
                    self.fault((*path, key), NOT_DONE[key])
            elif key not in names:
                self.fault((*path, key), "unknown field")

    def text(self, path: Path, item: Mapping[str, Any], key: str, missing: str | None = None) -> str:
        """The text of a field, as written; `missing` stands in for an absent one, else it is required."""
        where = (*path, key)
        if key not in item:
            if missing is None:
                self.fault(where, "a required field is missing")
            return missing or ""
        return self.written(where, item[key])

    def written(self, path: Path, value: Any) -> str:
        if isinstance(value, bool | None) or not isinstance(value, str | int | float) or value == "":
            self.fault(path, "text belongs here")
            return ""
        return self.document.written.get(path, str(value))

    def items(self, path: Path, item: Mapping[str, Any], key: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """Each mapping in the list `item[key]`, with its path; nothing when the field is absent."""
        for where, entry in self.entries(path, item, key):
            if isinstance(entry, Mapping):
                yield where, entry
            else:
                self.fault(where, "a mapping of fields belongs here")

    def entries(self, path: Path, item: Mapping[str, Any], key: str) -> Iterator[tuple[Path, Any]]:
        entries = item.get(key)
        if isinstance(entries, list):
            yield from (((*path, key, i), entry) for i, entry in enumerate(entries))
        elif entries is not None:
            self.fault((*path, key), "a list belongs here")

    def texts(self, path: Path, item: Mapping[str, Any], key: str) -> list[tuple[Path, str]]:
        """Each text in the list `item[key]`, with its path."""
        return [(where, text) for where, entry in self.entries(path, item, key) if (text := self.written(where, entry))]
