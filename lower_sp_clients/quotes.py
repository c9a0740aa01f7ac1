"""The quotes that a supplier has given and stands by until they end: one ledger for every kind of supplier.

Rules kept here
- A quote is durable before it is given; after a restart it stands as before.
- It counts for the account that it was given to, for the same thing (`ServiceSpec.priced`), until it ends, as often as it
  is ordered by. Anything else is QUOTE_NOT_VALID, and the message says which; another's quote is one that there is not.
- What has ended is deleted by `tick`; nothing but the ledger refers to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from pydantic import TypeAdapter

from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode
from service_model.words import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingQuote:
    """What was promised to `account`: this price for what has this digest, until then."""

    id: str
    account: str = ""
    digest: str
    price: Price
    delay_us: int
    until: Instant
    path_delays_us: Mapping[str, int] = field(default_factory=dict)


STANDING: TypeAdapter[StandingQuote] = TypeAdapter(StandingQuote)
Q = TypeVar("Q", bound=StandingQuote)


class QuoteBook(Protocol[Q]):
    """Durable storage of one supplier's quotes."""

    async def load(self) -> Sequence[Q]: ...

    async def put(self, quote: Q) -> None:
        """Durable on return."""

    async def drop(self, ids: Sequence[str]) -> None: ...


class QuoteLedger(Generic[Q]):
    """`load` before use, `tick` now and then."""

    def __init__(self, book: QuoteBook[Q]) -> None:
        self._book = book
        self._quotes: dict[str, Q] = {}

    async def load(self) -> None:
        self._quotes = {quote.id: quote for quote in await self._book.load()}

    async def give(self, quote: Q) -> None:
        await self._book.put(quote)
        self._quotes[quote.id] = quote

    def standing(self, id: str, account: str, digest: str, now: datetime) -> Q | Reason:
        """The quote `id`, if it counts for this account and this thing now."""
        quote = self._quotes.get(id)
        if quote is None or quote.account != account:
            return _not_valid(f"there is no quote {id!r}; one that has expired is soon forgotten")
        if quote.until <= now:
            return _not_valid(f"quote {id!r} has expired")
        if quote.digest != digest:
            return _not_valid(f"quote {id!r} is for another service")
        return quote

    def count(self, account: str) -> int:
        return sum(1 for quote in self._quotes.values() if quote.account == account)

    async def tick(self, now: datetime) -> None:
        ended = [quote.id for quote in self._quotes.values() if quote.until <= now]
        if ended:
            await self._book.drop(ended)
            for id in ended:
                del self._quotes[id]


def _not_valid(message: str) -> Reason:
    return Reason(code=ReasonCode.QUOTE_NOT_VALID, message=message, subject="quote")
