"""The JSON Schema of the administered documents, for editors. What `apply` checks is more than it can say.

`python -m broker.settings.schema` prints what `config/schema/administered.schema.json` holds.
"""

from __future__ import annotations

import json
from typing import Any

from broker.settings.administered import DOCUMENT
from broker.settings.folder import ANCHOR_FILE, CA_FILE


def schema() -> dict[str, Any]:
    """Draft 2020-12. An anchor may be given in place, or as `{file: anchor.json}`; so may an authority."""
    body = DOCUMENT.json_schema(mode="validation")
    for definition in body["$defs"].values():
        properties = definition.get("properties", {})
        if "kind" in properties:
            definition["required"] = ["kind", *definition.get("required", [])]
        if "anchor" in properties:
            given = properties["anchor"]
            choices = given.pop("anyOf", None) or [{"$ref": given.pop("$ref")}]
            properties["anchor"] = {**given, "anyOf": [*choices, ANCHOR_FILE]}
        if "kind" in properties and "ca" in properties:
            given = properties["ca"]
            properties["ca"] = {**given, "anyOf": [*given.pop("anyOf"), CA_FILE]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "spbroker administered document",
        **body,
    }


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
