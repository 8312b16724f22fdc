"""The side of the shared state that a `Flow` sees: what needs no answer is sent, what people ask is from a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from extproc.scheduling.state.claims import CacheBounds, CacheEntry, Claim, Claims, Grant, Level, Lookup, Return, Short
from extproc.shared.fallback import Local
from extproc.shared.messages import Picture

Settle = Callable[[Sequence[Return], float], None]
Keep = Callable[[Lookup, CacheEntry, CacheBounds, float], None]


class LocalView:
    """A `Store` for `Flow(store=..., remote=True)`. Without Redis the reading half shows the local state."""

    def __init__(self, settle: Settle, keep: Keep) -> None:
        self._settle = settle
        self._keep = keep
        self.picture = Picture()
        self.local: Local | None = None
        """While Redis is away."""

    def __repr__(self) -> str:
        return f"<LocalView {self.local!r}>" if self.local is not None else "<LocalView>"

    def ask(self, ask: Claims, now: float) -> Grant:
        raise TypeError("state in Redis is asked by the driver of a flow, not by the flow")

    def settle(self, returns: Sequence[Return], now: float) -> None:
        self._settle(returns, now)

    def keep(self, lookup: Lookup, entry: CacheEntry, bounds: CacheBounds, now: float) -> None:
        self._keep(lookup, entry, bounds, now)

    def peek(self, claim: Claim, now: float) -> Short | None:
        return self.local.peek(claim, now) if self.local is not None else self.picture.shorts.get(claim)

    def look_up(self, lookup: Lookup, now: float) -> CacheEntry | None:
        if self.local is not None:
            return self.local.memory.look_up(lookup, now)
        return self.picture.entries.get(lookup)

    def levels(self, table: str, most: int, now: float) -> list[Level]:
        if self.local is not None:
            return self.local.memory.levels(table, most, now)
        return self.picture.levels.get(table, [])[:most]

    def cached(self, table: str) -> tuple[int, int]:
        """Entries and bytes that a cache holds."""
        if self.local is not None:
            return self.local.memory.cached(table)
        return self.picture.cached.get(table, (0, 0))
