"""The store in Redis gives the same answers as the one in memory, to one asker and to many."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio.connection import SSLConnection

from extproc.scheduling.state.claims import (
    BucketClaim,
    CacheBounds,
    CacheEntry,
    Claim,
    Claims,
    Grant,
    Lookup,
    Return,
    SlotClaim,
)
from extproc.scheduling.state.memory import MemoryStore
from extproc.shared.options import RedisOptions
from extproc.shared.store import RedisStore
from tests.shared.clock import Clock
from tests.shared.conftest import Open
from tests.support.redis import RedisServer

BOUNDS = CacheBounds(3, 40)
KEYS = ("", "a", "b", "c", "d", "\udc80 half a character", "x" * 400)


class Step(msgspec.Struct, frozen=True):
    wait: float
    ask: Claims
    give: tuple[float, ...] = ()
    """Shares of earlier takings that are returned afterwards; above 1 or below 0 there is more, or a debt."""
    keep: CacheEntry | None = None


amounts = st.one_of(st.integers(0, 11).map(float), st.floats(0, 10.5))


def bucket(table: str, most: int) -> st.SearchStrategy[Claim]:
    return st.builds(
        BucketClaim,
        st.just(table),
        st.sampled_from(KEYS if most > 1 else ("",)),
        amounts,
        st.sampled_from((10.0, 5.0)),
        st.sampled_from((1.0, 0.1, 0.0)),
        st.sampled_from((10.0, 0.0)) if table == "late" else st.just(10.0),
        st.just(most),
        st.booleans(),
    )


def slot(table: str, most: int) -> st.SearchStrategy[Claim]:
    return st.builds(
        SlotClaim,
        st.just(table),
        st.sampled_from(KEYS if most > 1 else ("",)),
        st.uuids().map(str),
        st.integers(0, 3),
        st.just(5.0),
        st.just(most),
        st.booleans(),
    )


claims = st.one_of(bucket("one", 1), bucket("many", 3), bucket("late", 2), slot("in", 1), slot("each", 3))
groups = st.lists(claims, max_size=3).map(tuple)
lookups = st.sampled_from(
    (None, Lookup("cache", "p"), Lookup("cache", "q"), Lookup("cache", "r"), Lookup("cache", "s"))
)
asks = st.builds(Claims, groups, lookups, st.lists(groups, max_size=3).map(tuple))
entries = st.builds(
    CacheEntry,
    st.binary(max_size=50),
    st.integers(0, 9),
    st.integers(0, 9),
    st.floats(0, 5),
    st.one_of(st.floats(1, 9), st.just(0.0)),
)
steps = st.lists(
    st.builds(
        Step,
        st.one_of(st.just(0.0), st.floats(0, 8)),
        asks,
        st.lists(st.floats(-1, 2), max_size=3).map(tuple),
        st.none() | entries,
    ),
    max_size=12,
)


def same(mine: Grant, other: Grant) -> None:
    assert (mine.taken, mine.lines, mine.dry_short) == (other.taken, other.lines, other.dry_short)
    assert (mine.short and mine.short.claim) == (other.short and other.short.claim)
    if mine.short is not None and other.short is not None:
        assert mine.short.at == pytest.approx(other.short.at, abs=1e-6)
    assert (mine.entry is None) == (other.entry is None)
    if mine.entry is not None and other.entry is not None:
        assert msgspec.structs.replace(mine.entry, stored_at=0, expires_at=0) == msgspec.structs.replace(
            other.entry, stored_at=0, expires_at=0
        )
        assert mine.entry.stored_at == pytest.approx(other.entry.stored_at)
        assert mine.entry.expires_at == pytest.approx(other.entry.expires_at)


async def play(store: RedisStore, transcript: Sequence[Step]) -> None:
    memory = MemoryStore()
    taken: list[Claim] = []
    now = 1000.0
    for step in transcript:
        now += step.wait
        answer = await store.ask(step.ask, now)
        assert store.shared
        same(answer, memory.ask(step.ask, now))
        taken += answer.taken
        returns = [
            Return(taken.pop(0), share * getattr(claim, "amount", 0.0))
            for share, claim in zip(step.give, tuple(taken), strict=False)
        ]
        memory.settle(returns, now)
        store.settle(returns, now)
        if step.keep is not None and step.ask.lookup is not None:
            entry = msgspec.structs.replace(
                step.keep, stored_at=now - step.keep.stored_at, expires_at=now + step.keep.expires_at
            )
            memory.keep(step.ask.lookup, entry, BOUNDS, now)
            store.keep(step.ask.lookup, entry, BOUNDS, now)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_the_same_transcript_gives_the_same_answers(server: RedisServer, transcript: list[Step]) -> None:
    play_once(server, transcript)


def play_once(server: RedisServer, transcript: Sequence[Step]) -> None:
    async def run() -> None:
        server.do("FLUSHALL")
        options = RedisOptions(own_time=True, limit=30.0, give_up=30.0)
        store = RedisStore(server.url, clock=Clock(), options=options)
        await store.start()
        try:
            await play(store, transcript)
            assert store.mode == "shared"
        finally:
            await store.stop()
        assert store.undelivered == (0, 0)

    asyncio.run(run())


class Use(msgspec.Struct, frozen=True):
    key: str
    amount: float
    wait: float


uses = st.lists(
    st.builds(Use, st.sampled_from("abcdefghijklmnop"), st.floats(0, 3), st.sampled_from((0.0, 0.0, 1.0))),
    min_size=20,
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(uses)
def test_a_full_table_forgets_the_same_keys(server: RedisServer, transcript: list[Use]) -> None:
    def step(use: Use) -> Step:
        return Step(use.wait, Claims((BucketClaim("many", use.key, use.amount, 3.0, 1.0, 3.0, 10),)))

    play_once(server, [step(use) for use in transcript])


def one(amount: float = 1.0, capacity: float = 10.0, rate: float = 0.0, key: str = "") -> Claims:
    return Claims(limits=(BucketClaim("quota", key, amount, capacity, rate, capacity, 100),))


def place(name: str, limit: int = 10, ttl: float = 60.0) -> Claims:
    return Claims(lines=((SlotClaim("slots", "", name, limit, ttl),),))


async def test_a_hundred_at_once_over_two_stores_get_what_is_there(server: RedisServer, connect: Open) -> None:
    stores = [await connect(server), await connect(server)]
    answers = await asyncio.gather(*(stores[n % 2].ask(one(), 1000.0) for n in range(100)))
    assert sum(bool(answer.taken) for answer in answers) == 10
    slots = await asyncio.gather(*(stores[n % 2].ask(place(str(n)), 1000.0) for n in range(100)))
    assert sum(bool(answer.taken) for answer in slots) == 10


async def test_a_decision_is_one_command_and_asks_do_not_wait_for_each_other(
    server: RedisServer, connect: Open
) -> None:
    store = await connect(server, heartbeat=1000.0)
    before = server.calls("evalsha")
    asks = [
        store.ask(Claims((*one().limits, *one(key="k").limits), Lookup("c", "k"), place(str(n)).lines), 1000.0)
        for n in range(20)
    ]
    tasks = [asyncio.ensure_future(ask) for ask in asks]
    await asyncio.sleep(0)
    channel = store._link.channel
    assert channel is not None
    assert channel.backlog == 20
    await asyncio.gather(*tasks)
    assert server.calls("evalsha") - before == 20
    assert server.calls("eval") == 0


async def test_what_is_settled_is_there_for_the_next_ask(server: RedisServer, connect: Open) -> None:
    store = await connect(server)
    first = await store.ask(place("a", limit=1), 1000.0)
    for number in range(50):
        store.settle([Return(first.taken[0])], 1000.0)
        first = await store.ask(place(str(number), limit=1), 1000.0)
        assert first.taken


async def test_a_cancelled_ask_gives_back(server: RedisServer, connect: Open) -> None:
    store = await connect(server)
    task = asyncio.ensure_future(store.ask(Claims(one(10.0).limits, None, place("a", limit=1).lines), 1000.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (await store.ask(one(10.0), 1000.0)).taken  # comes to Redis before the cancelled one's answer is back
    assert (await store.ask(one(10.0), 1000.0)).taken
    assert (await store.ask(place("b", limit=1), 1000.0)).taken
    assert store.counters.late == 1


async def test_the_asking_replicas_configuration_wins_for_its_own_decision(server: RedisServer, connect: Open) -> None:
    large, small = await connect(server), await connect(server)
    assert (await large.ask(one(2.0, capacity=10.0), 1000.0)).taken
    assert not (await small.ask(one(6.0, capacity=5.0), 1000.0)).taken
    assert (await small.ask(one(5.0, capacity=5.0), 1000.0)).taken
    assert not (await large.ask(one(1.0, capacity=10.0), 1000.0)).taken
    for limit, store, granted in ((3, large, 3), (1, small, 0), (5, large, 2)):
        answers = [await store.ask(place(f"{limit}.{n}", limit=limit), 1000.0) for n in range(5)]
        assert sum(bool(answer.taken) for answer in answers) == granted


async def test_redis_time_decides_and_answers_are_on_the_askers_clock(server: RedisServer, connect: Open) -> None:
    store = await connect(server, own_time=False)
    assert (await store.ask(one(10.0, rate=0.01), 5.0)).taken
    short = (await store.ask(one(1.0, rate=0.01), -7.0)).short
    assert short is not None
    assert short.at == pytest.approx(93.0, abs=1.0)
    never = (await store.ask(one(11.0, rate=0.01), -7.0)).short
    assert never is not None
    assert math.isinf(never.at)
    entry = CacheEntry(b"body", 3, 4, 90.0, 200.0)
    store.keep(Lookup("c", "k"), entry, BOUNDS, 100.0)
    found = (await store.ask(Claims(lookup=Lookup("c", "k")), 500.0)).entry
    assert found is not None
    assert (found.body, found.prompt_tokens) == (b"body", 3)
    assert found.stored_at == pytest.approx(490.0, abs=1.0)
    assert found.expires_at == pytest.approx(600.0, abs=1.0)


async def test_a_step_back_of_redis_clock_neither_fills_nor_stops_a_bucket(server: RedisServer, connect: Open) -> None:
    store = await connect(server, own_time=False)
    assert (await store.ask(one(10.0, rate=1e-3), 0.0)).taken
    last, ahead = read_clock(server, store)
    write_clock(server, store, last + 86_400, ahead - 86_400)  # as if it had gone a day ahead until then
    short = (await store.ask(one(10.0, rate=1e-3), 0.0)).short
    assert short is not None
    assert short.at == pytest.approx(10_000, abs=10)
    again, more = read_clock(server, store)
    assert again + more == pytest.approx(last + ahead, abs=10)


async def test_a_step_forward_of_redis_clock_fills_a_bucket_and_frees_slots_at_most(
    server: RedisServer, connect: Open
) -> None:
    store = await connect(server, own_time=False)
    assert (await store.ask(Claims(one(10.0, rate=1e-3).limits, None, place("a", limit=1).lines), 0.0)).lines == 1
    last, ahead = read_clock(server, store)
    write_clock(server, store, last, ahead + 86_400)
    answers = [await store.ask(one(1.0, rate=1e-3), 0.0) for _ in range(12)]
    assert sum(bool(answer.taken) for answer in answers) == 10
    answers = [await store.ask(place(str(n), limit=1), 0.0) for n in range(3)]
    assert sum(bool(answer.taken) for answer in answers) == 1


def read_clock(server: RedisServer, store: RedisStore) -> tuple[float, float]:
    """Redis's time at the last look, and what is added to it."""
    last, ahead = struct.unpack(">dd", server.do("GET", f"{store.options.prefix}:clock"))
    return last, ahead


def write_clock(server: RedisServer, store: RedisStore, last: float, ahead: float) -> None:
    server.do("SET", f"{store.options.prefix}:clock", struct.pack(">dd", last, ahead))


async def test_a_million_values_keep_a_bounded_number_of_keys_that_expire(server: RedisServer, connect: Open) -> None:
    store = await connect(server)
    await asyncio.gather(*(store.ask(one(1.0, key=f"{n}" * 100), 1000.0) for n in range(500)))
    keys = [key.decode() for key in server.do("KEYS", f"{store.options.prefix}:*")]
    assert len([key for key in keys if ":b:" in key]) == 101
    assert max(map(len, keys)) < 400
    assert all(server.do("PTTL", key) > 0 for key in keys)
    other = await store.ask(one(1.0, key="new"), 1000.0)
    assert other.short is not None


async def test_entries_of_the_cache_and_slots_expire_by_themselves(server: RedisServer, connect: Open) -> None:
    store = await connect(server)
    store.keep(Lookup("c", "k"), CacheEntry(b"body", 1, 1, 1000.0, 1030.0), BOUNDS, 1000.0)
    await store.ask(place("a"), 1000.0)
    assert all(0 < server.do("PTTL", key) < 150_000 for key in server.do("KEYS", f"{store.options.prefix}:[cs]:*"))


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost?db=x"])
async def test_a_bad_url_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RedisStore(url, clock=Clock())


async def test_tls_is_asked_for_by_the_url(clock: Clock) -> None:
    store = RedisStore("rediss://redis.example:6380/2", clock=clock)
    connection = store._link._connection()
    assert isinstance(connection, SSLConnection)
    assert (connection.host, connection.port, connection.db, connection.check_hostname) == (
        "redis.example",
        6380,
        2,
        True,
    )


async def test_a_password_is_sent_and_never_shown(own_server: RedisServer, connect: Open, clock: Clock) -> None:
    own_server.do("CONFIG", "SET", "requirepass", "hidden-word")
    asked = RedisOptions(own_time=True, limit=30.0, retry=0.01)
    wrong = RedisStore(own_server.url, clock=clock, options=asked, password=lambda: "wrong-word")
    right = RedisStore(own_server.url, clock=clock, options=asked, password=lambda: "hidden-word")
    for store in (wrong, right):
        await store.start()
    try:
        assert (wrong.mode, right.mode) == ("local", "shared")
        assert "word" not in f"{wrong!r} {right!r} {right._link!r}"
    finally:
        for store in (wrong, right):
            await store.stop()
