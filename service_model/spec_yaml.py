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
from typing import Any

from pydantic import ValidationError

from service_model.check import check
from service_model.sonata import import_nsd
from service_model.sonata_form import DescriptorKind, ImportRefused, kind_of
from service_model.spec import SPEC, FunctionType, ServiceSpec
from service_model.yaml_faults import document_errors
from service_model.yaml_lines import Document, DocumentError, DocumentRefused, load_document
from service_model.yaml_written import written, yaml_text

FORM = "spbroker/v1"


def load_spec(text: str | bytes, file: str) -> ServiceSpec:
    """The spec in `text`. Raises DocumentRefused with everything that is wrong."""
    return _spec(_loaded(text, file))


def load_order(
    text: str | bytes,
    file: str,
    *,
    catalogue: Mapping[FunctionType, Collection[str] | None] | None = None,
    attach: Mapping[str, str] | None = None,
    from_sap: str | None = None,
    to_sap: str | None = None,
) -> ServiceSpec:
    """The spec in `text`, which may be our own form or a SONATA NSD (the arguments are those of `import_nsd`).

    Our own form names its SAPs, so SAPs given beside it are refused. Raises DocumentRefused.
    """
    document = _loaded(text, file)
    kind = kind_of(document.data)
    if kind is DescriptorKind.UNKNOWN:
        reason = f"neither a spec, whose first key is 'spec: {FORM}', nor a SONATA network service descriptor (NSD)"
        raise DocumentRefused((document.error((), reason),))
    if kind is not DescriptorKind.SPEC:
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


def dump_spec(spec: ServiceSpec) -> str:
    """`spec` as YAML, in the order of its fields."""
    return yaml_text({"spec": FORM, **written(spec)})


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
