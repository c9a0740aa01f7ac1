"""Values of the model as people write them: plain data, and its YAML.

Rules kept here
- Short: enum values as `LAN`, label sets as `100-199,300`, fields left at their defaults omitted.
- What is written reads back as an equal value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import yaml

from address_planner.labels import LabelSet
from service_model.spec import FunctionType
from service_model.words import Word


class _Dumper(yaml.SafeDumper):
    """Without anchors: a value that stands twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Text; the Unicode line breaks stand escaped in double quotes, since a plain scalar would fold them."""
        style = '"' if any(c in data for c in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def yaml_text(data: Any) -> str:
    """Plain data as one YAML document, in the order that it is in."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def written(value: Any) -> Any:
    """`value` as plain data in the form that people write."""
    if isinstance(value, Word):
        return value.short
    if isinstance(value, FunctionType | LabelSet | Decimal | IPv4Address | IPv4Network | IPv6Address | IPv6Network):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if is_dataclass(value):
        named = ((f.name, getattr(value, f.name), _default(f)) for f in fields(value))
        return {name: written(part) for name, part, default in named if part != default}
    if isinstance(value, Mapping):
        return {key: written(part) for key, part in value.items()}
    return [written(part) for part in value] if isinstance(value, list | tuple) else value


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
