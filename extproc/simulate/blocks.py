"""The KV cache of a simulated engine: blocks, prefix sharing, and eviction of the least recently used.

A block is in use (by one sequence, or shared by its hash), idle (holds a known prefix, nobody uses it) or blank. Idle
blocks count as free: they are given away, least recently used first, once no blank block is left. A sequence returns
its blocks last block first, so that the tail of a prompt is forgotten before its beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class BlockLease:
    """The blocks one sequence holds: shared ones by hash, and a number of its own."""

    __slots__ = ("hashes", "own", "published")

    def __init__(self) -> None:
        self.hashes: list[int] = []
        self.own = 0
        self.published = 0
        """How many leading blocks of the prompt were offered for sharing, held by hash or not."""

    @property
    def total(self) -> int:
        """Blocks held."""
        return len(self.hashes) + self.own

    def __repr__(self) -> str:
        return f"BlockLease(shared={len(self.hashes)}, own={self.own})"


class BlockCache:
    """A fixed number of blocks. Every method is synchronous and keeps `free + in use == capacity`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._users: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._own = 0

    @property
    def used(self) -> int:
        """Blocks that some sequence holds."""
        return len(self._users) + self._own

    @property
    def free(self) -> int:
        """Blocks that can be given out, idle prefixes included."""
        return self.capacity - self.used

    @property
    def remembered(self) -> int:
        """Blocks whose content can be found by hash."""
        return len(self._users) + len(self._idle)

    def match(self, hashes: Sequence[int], limit: int) -> int:
        """How many of the first `limit` hashes are present, counted from the beginning without a gap."""
        users, idle = self._users, self._idle
        for index in range(min(limit, len(hashes))):
            if hashes[index] not in users and hashes[index] not in idle:
                return index
        return min(limit, len(hashes))

    def admit(self, lease: BlockLease, shared: Sequence[int], total: int) -> bool:
        """Give an empty lease the `shared` blocks (all present) and new ones up to `total`; all of it or nothing."""
        woken = sum(1 for block in shared if block in self._idle)
        fresh = max(0, total - len(shared))
        if woken + fresh > self.free:
            return False
        for block in shared:
            self._idle.pop(block, None)
            self._users[block] = self._users.get(block, 0) + 1
        lease.hashes.extend(shared)
        lease.published = len(shared)
        self._take(lease, fresh)
        return True

    def grow(self, lease: BlockLease, total: int) -> bool:
        """Give a lease own blocks until it holds `total`; false, and nothing taken, if they are not there."""
        fresh = total - lease.total
        if fresh <= 0:
            return True
        if fresh > self.free:
            return False
        self._take(lease, fresh)
        return True

    def publish(self, lease: BlockLease, hashes: Sequence[int], full: int) -> None:
        """Make the first `full` prompt blocks findable. One that is known already stays the lease's own copy."""
        for block in hashes[lease.published : full]:
            if block not in self._users and block not in self._idle:
                self._users[block] = 1
                self._own -= 1
                lease.own -= 1
                lease.hashes.append(block)
        lease.published = max(lease.published, min(full, len(hashes)))

    def release(self, lease: BlockLease) -> None:
        """Take everything back; the lease is empty afterwards."""
        for block in reversed(lease.hashes):
            users = self._users[block] - 1
            if users:
                self._users[block] = users
            else:
                del self._users[block]
                self._idle[block] = None
        self._own -= lease.own
        lease.hashes.clear()
        lease.own = lease.published = 0

    def _take(self, lease: BlockLease, fresh: int) -> None:
        lease.own += fresh
        self._own += fresh
        excess = self.used + len(self._idle) - self.capacity
        for _ in range(excess):
            self._idle.popitem(last=False)
