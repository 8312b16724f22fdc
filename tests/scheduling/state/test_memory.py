"""The store's contract: every other store is held against these."""

from __future__ import annotations

import math
import random

import pytest

from extproc.scheduling.state.claims import (
    BucketClaim,
    CacheBounds,
    CacheEntry,
    Claim,
    Claims,
    Lookup,
    Return,
    SlotClaim,
    never,
)
from extproc.scheduling.state.memory import MemoryStore


def bucket(
    amount: float, table: str = "b", key: str = "", capacity: float = 10, rate: float = 1, dry: bool = False
) -> Claim:
    return BucketClaim(table, key, amount, capacity, rate, capacity, 100, dry)


def slot(name: str, table: str = "s", limit: int = 2, ttl: float = 60, dry: bool = False) -> Claim:
    return SlotClaim(table, "", name, limit, ttl, 100, dry)


LOOKUP = Lookup("cache", "key")
ENTRY = CacheEntry(b"answer", 1, 2, 0, 100)


def left(store: MemoryStore, table: str, now: float = 0) -> float:
    levels = store.levels(table, 1, now)
    return levels[0].left if levels else math.nan


def test_gates_are_all_or_nothing() -> None:
    store = MemoryStore()
    store.ask(Claims(limits=(slot("a"), slot("b"))), 0)
    answer = store.ask(Claims(limits=(bucket(4), slot("c"), bucket(3, "other"))), 0)
    assert answer.taken == ()
    assert answer.short is not None
    assert answer.short.claim == slot("c")
    assert (left(store, "b"), left(store, "other"), left(store, "s")) == (10, 10, 0)


def test_a_slot_that_was_held_already_is_not_lost_with_a_refusal() -> None:
    store = MemoryStore()
    store.ask(Claims(limits=(slot("a"),)), 0)
    assert store.ask(Claims(limits=(slot("a"), bucket(11))), 0).short is not None
    assert left(store, "s") == 1


def test_the_claim_that_comes_last_is_named() -> None:
    store = MemoryStore()
    store.ask(Claims(limits=(bucket(10, "x"), bucket(10, "y", rate=0.1))), 0)
    short = store.ask(Claims(limits=(bucket(1, "x"), bucket(1, "y", rate=0.1), bucket(2, "x"))), 0).short
    assert short is not None
    assert short.claim.table == "y"
    assert short.at == pytest.approx(10)


def test_a_hit_leaves_the_lines_alone_and_keeps_the_gates() -> None:
    store = MemoryStore()
    store.keep(LOOKUP, ENTRY, CacheBounds(10, 1000), 0)
    answer = store.ask(Claims((bucket(1, "gate"),), LOOKUP, ((bucket(1, "line"),),)), 1)
    assert (answer.entry, answer.lines, answer.taken) == (ENTRY, 0, (bucket(1, "gate"),))
    assert store.levels("line", 1, 1) == []


def test_lines_are_taken_as_far_as_they_go() -> None:
    store = MemoryStore()
    store.ask(Claims(limits=(slot("a", limit=1),)), 0)
    lines = ((bucket(1, "first"),), (bucket(2, "second"), slot("b", limit=1)), (bucket(3, "third"),))
    answer = store.ask(Claims((bucket(5, "gate"),), LOOKUP, lines), 0)
    assert (answer.lines, answer.taken) == (1, (bucket(5, "gate"), bucket(1, "first")))
    assert answer.short is not None
    assert answer.short.claim == slot("b", limit=1)
    assert (left(store, "gate"), left(store, "first"), left(store, "second")) == (5, 9, 10)
    assert store.levels("third", 1, 0) == []


def test_dry_claims_never_refuse_and_are_taken_where_they_fit() -> None:
    store = MemoryStore()
    ask = Claims(limits=(bucket(6, "dry", dry=True), bucket(1, "real")))
    assert store.ask(ask, 0).dry_short == ()
    second = store.ask(ask, 0)
    assert (second.dry_short, second.taken, second.short) == ((bucket(6, "dry", dry=True),), (bucket(1, "real"),), None)


def test_returns() -> None:
    store = MemoryStore()
    taken = store.ask(Claims(limits=(bucket(10), slot("a", limit=1))), 0).taken
    store.settle([Return(taken[0], 4), Return(taken[1])], 0)
    store.settle([Return(taken[1]), Return(bucket(1, "new"), -30)], 0)
    assert (left(store, "b"), left(store, "s"), left(store, "new")) == (4, 1, -20)


def test_peeking_takes_nothing_and_agrees_with_asking() -> None:
    rng = random.Random(2)
    store = MemoryStore()
    now = 0.0
    for _ in range(2000):
        now += rng.random()
        claim = rng.choice([bucket(rng.randint(1, 11), key=rng.choice("ab")), slot(str(rng.random()), ttl=1.5)])
        peeked = store.peek(claim, now)
        asked = store.ask(Claims(limits=(claim,)), now).short
        assert (peeked is None) == (asked is None)
        if peeked is not None and asked is not None:
            assert peeked.at == asked.at
            assert never(peeked) == (isinstance(claim, BucketClaim) and claim.amount > 10)


def test_a_new_configuration_resizes() -> None:
    store = MemoryStore()
    store.ask(Claims(limits=(bucket(2),)), 0)
    store.ask(Claims(limits=(bucket(1, capacity=5),)), 0)
    assert left(store, "b") == 4


def test_looking_up_is_no_use() -> None:
    store = MemoryStore()
    bounds = CacheBounds(2, 1000)
    for name in "ab":
        store.keep(Lookup("cache", name), ENTRY, bounds, 0)
    assert store.look_up(Lookup("cache", "a"), 1) is ENTRY
    assert store.look_up(Lookup("cache", "a"), 100) is None
    store.keep(Lookup("cache", "c"), ENTRY, bounds, 0)
    assert store.look_up(Lookup("cache", "a"), 1) is None
    assert store.cached("cache") == (2, 12)
