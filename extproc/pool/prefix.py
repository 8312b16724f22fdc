"""Which prompt blocks which endpoint's cache holds, as far as our own requests tell.

For every block one integer whose bits are the endpoints that have it, so that a look-up costs one step per block,
however many endpoints there are. For every endpoint the blocks in the order of their last use, so that the least
recently used ones are forgotten when the engine's cache is full, last block of a prompt first, as engines do.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

import msgspec

_BYTES_PER_BLOCK = 210
"""Memory of one block known of one endpoint: nodes of an ordered dictionary and of a dictionary, two integers. Upper
bound measured with CPython 3.11; a block that many endpoints hold costs less for each of them."""


class IndexView(msgspec.Struct, frozen=True):
    """How much an index holds and may hold."""

    endpoints: int
    blocks: int
    """Pairs of a block and an endpoint that holds it."""
    expected: int
    """Such pairs that are only expected, as their request is on its way."""
    limit: int
    bytes: int
    """Estimate of the memory in use."""


class _Shelf:
    """What one endpoint holds."""

    __slots__ = ("bit", "expected", "held", "limit")

    def __init__(self, bit: int, limit: int) -> None:
        self.bit = bit
        self.held: OrderedDict[int, None] = OrderedDict()
        self.expected: Counter[int] = Counter()
        """Block -> how many requests on their way will bring it."""
        self.limit = limit


class PrefixIndex:
    """Endpoints are named by their address. `per_endpoint` and `total` bound the blocks."""

    def __init__(self, *, per_endpoint: int, total: int) -> None:
        self._per_endpoint = per_endpoint
        self._total = total
        self._where: dict[int, int] = {}
        self._shelves: dict[str, _Shelf] = {}
        self._free_bits: list[int] = []

    def __repr__(self) -> str:
        return f"<PrefixIndex endpoints={len(self._shelves)} blocks={len(self._where)}>"

    def join(self, address: str) -> int:
        """The bit of an endpoint, which is its own from now until `forget`."""
        return self._shelf(address).bit

    def levels(self, blocks: Sequence[int]) -> list[tuple[int, int]]:
        """Pairs of a depth above 0 and the bits of the endpoints that hold just so many of the first blocks, or will
        hold them once their queue is worked off. All others hold none.
        """
        found = []
        alive, depth, where = -1, 0, self._where
        for block in blocks:
            here = where.get(block, 0) & alive
            if here != alive:
                if depth:
                    found.append((depth, alive & ~here))
                alive = here
                if not alive:
                    return found
            depth += 1
        if depth:
            found.append((depth, alive))
        return found

    def depths(self, blocks: Sequence[int], addresses: Sequence[str]) -> list[int]:
        """How many of the first blocks each endpoint holds, or will hold."""
        levels = self.levels(blocks)
        bits = [shelf.bit if (shelf := self._shelves.get(address)) else 0 for address in addresses]
        return [next((depth for depth, mask in levels if mask & bit), 0) for bit in bits]

    def expect(self, address: str, blocks: Sequence[int]) -> None:
        """A request on its way to the endpoint will bring these blocks. Undone by `settle` with the same blocks."""
        shelf = self._shelf(address)
        where, bit = self._where, shelf.bit
        shelf.expected.update(blocks)
        if where.keys().isdisjoint(blocks):
            where.update(dict.fromkeys(blocks, bit))
            return
        for block in blocks:
            where[block] = where.get(block, 0) | bit

    def settle(self, address: str, blocks: Sequence[int]) -> None:
        """The request is no longer on its way."""
        shelf = self._shelves.get(address)
        if shelf is None:
            return
        expected, held = shelf.expected, shelf.held
        for block in blocks:
            count = expected.get(block, 0)
            if count > 1:
                expected[block] = count - 1
            elif count:
                del expected[block]
                if block not in held:
                    self._clear(block, shelf.bit)

    def learn(self, address: str, blocks: Sequence[int], limit: int | None = None) -> None:
        """The endpoint holds these blocks now, used a moment ago. `limit`: blocks that fit into its cache."""
        shelf = self._shelf(address)
        if limit is not None:
            shelf.limit = limit
        held, where, bit = shelf.held, self._where, shelf.bit
        for block in reversed(blocks):
            if block in held:
                held.move_to_end(block)
            else:
                held[block] = None
                where[block] = where.get(block, 0) | bit
        self._trim(shelf)

    def forget(self, address: str) -> None:
        """The endpoint holds nothing, and costs no memory."""
        shelf = self._shelves.pop(address, None)
        if shelf is None:
            return
        for block in shelf.held.keys() | shelf.expected.keys():
            self._clear(block, shelf.bit)
        self._free_bits.append(shelf.bit)

    def view(self) -> IndexView:
        held = sum(len(shelf.held) for shelf in self._shelves.values())
        expected = sum(len(shelf.expected) for shelf in self._shelves.values())
        return IndexView(len(self._shelves), held, expected, self._total, (held + expected) * _BYTES_PER_BLOCK)

    def _shelf(self, address: str) -> _Shelf:
        shelf = self._shelves.get(address)
        if shelf is None:
            bit = self._free_bits.pop() if self._free_bits else 1 << len(self._shelves)
            shelf = self._shelves[address] = _Shelf(bit, self._per_endpoint)
            for other in self._shelves.values():
                self._trim(other)
        return shelf

    def _trim(self, shelf: _Shelf) -> None:
        """Down to the engine's cache, and to an equal share of what the index may hold."""
        excess = len(shelf.held) - min(shelf.limit, self._per_endpoint, self._total // len(self._shelves))
        for _ in range(excess):
            oldest, _ = shelf.held.popitem(last=False)
            if oldest not in shelf.expected:
                self._clear(oldest, shelf.bit)

    def _clear(self, block: int, bit: int) -> None:
        left = self._where[block] & ~bit
        if left:
            self._where[block] = left
        else:
            del self._where[block]
