"""The seam to shared state: one decision is one `Claims`, applied atomically, answered by one `Grant`.

Whatever keeps the state (memory here, Redis elsewhere) follows these rules exactly. `now` is the store's one clock: the
argument in memory, the server's own time where several processes share the store.

`Claims` are worked off in order, as one atomic step:

1. `limits`: all or nothing. Every claim is tested before any is taken. If one is short, nothing is taken, `lookup` and
   `lines` are not looked at, and `short` names the claim that is available last.
2. `lookup`: a live cache entry ends it with `entry` set; what the limits took stays taken, `lines` are not touched.
3. `lines`: groups, each all or nothing, in order. The first group that is short ends it with `short` set; what the
   groups before it took stays taken. `lines` in the answer counts the groups taken.

A claim with `dry` never makes its group short: it is taken if it fits and otherwise listed in `dry_short`.
`taken` lists every claim that was taken, with the key under which it is really kept (a bounded table may have moved it
to its overflow key); only these may be returned.

Bucket `(table, key)`, state `level, at`: fill first, `if now > at: level = min(capacity, level + rate * (now - at));
at = now`; fits if `level + 1e-6 >= amount`; taken by `level -= amount`. A bucket that does not exist has
`level = start, at = now`. It may be forgotten once it is full (`level >= capacity`). Available at
`at + (amount - level) / rate`, never if `amount > capacity` or `rate` is 0.

Slot `(table, key)`, state id to expiry: drop what has `expiry <= now` first; fits if the id is in already or fewer than
`limit` are; taken by setting the expiry to `now + ttl` where the id is not in yet. Available at the earliest expiry.

`Return` of a bucket claim: fill, then `level = min(capacity, level + amount)`; a negative amount takes more and may
leave a debt; a bucket that does not exist is created first. Of a slot claim: the id is removed if it is there. Returns
are applied once each, in any order, and cannot fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from extproc.scheduling.state.bucket import SLACK


class BucketClaim(msgspec.Struct, frozen=True, tag="bucket", gc=False):
    table: str
    """The policy's name."""
    key: str
    """The label's value."""
    amount: float
    capacity: float
    rate: float
    start: float
    """Level of a new bucket."""
    max_keys: int = 1
    dry: bool = False


class SlotClaim(msgspec.Struct, frozen=True, tag="slot", gc=False):
    table: str
    key: str
    id: str
    limit: int
    ttl: float
    max_keys: int = 1
    dry: bool = False


Claim = BucketClaim | SlotClaim


class Lookup(msgspec.Struct, frozen=True, gc=False):
    table: str
    key: str


class CacheEntry(msgspec.Struct, frozen=True, gc=False):
    """One whole answer, kept as the JSON of the unstreamed API whatever way it came."""

    body: bytes
    prompt_tokens: int
    completion_tokens: int
    stored_at: float
    expires_at: float


class Claims(msgspec.Struct, frozen=True):
    limits: tuple[Claim, ...] = ()
    lookup: Lookup | None = None
    lines: tuple[tuple[Claim, ...], ...] = ()


class Short(msgspec.Struct, frozen=True):
    """Why an ask was not granted in full."""

    claim: Claim
    at: float
    """When the claim could be granted, in the time of `now`; infinity: not by itself."""


class Grant(msgspec.Struct, frozen=True):
    taken: tuple[Claim, ...] = ()
    short: Short | None = None
    entry: CacheEntry | None = None
    lines: int = 0
    dry_short: tuple[Claim, ...] = ()


class Return(msgspec.Struct, frozen=True):
    claim: Claim
    """As it was listed in `taken`."""
    amount: float = 0.0
    """Of a bucket; a slot is released whatever it says."""


class Level(msgspec.Struct, frozen=True):
    """One key of a policy's shared state, for people."""

    key: str
    left: float
    """Tokens or slots."""
    limit: float


class Store(Protocol):
    """State shared by all requests, and by all replicas where it is remote."""

    def ask(self, ask: Claims, now: float) -> Grant: ...

    def peek(self, claim: Claim, now: float) -> Short | None:
        """Whether the claim would be granted by itself; takes nothing."""
        ...

    def look_up(self, lookup: Lookup, now: float) -> CacheEntry | None:
        """A live entry, without counting it as used."""
        ...

    def settle(self, returns: Sequence[Return], now: float) -> None:
        """Never waits and never fails: a remote store keeps what it could not deliver."""
        ...

    def keep(self, lookup: Lookup, entry: CacheEntry, bounds: CacheBounds, now: float) -> None: ...

    def levels(self, table: str, most: int, now: float) -> list[Level]:
        """At most `most` keys, those with the least left first."""
        ...

    def cached(self, table: str) -> tuple[int, int]:
        """Entries and bytes that a cache holds."""
        ...


class CacheBounds(msgspec.Struct, frozen=True, gc=False):
    entries: int
    bytes: int


def never(short: Short) -> bool:
    """Whether the claim is beyond what there will ever be, so that waiting would be in vain."""
    claim = short.claim
    return claim.amount > claim.capacity + SLACK if isinstance(claim, BucketClaim) else claim.limit < 1
