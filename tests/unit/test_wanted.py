"""What counts against an agreement is counted as orders change, and is what looking through all of them would find."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from broker.orders.records import Order
from broker.orders.wanted import COUNTED, Wanted
from service_model.outcomes import ServiceState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def order(id: str, account: str, state: ServiceState) -> Order:
    return Order(id=id, account=account, ref=id, version=1, state=state, created=NOW, updated=NOW)


def test_whatever_orders_become_the_count_is_theirs() -> None:
    draw, wanted = random.Random(4), Wanted()
    owner = {f"o{n}": draw.choice(("ann", "ben", "cat")) for n in range(40)}
    for _ in range(2000):
        id = draw.choice(list(owner))
        if draw.random() < 0.1:
            wanted.lose(id)
        else:
            wanted[id] = order(id, owner[id], draw.choice(list(ServiceState)))
        account, besides = draw.choice(("ann", "ben", "cat", "dan")), draw.choice([*owner, None])
        found = [o for o in wanted.values() if o.account == account and o.state in COUNTED and o.id != besides]
        assert wanted.count(account, besides) == len(found)
