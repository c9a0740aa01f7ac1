"""The sizes that a function is offered in: what each takes of a host, runs as, forwards and costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from service_model.money import FREE, Price
from service_model.words import BitsPerSecond, Name, Word


class Runtime(Word):
    UNSPECIFIED = "RUNTIME_UNSPECIFIED"
    PROCESS = "RUNTIME_PROCESS"
    CONTAINER = "RUNTIME_CONTAINER"
    VM = "RUNTIME_VM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    name: Name
    units: Annotated[int, Field(ge=0, le=100_000)] = 1
    runtime: Runtime = Runtime.PROCESS
    price: Price = FREE
    max_bandwidth_bps: BitsPerSecond = 0
    """0: as much as the links carry."""
