"""A pool of prefixes as a buddy allocator: blocks of one family, split in halves and joined again.

Rules kept here
- First fit: a block comes from the lowest free one that holds it. So low addresses fill up and high ones stay whole: the
  largest free block is larger than where the smallest one that holds it is broken (`benchmarks/addresses.py`).
- Space is conserved: free and allocated blocks together are the pool, and no two overlap.
- The pool is a value in memory; the durable record is the store's, from which it is rebuilt with `take`.

A block is its first address and its host bits, as numbers; a prefix is made of it where one is given out. Per size there are
the free blocks as a set, and a heap that finds the lowest: what is in the heap and not in the set is passed over (Knowlton, A
fast storage allocator, 1965, with the sizes that have a free block as the bits of one number).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

from address_planner.prefixes import Prefix

_SLACK = 64
"""How many blocks that are free no more may stand in a heap beside as many that are."""


class PoolExhausted(Exception):
    """No free block of this length is left in the pool."""


class NotAllocated(ValueError):
    """The prefix was not given out by this pool, or is not free to take."""


class Buddy:
    """A pool over one prefix."""

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self._first, self._width = int(prefix.network_address), prefix.max_prefixlen
        self._bits = self._width - prefix.prefixlen
        self._free: list[set[int]] = [set() for _ in range(self._bits + 1)]
        self._heaps: list[list[int]] = [[] for _ in range(self._bits + 1)]
        self._sizes = 0
        """Bit n is set where a block with n host bits is free."""
        self._allocated: dict[int, int] = {}
        self._put(self._first, self._bits)

    def allocate(self, length: int) -> Prefix:
        """A free prefix of this length. Raises PoolExhausted."""
        bits = self._width - length
        holding = self._sizes >> bits << bits if bits >= 0 else 0
        if not holding:
            raise PoolExhausted(f"pool {self.prefix} has no free /{length} left")
        block, size = self._lowest(holding)
        self._drop(block, size)
        self._split(block, size, block, bits)
        return self._prefix(block, bits)

    def allocate_within(self, length: int, within: Sequence[Prefix]) -> Prefix:
        """The lowest free prefix of this length that lies in one of `within`. Raises PoolExhausted."""
        bits = self._width - length
        found = min((b for part in within for b in self._holding(bits, part)), default=None)
        if found is None:
            raise PoolExhausted(f"pool {self.prefix} has no free /{length} left in {', '.join(map(str, within))}")
        prefix = self._prefix(found, bits)
        self.take(prefix)
        return prefix

    def _holding(self, bits: int, within: Prefix) -> Iterator[int]:
        """Of each free block that has a block of so many host bits in common with `within`, the first."""
        first, most = self._block(within)
        for size in range(bits, self._bits + 1) if most >= bits else ():
            for block in self._free[size]:
                if size >= most and block >> size == first >> size:
                    yield first
                elif size < most and block >> most == first >> most:
                    yield block

    def take(self, prefix: Prefix) -> None:
        """Allocate exactly this prefix. Raises NotAllocated when it is not wholly free."""
        block, bits = self._block(prefix)
        for size in range(bits, self._bits + 1):
            holder = block >> size << size
            if holder in self._free[size]:
                self._drop(holder, size)
                self._split(holder, size, block, bits)
                return
        raise NotAllocated(f"{prefix} is not free in pool {self.prefix}")

    def free(self, prefix: Prefix) -> None:
        """Give a prefix back; halves that are both free become one block again. Raises NotAllocated."""
        block, bits = self._block(prefix)
        if self._allocated.get(block) != bits:
            raise NotAllocated(f"{prefix} is not allocated in pool {self.prefix}")
        del self._allocated[block]
        while bits < self._bits and block ^ 1 << bits in self._free[bits]:
            self._drop(block ^ 1 << bits, bits)
            block &= ~(1 << bits)
            bits += 1
        self._put(block, bits)

    def allocated(self) -> frozenset[Prefix]:
        return frozenset(self._prefix(block, bits) for block, bits in self._allocated.items())

    def free_addresses(self) -> int:
        return sum(len(blocks) << bits for bits, blocks in enumerate(self._free))

    def largest_free(self) -> int | None:
        """The length of the largest free block; None where nothing is free."""
        return self._width - self._sizes.bit_length() + 1 if self._sizes else None

    # blocks as numbers

    def _block(self, prefix: Prefix) -> tuple[int, int]:
        """Raises NotAllocated where the prefix is not of the pool."""
        bits = self._width - prefix.prefixlen
        block = int(prefix.network_address)
        if (
            prefix.version != self.prefix.version
            or bits > self._bits
            or block >> self._bits != self._first >> self._bits
        ):
            raise NotAllocated(f"{prefix} is not of pool {self.prefix}")
        return block, bits

    def _prefix(self, block: int, bits: int) -> Prefix:
        return type(self.prefix)((block, self._width - bits))

    def _split(self, holder: int, size: int, block: int, bits: int) -> None:
        """Allocate the block out of its holder; the halves without it are free."""
        while size > bits:
            size -= 1
            half = 1 << size
            if block & half:
                self._put(holder, size)
                holder |= half
            else:
                self._put(holder | half, size)
        self._allocated[block] = bits

    def _put(self, block: int, size: int) -> None:
        free, heap = self._free[size], self._heaps[size]
        free.add(block)
        self._sizes |= 1 << size
        if len(heap) > 2 * len(free) + _SLACK:
            heap[:] = free
            heapify(heap)
        else:
            heappush(heap, block)

    def _drop(self, block: int, size: int) -> None:
        free = self._free[size]
        free.remove(block)
        if not free:
            self._sizes &= ~(1 << size)
            self._heaps[size].clear()

    def _lowest(self, sizes: int) -> tuple[int, int]:
        """The first of the free blocks of these sizes, and its size."""
        lowest, at = -1, 0
        while sizes:
            size = sizes.bit_length() - 1
            sizes ^= 1 << size
            free, heap = self._free[size], self._heaps[size]
            while heap[0] not in free:
                heappop(heap)
            if lowest < 0 or heap[0] < lowest:
                lowest, at = heap[0], size
        return lowest, at
