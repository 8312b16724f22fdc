"""This replica alone: its share of every limit, until Redis is back.

With N replicas a bucket has `capacity / N` and `rate / N`, a ledger `limit / N`, at least 1. A bucket starts full,
whatever a policy says about its first fill. A request that costs more than the share but not more than the capacity
passes when the share is full and leaves a debt. What this replica has in flight already counts in its ledgers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec

from extproc.scheduling.state.bucket import SLACK
from extproc.scheduling.state.claims import BucketClaim, Claim, Claims, Grant, Return, Short, SlotClaim
from extproc.scheduling.state.memory import MemoryStore

_ANY_NUMBER = 1 << 31


class LocalBucket(BucketClaim, frozen=True, tag="local_bucket", gc=False):
    """Taken here and not in Redis; `epoch` tells one absence of Redis from the next."""

    epoch: int = 0


class LocalSlot(SlotClaim, frozen=True, tag="local_slot", gc=False):
    epoch: int = 0


def origin(claim: Claim) -> int | None:
    """The epoch in which it was taken here; None if it was taken in Redis."""
    return claim.epoch if isinstance(claim, LocalBucket | LocalSlot) else None


class HeldClaims:
    """The slots that this replica's requests have, by their ids, wherever they were taken."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str, str], tuple[SlotClaim, float]] = {}

    def __repr__(self) -> str:
        return f"<HeldClaims {len(self)} slots>"

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, claims: Iterable[Claim], now: float) -> None:
        for claim in claims:
            if isinstance(claim, SlotClaim):
                self._slots.setdefault(_name(claim), (claim, now + claim.ttl))

    def remove(self, claim: SlotClaim) -> None:
        self._slots.pop(_name(claim), None)

    def live(self, now: float) -> list[SlotClaim]:
        """With the rest of its life as `ttl`, the shortest first. What has expired is forgotten."""
        for name in [name for name, (_, expires) in self._slots.items() if expires <= now]:
            del self._slots[name]
        return [
            SlotClaim(c.table, c.key, c.id, c.limit, expires - now, c.max_keys, c.dry)
            for c, expires in sorted(self._slots.values(), key=lambda kept: kept[1])
        ]


class Local:
    """One absence of Redis."""

    def __init__(self, replicas: int, epoch: int, held: Iterable[SlotClaim], now: float) -> None:
        self.replicas = max(1, replicas)
        self.epoch = epoch
        self.memory = MemoryStore()
        self._claims: dict[str, BucketClaim] = {}
        for claim in held:
            self.memory.ask(Claims(limits=(msgspec.structs.replace(claim, limit=_ANY_NUMBER, dry=False),)), now)

    def __repr__(self) -> str:
        return f"<Local share 1/{self.replicas} {self.memory!r}>"

    def ask(self, ask: Claims, now: float) -> Grant:
        """As if the shares were the limits; the answer speaks of the claims as they were asked."""
        whole: dict[int, Claim] = {}

        def scaled(group: tuple[Claim, ...]) -> tuple[Claim, ...]:
            shares = tuple(self._scaled(claim) for claim in group)
            whole.update({id(share): claim for share, claim in zip(shares, group, strict=True)})
            return shares

        mine = Claims(scaled(ask.limits), ask.lookup, tuple(scaled(group) for group in ask.lines))
        found = self.memory.ask(mine, now)
        shares = iter([*mine.limits, *(claim for group in mine.lines for claim in group)])
        taken = tuple(self._taken(share, whole, shares, now) for share in found.taken)
        short = Short(whole[id(found.short.claim)], found.short.at) if found.short is not None else None
        dry = tuple(whole[id(claim)] for claim in found.dry_short)
        return Grant(taken, short, found.entry, found.lines, dry)

    def settle(self, claim: Claim, amount: float, now: float) -> None:
        """Of a claim that was taken here, in this epoch."""
        self.memory.settle([Return(self._scaled(claim), amount)], now)

    def peek(self, claim: Claim, now: float) -> Short | None:
        """Whether the claim would be granted here; takes nothing."""
        found = self.memory.peek(self._scaled(claim), now)
        return Short(claim, found.at) if found is not None else None

    def deficits(self, now: float) -> Iterator[BucketClaim]:
        """What every bucket lacks to be full: taken here and not filled up again since. To be charged to Redis."""
        for table, example in self._claims.items():
            for row in self.memory.levels(table, _ANY_NUMBER, now):
                if row.left < row.limit:
                    yield BucketClaim(
                        table, row.key, row.limit - row.left, example.capacity, example.rate, example.start,
                        example.max_keys,
                    )  # fmt: skip

    def _scaled(self, claim: Claim) -> Claim:
        n = self.replicas
        if isinstance(claim, SlotClaim):
            limit = max(1, claim.limit // n) if claim.limit > 0 else claim.limit
            return SlotClaim(claim.table, claim.key, claim.id, limit, claim.ttl, claim.max_keys, claim.dry)
        share = claim.capacity / n
        amount = min(claim.amount, share) if claim.amount <= claim.capacity + SLACK else math.inf
        return BucketClaim(claim.table, claim.key, amount, share, claim.rate / n, share, claim.max_keys, claim.dry)

    def _taken(self, share: Claim, whole: dict[int, Claim], shares: Iterator[Claim], now: float) -> Claim:
        """The whole claim of a share that was taken, which may have been moved to another key."""
        asked = next(s for s in shares if s is share or _same_but_key(s, share))
        claim = whole[id(asked)]
        if isinstance(claim, SlotClaim):
            return LocalSlot(
                claim.table, share.key, claim.id, claim.limit, claim.ttl, claim.max_keys, claim.dry, self.epoch
            )
        if isinstance(share, BucketClaim) and share.amount < claim.amount:
            self.memory.settle([Return(share, share.amount - claim.amount)], now)
        self._claims[claim.table] = claim
        return LocalBucket(
            claim.table, share.key, claim.amount, claim.capacity, claim.rate, claim.start, claim.max_keys, claim.dry,
            self.epoch,
        )  # fmt: skip


def _same_but_key(one: Claim, other: Claim) -> bool:
    return type(one) is type(other) and msgspec.structs.replace(one, key=other.key) == other


def _name(claim: SlotClaim) -> tuple[str, str, str]:
    return claim.table, claim.key, claim.id
