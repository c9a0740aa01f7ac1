"""Which packets take a path, where paths that part and meet again lead from the same end to the same end.

Rules kept here
- A flow is named by its protocol and, for TCP and UDP, the port at the path's *last* end: a request has it as destination
  port and the reply as source port, so both take the same path.
- A port is more particular than its protocol alone. A path without flows takes what no other names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from service_model.words import Word

_STRICT = ConfigDict(extra="forbid")
PATHS = "paths"
"""The feature of a supplier that delivers several paths in one spec, flows, and a bound of delay for a single path."""


class FlowProtocol(Word):
    UNSPECIFIED = "FLOW_PROTOCOL_UNSPECIFIED"
    ICMP = "FLOW_PROTOCOL_ICMP"
    """Of either family of addresses."""
    TCP = "FLOW_PROTOCOL_TCP"
    UDP = "FLOW_PROTOCOL_UDP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """`port` None: any."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    protocol: FlowProtocol
    port: Annotated[int, Field(ge=1, le=65535)] | None = None

    def __str__(self) -> str:
        return self.protocol.short if self.port is None else f"{self.protocol.short} {self.port}"
