"""A ServiceSpec as people write it: YAML, first key `spec: spbroker/v1`, then the fields of ServiceSpec by name.

Rules kept here
- Unknown fields are errors. Everything wrong is told at once, each with file, line and field.
- What is loaded has passed `check`: a spec that is wrong in itself goes no further.
- What is dumped is short: enum values as `LAN`, label sets as `100-199,300`, fields left at their defaults omitted.
  Loading it gives an equal spec.
- An order may be this form or a SONATA NSD; `load_order` tells them apart by their fields, not by the file's name.

`python -m service_model.spec_yaml --schema` prints the JSON Schema that `config/schema/` holds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import yaml
from pydantic import ValidationError

from address_planner.labels import LabelSet
from service_model.check import check
from service_model.sonata import import_nsd
from service_model.sonata_form import DescriptorKind, ImportRefused, kind_of
from service_model.spec import SPEC, FunctionType, ServiceSpec
from service_model.words import Word
from service_model.yaml_faults import document_errors
from service_model.yaml_lines import Document, DocumentError, DocumentRefused, load_document

FORM = "spbroker/v1"


def load_spec(text: str | bytes, file: str) -> ServiceSpec:
    """The spec in `text`. Raises DocumentRefused with everything that is wrong."""
    return _spec(_loaded(text, file))


def load_order(
    text: str | bytes,
    file: str,
    *,
    catalogue: Mapping[FunctionType, Collection[str]] | None = None,
    attach: Mapping[str, str] | None = None,
    from_sap: str | None = None,
    to_sap: str | None = None,
) -> ServiceSpec:
    """The spec in `text`, which may be our own form or a SONATA NSD (the arguments are those of `import_nsd`).

    Our own form names its SAPs, so SAPs given beside it are refused. Raises DocumentRefused.
    """
    document = _loaded(text, file)
    if kind_of(document.data) is not DescriptorKind.SPEC:
        return import_nsd(text, file, catalogue=catalogue, attach=attach, from_sap=from_sap, to_sap=to_sap)
    if attach or from_sap or to_sap:
        reason = "a spec names the SAPs of its ends itself; --from, --to and --attach are for SONATA descriptors"
        raise DocumentRefused((document.error(("ends",), reason),))
    return _spec(document)


def _loaded(text: str | bytes, file: str) -> Document:
    try:
        return load_document(text, file)
    except DocumentError as error:
        raise ImportRefused((error,)) from None


def _spec(document: Document) -> ServiceSpec:
    data = document.data
    if not isinstance(data, dict) or next(iter(data), None) != "spec":
        raise DocumentRefused((document.error((), f"the first key is 'spec: {FORM}'"),))
    if data["spec"] != FORM:
        raise DocumentRefused((document.error(("spec",), f"{data['spec']!r} is not a form known here: {FORM}"),))
    try:
        spec = SPEC.validate_python({key: value for key, value in data.items() if key != "spec"})
    except ValidationError as error:
        raise DocumentRefused(document_errors(error, document)) from None
    if problems := check(spec):
        raise DocumentRefused(tuple(document.error(problem.field, problem.reason) for problem in problems))
    return spec


class _Dumper(yaml.SafeDumper):
    """Without anchors: a value that stands twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Text; the Unicode line breaks stand escaped in double quotes, since a plain scalar would fold them."""
        style = '"' if any(c in data for c in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def dump_spec(spec: ServiceSpec) -> str:
    """`spec` as YAML, in the order of its fields."""
    data = {"spec": FORM, **_written(spec)}
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def _written(value: Any) -> Any:
    """`value` as plain data in the form that people write."""
    if isinstance(value, Word):
        return value.short
    if isinstance(value, FunctionType | LabelSet | Decimal | IPv4Address | IPv4Network | IPv6Address | IPv6Network):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if is_dataclass(value):
        named = ((f.name, getattr(value, f.name), _default(f)) for f in fields(value))
        return {name: _written(part) for name, part, default in named if part != default}
    if isinstance(value, Mapping):
        return {key: _written(part) for key, part in value.items()}
    return [_written(part) for part in value] if isinstance(value, list | tuple) else value


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of our own form, for editors; `load_spec` checks more than it can say."""
    body = SPEC.json_schema(mode="validation")
    body["properties"] = {"spec": {"const": FORM, "description": "First key of every spec."}, **body["properties"]}
    body["required"] = ["spec", *body["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "spbroker service spec",
        **{key: value for key, value in body.items() if key != "title"},
    }


if __name__ == "__main__":
    if sys.argv[1:] != ["--schema"]:
        raise SystemExit("usage: python -m service_model.spec_yaml --schema")
    print(json.dumps(schema(), indent=2))
