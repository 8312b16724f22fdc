"""Redis slow, gone, emptied and back: nobody is left waiting, and what is taken stays within what is said."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest

from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.policy import (
    Caching,
    ConcurrencyScheduling,
    LoadRamping,
    Policies,
    QuotaScheduling,
    RampStep,
    RateLimiting,
)
from extproc.scheduling.ramp import Ramp
from extproc.scheduling.report import explain, state
from extproc.scheduling.state.claims import BucketClaim, Claim, Claims, Grant, Lookup, Return, SlotClaim
from extproc.scheduling.ticket import Prepared
from extproc.shared.fallback import Local, LocalBucket
from extproc.shared.store import RedisStore
from extproc.spec import Duration
from tests.shared.clock import Clock
from tests.shared.conftest import Open
from tests.support.redis import RedisServer

SLOW = 0.25


def bucket(amount: float = 1.0, capacity: float = 10.0, rate: float = 0.0) -> BucketClaim:
    return BucketClaim("quota", "", amount, capacity, rate, capacity)


def slot(name: str, limit: int = 10) -> SlotClaim:
    return SlotClaim("slots", "", name, limit, 600.0)


def gate(*claims: Claim) -> Claims:
    return Claims(limits=claims)


async def granted(store: RedisStore, number: int, capacity: float = 10.0) -> int:
    answers = await asyncio.gather(*(store.ask(gate(bucket(capacity=capacity)), 1000.0) for _ in range(number)))
    return sum(bool(answer.taken) for answer in answers)


async def slots(store: RedisStore, names: range, limit: int = 10) -> list[Grant]:
    answers = await asyncio.gather(*(store.ask(gate(slot(str(n), limit)), 1000.0) for n in names))
    return [answer for answer in answers if answer.taken]


async def test_without_redis_from_the_start_a_share_holds(
    own_server: RedisServer, connect: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sluice.shared")
    own_server.kill()
    store = await connect(own_server, replicas=4)
    assert store.mode == "local"
    assert await granted(store, 20, capacity=12.0) == 3
    assert len(await slots(store, range(20))) == 2
    own_server.start()
    await store.until("shared")
    assert await granted(store, 20, capacity=12.0) == 9  # what was taken alone has been charged
    assert len(await slots(store, range(20, 40))) == 8
    said = [record.levelno for record in caplog.records if record.name == "sluice.shared"]
    assert said == [logging.WARNING, logging.INFO]


async def test_a_frozen_redis_is_answered_for_and_what_it_took_meanwhile_goes_back(
    own_server: RedisServer, connect: Open
) -> None:
    store = await connect(own_server, limit=SLOW)
    assert await granted(store, 4) == 4
    own_server.freeze()
    assert await granted(store, 30) == 10  # on their way when it froze: decided alone
    assert (store.mode, store.counters.failures) == ("local", 1)
    own_server.thaw()
    await store.until("shared")
    assert store.counters.late == 30
    assert store.undelivered[1] == 0
    store.settle([Return(bucket(), 4.0 + 10.0)], 1000.0)  # the four, and the ten charged
    assert await granted(store, 30) == 10


async def test_killed_and_back_under_load(own_server: RedisServer, connect: Open) -> None:
    """Two replicas, many askers: every ask is answered, and the capacity is exceeded once for each start anew."""
    stores = [await connect(own_server, limit=SLOW, heartbeat=0.02) for _ in range(2)]
    stop = asyncio.Event()
    counts = {"asked": 0, "tokens": 0}
    inside: set[str] = set()
    most = 0

    async def load(number: int) -> None:
        nonlocal most
        store = stores[number % 2]
        while not stop.is_set():
            counts["asked"] += 1
            name = str(counts["asked"])
            answer = await store.ask(gate(slot(name, 6), bucket(capacity=40.0)), 1000.0)
            if answer.taken:
                counts["tokens"] += 1
                inside.add(name)
                most = max(most, len(inside))
                await asyncio.sleep(0)
                inside.discard(name)
                store.settle([Return(claim) for claim in answer.taken], 1000.0)
            else:
                await asyncio.sleep(0.001)  # a client that comes again

    tasks = [asyncio.ensure_future(load(n)) for n in range(20)]
    for store in stores:
        await store.beat()
    assert [store.replicas for store in stores] == [2, 2]
    for _ in range(2):
        own_server.kill()
        await asyncio.gather(*(store.until("local") for store in stores))
        own_server.start()
        await asyncio.gather(*(store.until("shared") for store in stores))
    stop.set()
    await asyncio.gather(*tasks)
    assert counts["asked"] > 100
    assert counts["tokens"] <= 40 * 5  # the first, then for each loss: two halves alone, and Redis anew
    assert most <= 12
    answers = await slots(stores[0], range(10**6, 10**6 + 6), limit=6)
    assert len(answers) == 6, "every slot has come back"


async def test_emptied_in_the_middle(server: RedisServer, connect: Open) -> None:
    store = await connect(server, heartbeat=1000.0)
    held = await slots(store, range(8))
    assert await granted(store, 20) == 10
    server.do("FLUSHALL")
    server.do("SCRIPT", "FLUSH")
    assert await granted(store, 20) == 10  # buckets start anew
    await store.beat()
    assert store.counters.emptied == 1
    assert len(await slots(store, range(100, 120))) == 2  # slots in flight are known again
    store.settle([Return(claim) for answer in held for claim in answer.taken], 1000.0)
    assert len(await slots(store, range(200, 220))) == 8
    assert (store.mode, store.counters.failures) == ("shared", 0)


async def test_what_is_returned_while_redis_is_away_arrives_once(own_server: RedisServer, connect: Open) -> None:
    store = await connect(own_server, limit=SLOW)
    before = await store.ask(gate(bucket(6.0), slot("a", 1)), 1000.0)
    own_server.freeze()
    during = await store.ask(gate(bucket(3.0)), 1000.0)
    assert isinstance(during.taken[0], LocalBucket)
    store.settle([Return(before.taken[0], 5.0), Return(before.taken[1]), Return(during.taken[0], 1.0)], 1000.0)
    own_server.thaw()
    await store.until("shared")
    # 10 - 6 + 5 - (3 - 1)
    assert (await store.ask(gate(bucket(7.0)), 1000.0)).taken
    assert not (await store.ask(gate(bucket(1.0)), 1000.0)).taken
    store.settle([Return(during.taken[0], 2.0)], 1000.0)  # taken alone, returned together
    assert (await store.ask(gate(bucket(2.0), slot("b", 1)), 1000.0)).taken


async def test_given_up_while_frozen_what_it_did_unseen_is_made_good(own_server: RedisServer, connect: Open) -> None:
    store = await connect(own_server, limit=0.1, give_up=0.3)
    own_server.freeze()
    assert len(await slots(store, range(6))) == 6  # alone, while Redis has the same asks before it
    channel = store._link.channel
    assert channel is not None
    await asyncio.gather(*channel._tasks, return_exceptions=True)
    assert store.counters.unknown == 6
    own_server.thaw()
    await store.until("shared")
    store.settle([Return(slot(str(n))) for n in range(3)], 1000.0)
    assert len(await slots(store, range(10, 30))) == 7
    assert store.counters.failures == 1


async def test_a_batch_that_is_sent_again_takes_effect_once(server: RedisServer, connect: Open) -> None:
    store = await connect(server)
    taken = (await store.ask(gate(bucket(10.0)), 1000.0)).taken
    store.settle([Return(taken[0], 3.0)], 1000.0)
    batch = list(store._outbox._new)
    assert not (await store.ask(gate(bucket(4.0)), 1000.0)).taken
    store._outbox._number -= 1
    store._outbox._new = batch
    store._outbox.size += 1
    assert not (await store.ask(gate(bucket(4.0)), 1000.0)).taken
    assert (await store.ask(gate(bucket(3.0)), 1000.0)).taken


async def test_a_cluster_is_refused(own_server: RedisServer, connect: Open, caplog: pytest.LogCaptureFixture) -> None:
    own_server.kill()
    own_server.start("--cluster-enabled", "yes", "--port", "0")
    store = await connect(own_server)
    assert store.mode == "local"
    assert "Cluster is not supported" in caplog.text


def test_alone_a_large_request_leaves_a_debt() -> None:
    local = Local(4, 1, (), 0.0)
    big = BucketClaim("quota", "", 8.0, 12.0, 4.0, 12.0)
    first = local.ask(gate(big), 0.0)
    assert first.taken[0].key == ""
    short = local.ask(gate(big), 0.0).short
    assert short is not None
    assert short.claim is big
    assert short.at == pytest.approx(8.0)  # at a quarter of the rate: 5 of debt, then a share that is full
    assert [claim.amount for claim in local.deficits(0.0)] == [8.0]
    whole = BucketClaim("quota", "", 13.0, 12.0, 4.0, 12.0)
    never = local.ask(gate(whole), 100.0).short
    assert never is not None
    assert never.at == float("inf")


async def test_ramps_are_shared(server: RedisServer, connect: Open, clock: Clock) -> None:
    policy = LoadRamping(
        name="ramp", steps=(RampStep(0.0, Duration(10.0)), RampStep(100.0, Duration(100.0))), start=False
    )
    stores = [await connect(server, heartbeat=1000.0), await connect(server, heartbeat=1000.0)]
    ramps = [Ramp(policy, clock.now), Ramp(policy, clock.now)]
    for store, ramp in zip(stores, ramps, strict=True):
        store.ramps = partial(tuple, (ramp,))
    clock.now += 5
    ramps[0].command("forward", clock.now)
    clock.now += 50
    for store in stores:
        await store.beat()
    assert ramps[1].state.command == "forward"
    assert ramps[1].position(clock.now) == pytest.approx(50.0, abs=0.5)
    ramps[1].command("hold", clock.now)
    for store in (stores[1], stores[0]):
        await store.beat()
    assert ramps[0].state.command == "hold"


async def test_a_ramp_that_started_later_adopts_the_earlier_one(
    server: RedisServer, connect: Open, clock: Clock
) -> None:
    policy = LoadRamping(
        name="ramp", steps=(RampStep(0.0, Duration(10.0)), RampStep(100.0, Duration(100.0))), start=True
    )
    store = await connect(server, heartbeat=1000.0)
    early, late = Ramp(policy, clock.now - 60), Ramp(policy, clock.now)
    for ramp in (early, late, early):
        store.ramps = partial(tuple, (ramp,))
        await store.beat()
    assert early.state.version == late.state.version == 1
    assert late.position(clock.now) == pytest.approx(60.0, abs=0.5)


async def test_the_report_shows_what_redis_has(server: RedisServer, connect: Open, clock: Clock) -> None:
    store = await connect(server)
    policies = Policies(
        rates=(RateLimiting(name="each", limit_by_label_key="user", bucket_capacity=5.0, fill_amount=1.0),),
        caches=(Caching(name="cache"),),
        quotas=(QuotaScheduling(name="all", bucket_capacity=9.0, fill_amount=1.0),),
        slots=(ConcurrencyScheduling(name="slots", max_concurrency=1),),
    )
    flow = Flow(policies, clock.now, store=store.near, remote=True)
    job = Job(id="1", labels={"user": "ann"}, cache_key="k")
    prepared = flow.prepare(job, clock.now)
    assert isinstance(prepared, Prepared)
    await store.ask(prepared.ask, clock.now)
    await store.look(flow, clock.now, job)
    shown = {row.name: row for row in state(flow, clock.now)}
    assert [(level.key, level.left, level.limit) for level in shown["each"].levels] == [("ann", 4.0, 5.0)]
    assert [level.left for level in shown["all"].levels] == [8.0]
    assert [level.left for level in shown["slots"].levels] == [0.0]
    assert shown["cache"].entries == 0
    said = {row.policy: row.says for row in explain(flow, job, clock.now)}
    assert (said["each"], said["slots"]) == ("pass", "wait")
    assert store.near.look_up(Lookup("cache", "other"), clock.now) is None
