"""The identifiers of paths that a broker gives out: each is of one path of one service, at all of its suppliers.

Rules kept here
- As with blocks: taken at once, recorded by the caller in the transaction of the order, free again only when that is durable.
- Which one is by hash of service and path, so that it tells nobody how many there are; where it is taken, by hash again. So it
  need not rest: it is not soon chosen again, and means something only under a label, which rests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from hashlib import blake2b

from broker.orders.records import Order
from lower_sp_clients.vim.holds import Allocation, AllocationState
from service_model.outcomes import Reason, ReasonCode
from service_model.path_headers import ID_MAX

POOL = "~path-ids"
"""The pool under which they are recorded: no domain and no pool of prefixes can be called so."""
COUNT = (ID_MAX - 1) // 2
"""Even ones, from 2."""
_TRIES = 256


class PathIds:
    """`allocations`: those recorded under POOL."""

    def __init__(self, allocations: Iterable[Allocation] = (), count: int = COUNT) -> None:
        self._count = count
        self._taken: dict[int, Allocation] = {}
        self._owned: dict[str, set[int]] = {}
        self._store(allocations)

    def allocations(self) -> tuple[Allocation, ...]:
        return tuple(self._taken.values())

    @property
    def free(self) -> int:
        return self._count - len(self._taken)

    @property
    def size(self) -> int:
        return self._count

    def allocate(self, owner: str, paths: Sequence[str], known: Mapping[str, int]) -> Mapping[str, int] | Reason:
        """An identifier for each path of a service, those that are `known` as they are; or why there is none."""
        out = dict(known)
        for path in paths:
            if path in out:
                continue
            id = self._free_one(f"{owner}/{path}")
            if id is None:
                for fresh in out.keys() - known.keys():
                    self._drop(out[fresh])
                message = f"no identifier is left for path {path!r}"
                return Reason(code=ReasonCode.LABELS_EXHAUSTED, message=message, subject=path, retryable=True)
            self._put(Allocation(pool=POOL, value=str(id), owner=owner, state=AllocationState.HELD))
            out[path] = id
        return out

    def _free_one(self, key: str) -> int | None:
        for n in range(_TRIES):
            digest = blake2b(f"{key}/{n}".encode(), digest_size=8).digest()
            id = 2 * (1 + int.from_bytes(digest, "big") % self._count)
            if id not in self._taken:
                return id
        return next((id for id in range(2, 2 * self._count + 1, 2) if id not in self._taken), None)

    def changes(self, before: Order | None, order: Order) -> tuple[list[Allocation], list[Allocation]]:
        """What the change of the order changes of its identifiers, to be stored with it: (put, drop)."""
        wanted = order.all_path_ids()
        recorded = before.all_path_ids() if before is not None else frozenset[int]()
        state = AllocationState.LIVE if order.was_live else AllocationState.HELD
        put, drop = [], []
        for id in sorted(self._owned.get(order.id, ())):
            mine = self._taken[id]
            if id in wanted:
                if id not in recorded or mine.state is not state:
                    put.append(replace(mine, state=state))
            else:
                drop.append(mine)
        return put, drop

    def lost(self, owner: str, saved: Order | None) -> None:
        """The store refused: what is not recorded of this owner's is free."""
        recorded = saved.all_path_ids() if saved is not None else frozenset[int]()
        for id in self._owned.get(owner, set()) - recorded:
            self._drop(id)

    def has(self, owner: str, ids: Set[int]) -> bool:
        return ids <= self._owned.get(owner, set())

    def mirror(
        self, put: Iterable[Allocation], gone: Iterable[int], ours: Callable[[str], bool] = lambda owner: False
    ) -> None:
        """What others recorded: these are allocated, and these are not any more, but those of `ours`."""
        for id in gone:
            if (known := self._taken.get(id)) is not None and not ours(known.owner):
                self._drop(id)
        for allocation in put:
            if (known := self._taken.get(int(allocation.value))) is not None and known.owner != allocation.owner:
                self._drop(int(allocation.value))
            self._put(allocation)

    def stored(self, put: Iterable[Allocation], drop: Iterable[Allocation]) -> None:
        """These changes are durable: what is dropped is free from now on."""
        for allocation in drop:
            self._drop(int(allocation.value))
        self._store(put)

    def _store(self, allocations: Iterable[Allocation]) -> None:
        for allocation in allocations:
            self._put(allocation)

    def _put(self, allocation: Allocation) -> None:
        id = int(allocation.value)
        self._taken[id] = allocation
        self._owned.setdefault(allocation.owner, set()).add(id)

    def _drop(self, id: int) -> None:
        if (gone := self._taken.pop(id, None)) is not None:
            mine = self._owned[gone.owner]
            mine.discard(id)
            if not mine:
                del self._owned[gone.owner]
