"""`prefix-cache` in exact states. Speeds are the assumed 1000 tokens/s until something was served."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from extproc.pool.policies import PolicyConfig, make_policy
from extproc.pool.pool import Pool
from extproc.pool.ttft import EarliestFirstToken
from tests.pool.build import LOAD, asking, observed, pool_of, send

EXACT = {"prefillRate": 1000.0, "promptOverhead": 0, "requestSeconds": 0.0, "ownWeight": 1.0}


def build(*addresses: str, seed: int = 0, **parameters: object) -> tuple[Pool, EarliestFirstToken]:
    policy = make_policy(PolicyConfig(name="prefix-cache", parameters={**EXACT, **parameters}))
    assert isinstance(policy, EarliestFirstToken)
    return pool_of(policy, *addresses, seed=seed), policy


def seconds(
    pool: Pool, policy: EarliestFirstToken, *addresses: str, now: float = 0.0, **request: object
) -> list[float]:
    endpoints = [found for address in addresses if (found := pool.find(address))]
    return policy.seconds(asking(**request), endpoints, now)  # type: ignore[arg-type]


def test_queued_and_own_uncached_tokens_over_the_speed() -> None:
    pool, policy = build("a", "b")
    send(pool, asking(3000, (1, 2, 3)), "a")
    assert seconds(pool, policy, "a", "b") == [4.0, 1.0]
    assert seconds(pool, policy, "a", "b", tokens=500, blocks=(1, 2, 3)) == [3.2, 0.5], "a will have 300 of 500 tokens"
    assert seconds(pool, policy, "a", "b", now=2.0) == [2.0, 1.0]


def test_the_wait_for_a_cache_is_weighed_against_computing_again() -> None:
    pool, _ = build("a", "b")
    lease = send(pool, asking(1000, tuple(range(10))), "a")
    lease.served(1.0)
    lease.release(2.0)
    more = asking(2000, tuple(range(20)))
    assert pool.pick(more, 3.0).candidates == ("a", "b"), "half of it is there"
    pool, _ = build("a", "b")
    first = send(pool, asking(1000, tuple(range(10))), "a")
    first.served(1.0)
    send(pool, asking(5000), "a", now=1.0)
    assert pool.pick(more, 1.0).candidates == ("b", "a"), "5 s of queue are more than 1 s saved"


def test_only_what_was_served_is_remembered() -> None:
    pool, policy = build("a", "b")
    failed = send(pool, asking(1000, (1, 2)), "a")
    assert seconds(pool, policy, "a", tokens=200, blocks=(1, 2)) == [1.001], "on its way: queue, and one token is left"
    failed.release(0.0)
    assert seconds(pool, policy, "a", tokens=200, blocks=(1, 2)) == [0.2]
    answered = send(pool, asking(1000, (1, 2)), "a")
    answered.served(1.0)
    answered.release(9.0)
    assert policy.forecast.index.view().blocks == 2
    assert policy.forecast.index.view().expected == 0


def test_a_request_that_moves_is_learnt_where_it_was_served() -> None:
    pool, policy = build("a", "b")
    lease = send(pool, asking(1000, (1, 2)), "a")
    lease.move("b", 1.0)
    assert policy.forecast.index.depths((1, 2), ["a", "b"]) == [0, 2]
    lease.served(2.0)
    lease.release(3.0)
    assert policy.forecast.index.depths((1, 2), ["a", "b"]) == [0, 2]


def test_the_engine_s_own_cache_size_bounds_what_is_remembered() -> None:
    pool, policy = build("a")
    found = pool.find("a")
    assert found is not None
    observed(found, block_size=16.0, num_blocks=25.0)  # 400 tokens are 4 blocks of 100
    lease = send(pool, asking(1000, tuple(range(10))), "a")
    lease.served(1.0)
    assert policy.forecast.index.depths(tuple(range(10)), ["a"]) == [4]


def test_a_restarted_engine_and_one_that_goes_have_an_empty_cache() -> None:
    pool, policy = build("a", "b")
    for address in ("a", "b"):
        lease = send(pool, asking(1000, (1, 2)), address)
        lease.served(1.0)
        lease.release(1.0)
    pool.observe("a", msgspec.structs.replace(LOAD, prompt_tokens_total=5000.0), 2.0)
    pool.observe("a", msgspec.structs.replace(LOAD, prompt_tokens_total=6000.0), 3.0)
    assert policy.forecast.index.depths((1, 2), ["a", "b"]) == [2, 2]
    pool.observe("a", msgspec.structs.replace(LOAD, prompt_tokens_total=10.0), 4.0)
    assert policy.forecast.index.depths((1, 2), ["a", "b"]) == [0, 2]
    held = send(pool, asking(1000, (3,)), "b")
    pool.set_members({}, 5.0)
    held.served(6.0)
    held.release(6.0)
    assert (policy.forecast.index.view().endpoints, policy.forecast.index.view().blocks) == (0, 0)


def test_requests_of_others_count_as_the_usual_ones() -> None:
    pool, policy = build("a", "b")
    found = pool.find("a")
    assert found is not None
    observed(found, running=3.0, waiting=2.0)
    assert seconds(pool, policy, "a", "b") == [2.024, 1.0], "2 waiting requests of 512 tokens"
    assert seconds(pool, policy, "a", "b", now=11.0) == [1.0, 1.0], "stale figures tell nothing"
    pool, policy = build("a", "b", requestSeconds=0.1)
    found = pool.find("a")
    assert found is not None
    observed(found, running=3.0, waiting=0.0)
    assert seconds(pool, policy, "a", "b") == [1.3, 1.0]


def test_a_slow_gpu_gets_less() -> None:
    pool, policy = build("slow", "fast")
    now = 0.0
    for _ in range(40):
        slow, fast = send(pool, asking(), "slow", now), send(pool, asking(), "fast", now)
        fast.served(now + 0.5)
        slow.served(now + 2.0)
        now += 2.0
        slow.release(now)
        fast.release(now)
    slow_wait, fast_wait = seconds(pool, policy, "slow", "fast", now=now)
    assert slow_wait == pytest.approx(4 * fast_wait, rel=0.3)
    assert {pool.pick(asking(), now).candidates[0] for _ in range(2)} == {"fast"}


def test_no_herd_in_a_burst() -> None:
    pool, _ = build(*"abcdefgh")
    prompt = asking(1000, tuple(range(10)))
    send(pool, prompt, "a").served(1.0)
    chosen = [pool.pick(asking(2000, tuple(range(100 * index, 100 * index + 20))), 1.0) for index in range(16)]
    counts = [sum(pick.candidates[0] == name for pick in chosen) for name in "abcdefgh"]
    assert counts == [2] * 8


def test_a_session_and_an_adapter_weigh_against_the_estimate() -> None:
    homes = set()
    for number in range(30):
        pool, _ = build("a", "b", seed=number, sessionWeight=1.5)
        homes.add(pool.pick(asking(session="s"), 0.0).candidates[0])
    assert len(homes) == 1
    home = homes.pop()
    pool, _ = build("a", "b", sessionWeight=1.5)
    send(pool, asking(9000), home)
    assert pool.pick(asking(session="s"), 0.0).candidates[0] == home
    pool, _ = build("a", "b", sessionWeight=0.5)
    send(pool, asking(9000), home)
    assert pool.pick(asking(session="s"), 0.0).candidates[0] != home
    pool, _ = build("a", "b")
    for address, adapters in (("a", ("other",)), ("b", ("mine",))):
        found = pool.find(address)
        assert found is not None
        observed(found, running_adapters=adapters, waiting_adapters=(), max_adapters=1.0)
    send(pool, asking(9000), "b")
    assert pool.pick(asking(lora="mine"), 0.0).candidates[0] == "b", "a would have to unload another one first"


def test_without_any_endpoint_nothing_is_chosen() -> None:
    _, policy = build("a")
    assert policy.choose(asking(), [], 3, 0.0, Random(0)) == []
