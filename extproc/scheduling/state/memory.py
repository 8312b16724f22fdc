"""The store in memory, which is the reference for every other one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from extproc.scheduling.state.bounded import BoundedTable
from extproc.scheduling.state.bucket import TokenBucket
from extproc.scheduling.state.claims import (
    BucketClaim,
    CacheBounds,
    CacheEntry,
    Claim,
    Claims,
    Grant,
    Level,
    Lookup,
    Return,
    Short,
    SlotClaim,
)
from extproc.scheduling.state.ledger import SlotLedger


class MemoryStore:
    """Buckets, ledgers and cached answers by policy. Synchronous, so every ask is atomic by itself."""

    def __init__(self) -> None:
        self._buckets: dict[str, BoundedTable[TokenBucket]] = {}
        self._ledgers: dict[str, BoundedTable[SlotLedger]] = {}
        self._limits: dict[str, int] = {}
        self._caches: dict[str, CacheTable] = {}

    def __repr__(self) -> str:
        tables = f"{len(self._buckets)} bucket tables, {len(self._ledgers)} ledgers, {len(self._caches)} caches"
        return f"<MemoryStore of {tables}>"

    def ask(self, ask: Claims, now: float) -> Grant:
        taken: list[Claim] = []
        dry_short: list[Claim] = []
        if ask.limits:
            short = self._take_all(ask.limits, taken, dry_short, now)
            if short is not None:
                return Grant((), short, None, 0, tuple(dry_short))
        if ask.lookup is not None and (cache := self._caches.get(ask.lookup.table)) is not None:
            entry = cache.get(ask.lookup.key, now)
            if entry is not None:
                return Grant(tuple(taken), None, entry, 0, tuple(dry_short))
        short = None
        granted = 0
        for group in ask.lines:
            short = self._take_all(group, taken, dry_short, now)
            if short is not None:
                break
            granted += 1
        return Grant(tuple(taken), short, None, granted, tuple(dry_short))

    def peek(self, claim: Claim, now: float) -> Short | None:
        if isinstance(claim, BucketClaim):
            table = self._buckets.get(claim.table)
            bucket = table.look(claim.key, now) if table is not None else None
            if bucket is None:
                bucket = TokenBucket(claim.capacity, claim.rate, now, claim.start)
            return None if bucket.holds(claim.amount, now) else Short(claim, bucket.available_at(claim.amount, now))
        ledgers = self._ledgers.get(claim.table)
        ledger = (ledgers.look(claim.key, now) if ledgers is not None else None) or SlotLedger()
        at = ledger.available_at(claim.limit, now)
        return Short(claim, at) if at > now else None

    def look_up(self, lookup: Lookup, now: float) -> CacheEntry | None:
        cache = self._caches.get(lookup.table)
        return cache.peek(lookup.key, now) if cache is not None else None

    def settle(self, returns: Sequence[Return], now: float) -> None:
        for item in returns:
            claim = item.claim
            if isinstance(claim, BucketClaim):
                if item.amount:
                    self._bucket(claim, now)[1].give(item.amount, now)
            else:
                ledgers = self._ledgers.get(claim.table)
                ledger = ledgers.find(claim.key) if ledgers is not None else None
                if ledger is not None:
                    ledger.release(claim.id)

    def keep(self, lookup: Lookup, entry: CacheEntry, bounds: CacheBounds, now: float) -> None:
        self._caches.setdefault(lookup.table, CacheTable()).put(lookup.key, entry, bounds, now)

    def levels(self, table: str, most: int, now: float) -> list[Level]:
        rows: list[Level] = []
        if (buckets := self._buckets.get(table)) is not None:
            rows += [Level(key, bucket.fill(now), bucket.capacity) for key, bucket in buckets]
        if (ledgers := self._ledgers.get(table)) is not None:
            limit = self._limits[table]
            rows += [Level(key, limit - ledger.count(now), limit) for key, ledger in ledgers]
        return sorted(rows, key=lambda row: row.left)[:most]

    def cached(self, table: str) -> tuple[int, int]:
        """Entries and bytes that a cache holds."""
        cache = self._caches.get(table)
        return (len(cache), cache.bytes) if cache is not None else (0, 0)

    def _take_all(self, group: Sequence[Claim], taken: list[Claim], dry_short: list[Claim], now: float) -> Short | None:
        """All or nothing: what was taken before a claim that is short is put back."""
        mine: list[tuple[Claim, TokenBucket | SlotLedger | None]] = []
        worst: Short | None = None
        for claim in group:
            kept, at = self._take(claim, now)
            if kept is not None:
                mine.append(kept)
            elif claim.dry:
                dry_short.append(claim)
            elif worst is None or at > worst.at:
                worst = Short(claim, at)
        if worst is None:
            taken += [claim for claim, _ in mine]
            return None
        for claim, state in mine:
            if isinstance(state, TokenBucket) and isinstance(claim, BucketClaim):
                state.level += claim.amount
            elif isinstance(state, SlotLedger) and isinstance(claim, SlotClaim):
                state.release(claim.id)
        return worst

    def _take(self, claim: Claim, now: float) -> tuple[tuple[Claim, TokenBucket | SlotLedger | None] | None, float]:
        """What was taken and where (nowhere: it was held already), or when it could be."""
        if isinstance(claim, BucketClaim):
            key, bucket = self._bucket(claim, now)
            if bucket.take(claim.amount, now):
                return (claim if key == claim.key else _moved(claim, key), bucket), now
            return None, bucket.available_at(claim.amount, now)
        key, ledger = self._ledger(claim, now)
        held = claim.id in ledger
        if ledger.take(claim.id, claim.limit, claim.ttl, now):
            return (claim if key == claim.key else _moved(claim, key), None if held else ledger), now
        return None, ledger.available_at(claim.limit, now)

    def _bucket(self, claim: BucketClaim, now: float) -> tuple[str, TokenBucket]:
        table = self._buckets.get(claim.table)
        if table is None:
            table = self._buckets[claim.table] = BoundedTable(claim.max_keys)
        table.most = claim.max_keys
        found = table.get(claim.key, lambda: TokenBucket(claim.capacity, claim.rate, now, claim.start), now)
        bucket = found[1]
        if bucket.capacity != claim.capacity or bucket.rate != claim.rate:
            bucket.resize(claim.capacity, claim.rate, now)
        return found

    def _ledger(self, claim: SlotClaim, now: float) -> tuple[str, SlotLedger]:
        table = self._ledgers.get(claim.table)
        if table is None:
            table = self._ledgers[claim.table] = BoundedTable(claim.max_keys)
        table.most = claim.max_keys
        self._limits[claim.table] = claim.limit
        return table.get(claim.key, SlotLedger, now)


class CacheTable:
    """Answers of one policy, bounded in number and bytes; the one unused longest goes first."""

    __slots__ = ("_entries", "bytes")

    def __init__(self) -> None:
        self._entries: OrderedDict[str, CacheEntry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<CacheTable {len(self)} entries, {self.bytes} bytes>"

    def peek(self, key: str, now: float) -> CacheEntry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires_at > now else None

    def get(self, key: str, now: float) -> CacheEntry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: CacheEntry, bounds: CacheBounds, now: float) -> None:
        if key in self._entries:
            self._drop(key)
        if len(entry.body) > bounds.bytes or bounds.entries < 1 or entry.expires_at <= now:
            return
        self._entries[key] = entry
        self.bytes += len(entry.body)
        while len(self._entries) > bounds.entries or self.bytes > bounds.bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        self.bytes -= len(self._entries.pop(key).body)


def _moved(claim: Claim, key: str) -> Claim:
    """The claim under the key where it is kept; spelt out, as this is on the path of a label with a million values."""
    if isinstance(claim, BucketClaim):
        return BucketClaim(
            claim.table, key, claim.amount, claim.capacity, claim.rate, claim.start, claim.max_keys, claim.dry
        )
    return SlotClaim(claim.table, key, claim.id, claim.limit, claim.ttl, claim.max_keys, claim.dry)
