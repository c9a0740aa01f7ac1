"""Port identifiers: what a provider and its customer call one port of a service, and nobody else.

Rules kept here
- An identifier is logical, `sp/service/link/cp`: who was asked, under which ref, which link, which connection point. No id of an
  infrastructure is in it, so it stays when the port is built anew, and says nothing of where.
- Each level has its own: who asks is told of the one it asked, under its own ref, in its own words.
- What a name may have and a part may not stands in percent-encoding (RFC 3986, 2.1): equal identifiers have one text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

_PLAIN = re.compile(r"[A-Za-z0-9_.~:-]+")
"""What stands as it is: unreserved characters, and the colon of a function's port."""


class PortIdError(ValueError):
    """A text that is no port identifier; the message names the culprit."""


@dataclass(frozen=True, slots=True, order=True)
class PortId:
    sp: str
    service: str
    link: str
    cp: str

    def __post_init__(self) -> None:
        if not all((self.sp, self.service, self.link, self.cp)):
            raise PortIdError(f"{self} has an empty part: a port identifier is sp/service/link/cp")

    @classmethod
    def parse(cls, text: str) -> PortId:
        """Raises PortIdError."""
        parts = text.split("/")
        if len(parts) != 4:
            raise PortIdError(f"{text!r} is no port identifier like sp/service/link/cp")
        return cls(*map(unquote, parts))

    def __str__(self) -> str:
        parts = (self.sp, self.service, self.link, self.cp)
        return "/".join([part if _PLAIN.fullmatch(part) else quote(part, safe=":") for part in parts])
