"""A pool of prefixes as a buddy allocator: blocks of one family, split in halves and joined again.

Rules kept here
- Best fit: a block comes from the smallest free one that holds it, the lowest address among equals.
- Space is conserved: free and allocated blocks together are the pool, and no two overlap.
- The pool is a value in memory; the durable record is the store's, from which it is rebuilt with `take`.
"""

from __future__ import annotations

from ipaddress import ip_network

from address_planner.prefixes import Prefix, inside


class PoolExhausted(Exception):
    """No free block of this length is left in the pool."""


class NotAllocated(ValueError):
    """The prefix was not given out by this pool, or is not free to take."""


class Buddy:
    """A pool over one prefix."""

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self._free: dict[int, set[Prefix]] = {prefix.prefixlen: {prefix}}
        self._allocated: set[Prefix] = set()

    def allocate(self, length: int) -> Prefix:
        """A free prefix of this length. Raises PoolExhausted."""
        for size in range(length, self.prefix.prefixlen - 1, -1):
            if blocks := self._free.get(size):
                block = min(blocks, key=lambda p: int(p.network_address))
                self.take(self._first(block, length))
                return self._first(block, length)
        raise PoolExhausted(f"pool {self.prefix} has no free /{length} left")

    @staticmethod
    def _first(block: Prefix, length: int) -> Prefix:
        return ip_network((block.network_address, length))

    def take(self, prefix: Prefix) -> None:
        """Allocate exactly this prefix. Raises NotAllocated when it is not wholly free."""
        holder = next(
            (
                block
                for size in range(prefix.prefixlen, self.prefix.prefixlen - 1, -1)
                for block in (self._parent(prefix, size),)
                if block in self._free.get(size, ())
            ),
            None,
        )
        if holder is None:
            raise NotAllocated(f"{prefix} is not free in pool {self.prefix}")
        self._free[holder.prefixlen].discard(holder)
        while holder.prefixlen < prefix.prefixlen:
            low, high = holder.subnets(1)
            holder, other = (low, high) if inside(prefix, low) else (high, low)
            self._free.setdefault(other.prefixlen, set()).add(other)
        self._allocated.add(prefix)

    @staticmethod
    def _parent(prefix: Prefix, length: int) -> Prefix:
        return prefix if prefix.prefixlen == length else prefix.supernet(new_prefix=length)

    def free(self, prefix: Prefix) -> None:
        """Give a prefix back; halves that are both free become one block again. Raises NotAllocated."""
        if prefix not in self._allocated:
            raise NotAllocated(f"{prefix} is not allocated in pool {self.prefix}")
        self._allocated.discard(prefix)
        while prefix.prefixlen > self.prefix.prefixlen:
            parent = prefix.supernet()
            low, high = parent.subnets(1)
            buddy = high if prefix == low else low
            siblings = self._free.get(prefix.prefixlen, set())
            if buddy not in siblings:
                break
            siblings.discard(buddy)
            prefix = parent
        self._free.setdefault(prefix.prefixlen, set()).add(prefix)

    def allocated(self) -> frozenset[Prefix]:
        return frozenset(self._allocated)

    def free_addresses(self) -> int:
        return sum(block.num_addresses for blocks in self._free.values() for block in blocks)
