"""Pages of a list that is in order of creation and may change between two pages.

Rules kept here
- A token names the last item given, not a number of items: what is removed meanwhile shifts nothing.
- When that item itself is gone, the page goes on with what was created after it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import TypeVar

from broker.northbound.wrong_calls import PageTokenInvalid

DEFAULT_SIZE = 100
MAX_SIZE = 1000

T = TypeVar("T")
Key = tuple[datetime, str]
"""When an item was created, and what identifies it."""


async def page(items: AsyncIterator[T], key: Callable[[T], Key], token: str, size: int) -> tuple[list[T], str]:
    """The page behind `token` ("": the first), and the token of the next ("": there is none). Raises PageTokenInvalid."""
    size = min(size, MAX_SIZE) if size > 0 else DEFAULT_SIZE
    last = _read(token) if token else None
    found: list[T] = []
    seen = last is None
    later: list[T] = []  # created after the last item given, in case that this one never turns up
    async with aclosing(items) as source:  # type: ignore[type-var]
        async for item in source:
            if seen:
                found.append(item)
                if len(found) > size:
                    break
            elif last is not None and key(item)[1] == last[1]:
                seen = True
            elif last is not None and key(item)[0] > last[0] and len(later) <= size:
                later.append(item)
    found = found if seen else later
    return found[:size], _write(key(found[size - 1])) if len(found) > size else ""


def _write(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([key[0].isoformat(), key[1]]).encode()).decode()


def _read(token: str) -> Key:
    try:
        created, identity = json.loads(base64.urlsafe_b64decode(token))
        instant = datetime.fromisoformat(created)
    except (binascii.Error, ValueError, TypeError) as error:
        raise PageTokenInvalid from error
    if instant.tzinfo is None or not isinstance(identity, str):
        raise PageTokenInvalid
    return instant, identity
