"""Who is in flight: a count that heals, because every entry expires."""

from __future__ import annotations

import math


class SlotLedger:
    """Entries by id, each until its expiry. All entries of one ledger have the same time to live, so that the oldest is
    always the first to expire. A clock that steps back expires nothing early and makes nothing live longer than its
    time to live after the clock has caught up.
    """

    __slots__ = ("_at", "_entries")

    def __init__(self) -> None:
        self._entries: dict[str, float] = {}
        self._at = -math.inf

    def __repr__(self) -> str:
        return f"<SlotLedger of {len(self._entries)}>"

    def __contains__(self, entry: str) -> bool:
        return entry in self._entries

    def count(self, now: float) -> int:
        """Entries that have not expired."""
        if now > self._at:
            self._at = now
        entries = self._entries
        while entries:
            oldest = next(iter(entries))
            if entries[oldest] > self._at:
                break
            del entries[oldest]
        return len(entries)

    def take(self, entry: str, limit: int, ttl: float, now: float) -> bool:
        """Whether `entry` is in: it was already, or fewer than `limit` were."""
        taken = self.count(now)
        if entry in self._entries:
            return True
        if taken >= limit:
            return False
        self._entries[entry] = self._at + ttl
        return True

    def release(self, entry: str) -> bool:
        """Whether the entry was still there; releasing twice, or after it expired, changes nothing."""
        return self._entries.pop(entry, None) is not None

    def available_at(self, limit: int, now: float) -> float:
        """The latest time at which a slot is free again, whatever gets lost; infinity where the limit is 0."""
        if self.count(now) < limit:
            return now
        return next(iter(self._entries.values())) if limit > 0 else math.inf

    def idle(self, now: float) -> bool:
        return self.count(now) == 0
