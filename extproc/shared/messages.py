"""Asks, answers and the rest as the scripts read and write them. Times cross as differences of one clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from extproc.scheduling.labels import clip
from extproc.scheduling.ramp import Command, RampState
from extproc.scheduling.state.bounded import OVERFLOW
from extproc.scheduling.state.claims import (
    BucketClaim,
    CacheBounds,
    CacheEntry,
    Claim,
    Claims,
    Grant,
    Level,
    Lookup,
    Short,
)

_encode = msgspec.msgpack.encode


class _WireGrant(msgspec.Struct, array_like=True, frozen=True):
    taken: list[int]
    dry: list[int]
    short: int
    wait: float
    lines: int
    entry: tuple[float, float, float, float] | bool


class _Ramp(msgspec.Struct, array_like=True, frozen=True):
    name: str
    position: float
    direction: Literal[-1, 0, 1]
    age: float
    command: Command
    version: int


class Beat(msgspec.Struct, array_like=True, frozen=True):
    known: bool
    """Whether Redis remembered this replica."""
    replicas: int
    ramps: list[_Ramp]

    def states(self, now: float) -> dict[str, RampState]:
        return {r.name: RampState(r.position, r.direction, now - r.age, r.command, r.version) for r in self.ramps}


class _View(msgspec.Struct, array_like=True, frozen=True):
    levels: list[list[tuple[str, float, float]]]
    caches: list[tuple[int, int]]
    waits: list[float]
    entries: list[tuple[float, float, float, float] | bool]


class Picture(msgspec.Struct, frozen=True):
    """What people were shown last."""

    levels: dict[str, list[Level]] = {}
    cached: dict[str, tuple[int, int]] = {}
    shorts: dict[Claim, Short | None] = {}
    entries: dict[Lookup, CacheEntry | None] = {}


_answer = msgspec.msgpack.Decoder(_WireGrant).decode
_beat = msgspec.msgpack.Decoder(Beat).decode
_view = msgspec.msgpack.Decoder(_View).decode


def packed(claim: Claim) -> tuple[Any, ...]:
    """The claim as the scripts know it, its key of bounded length."""
    key = clip(claim.key)
    if isinstance(claim, BucketClaim):
        return (
            "b", claim.table, key, claim.max_keys, claim.dry, claim.amount, claim.capacity, claim.rate, claim.start
        )  # fmt: skip
    return "s", claim.table, key, claim.max_keys, claim.dry, claim.id, claim.limit, claim.ttl


def pack(values: Sequence[Any]) -> bytes:
    """MessagePack; half of a surrogate pair in a label value, which no UTF-8 can say, becomes a question mark."""
    try:
        return _encode(values)
    except UnicodeEncodeError:
        return _encode(_sayable(values))


def _sayable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    return value


def pack_ask(ask: Claims, now: float | None) -> bytes:
    lookup = (ask.lookup.table, ask.lookup.key) if ask.lookup is not None else False
    lines = [[packed(claim) for claim in group] for group in ask.lines]
    return pack((_given(now), [packed(claim) for claim in ask.limits], lookup, lines))


def read_answer(reply: Any, ask: Claims, now: float) -> Grant:
    """Times in the answer are on the asker's clock."""
    data, body = (reply[0], reply[1]) if isinstance(reply, list) else (reply, b"")
    found = _answer(data)
    claims = [*ask.limits, *(claim for group in ask.lines for claim in group)]
    short = Short(claims[found.short - 1], _at(found.wait, now)) if found.short else None
    return Grant(
        tuple(claims[n - 1] if n > 0 else moved(claims[-n - 1]) for n in found.taken),
        short,
        None if isinstance(found.entry, bool) else _entry(found.entry, body, now),
        found.lines,
        tuple(claims[n - 1] for n in found.dry),
    )


def moved(claim: Claim, key: str = OVERFLOW) -> Claim:
    """The claim under the key where it is really kept."""
    return msgspec.structs.replace(claim, key=key)


def pack_settle(
    replica: str, number: int, acknowledged: int, operations: Iterable[tuple[str, Claim]], now: float | None
) -> bytes:
    return pack((_given(now), replica, number, acknowledged, [(what, packed(claim)) for what, claim in operations]))


def pack_keep(lookup: Lookup, entry: CacheEntry, bounds: CacheBounds, now: float, given: float | None) -> bytes:
    """Without the body."""
    times = (now - entry.stored_at, entry.expires_at - now)
    tokens = (entry.prompt_tokens, entry.completion_tokens)
    return pack((_given(given), lookup.table, lookup.key, bounds.entries, bounds.bytes, *times, *tokens))


def pack_beat(replica: str, life: float, ramps: Iterable[tuple[str, RampState]], now: float) -> bytes:
    states = [(name, s.position, s.direction, now - s.at, s.command, s.version) for name, s in ramps]
    return pack((False, replica, life, states))


def read_beat(reply: Any) -> Beat:
    return _beat(reply)


def pack_leave(replica: str) -> bytes:
    return pack((False, replica))


def pack_view(
    most: int, tables: Sequence[tuple[str, int]], claims: Sequence[Claim], lookups: Sequence[Lookup], now: float | None
) -> bytes:
    """`tables`: with the limit of slots, or -1 where there are none."""
    named = [(lookup.table, lookup.key) for lookup in lookups]
    return pack((_given(now), most, tables, [packed(claim) for claim in claims], named))


def read_view(
    reply: Any, tables: Sequence[tuple[str, int]], claims: Sequence[Claim], lookups: Sequence[Lookup], now: float
) -> Picture:
    found = _view(reply[0])
    bodies = iter(reply[1:])
    return Picture(
        {table: [Level(*row) for row in rows] for (table, _), rows in zip(tables, found.levels, strict=True)},
        {table: sizes for (table, _), sizes in zip(tables, found.caches, strict=True)},
        {c: Short(c, _at(wait, now)) if wait else None for c, wait in zip(claims, found.waits, strict=True)},
        {
            lookup: None if isinstance(entry, bool) else _entry(entry, next(bodies), now)
            for lookup, entry in zip(lookups, found.entries, strict=True)
        },
    )


def _entry(found: tuple[float, float, float, float], body: bytes, now: float) -> CacheEntry:
    age, life, prompt, completion = found
    return CacheEntry(body, int(prompt), int(completion), now - age, now + life)


def _at(wait: float, now: float) -> float:
    return math.inf if wait < 0 else now + wait


def _given(now: float | None) -> float | Literal[False]:
    return False if now is None else now
