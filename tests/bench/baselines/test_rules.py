"""The formulas of other products, in exact states."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from bench.baselines import BASELINES
from bench.baselines.aibrix import AibrixPrefixCache
from bench.baselines.llmd import LlmdAffinity, PrefixShare, PrintedKv, PrintedQueue, llmd_default
from bench.baselines.sglang import SglangCacheAware
from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import PickRequest, Policy
from tests.pool.build import asking, endpoint, observed, pool_of, send


class Sent:
    """A request that a rule is told of."""

    prefill = None

    def __init__(self, request: PickRequest) -> None:
        self.request = request


def first(policy: Policy, request: PickRequest, *endpoints: Endpoint, seed: int = 0) -> str:
    return policy.choose(request, endpoints, 1, 1.0, Random(seed))[0].address


def test_llmd_default_is_queue_2_kv_2_prefix_3() -> None:
    a = observed(endpoint("a"), waiting=4.0, kv_usage=0.5)
    b = observed(endpoint("b"), waiting=0.0, kv_usage=0.1)
    c = observed(endpoint("c"), waiting=1.0, kv_usage=0.0)
    assert PrintedQueue().score(asking(), [a, b, c], 1.0) == [0.0, 1.0, 0.75]
    assert PrintedKv().score(asking(), [a, b, c], 1.0) == [0.5, 0.9, 1.0]
    share = PrefixShare()
    share.chosen(Sent(asking(blocks=(1, 2, 3))), a, 0.0)
    assert share.score(asking(blocks=(1, 2, 3, 4)), [a, b, c], 1.0) == [0.75, 0.0, 0.0]
    policy = llmd_default()
    policy.chosen(Sent(asking(blocks=(1, 2, 3))), a, 0.0)
    # a: 0 + 2 * 0.5 + 3 * share; b: 2 + 1.8 = 3.8; c: 1.5 + 2 = 3.5
    assert first(policy, asking(blocks=(1, 2, 3)), a, b, c) == "a"
    assert first(policy, asking(blocks=(1, 2, 3, 4)), a, b, c) == "b"


def test_llmd_believes_what_was_printed_last() -> None:
    a, b = observed(endpoint("a"), waiting=1.0), observed(endpoint("b"), waiting=0.0)
    for _ in range(50):
        b.take(0)
    assert first(llmd_default(), asking(), a, b) == "b"
    assert PrintedQueue().score(asking(), [a, b], 1e9) == [0.0, 1.0]


def test_llmd_affinity_sticks_from_80_percent_on() -> None:
    a, b = endpoint("a"), endpoint("b")
    policy = LlmdAffinity(1000.0)
    policy.chosen(Sent(asking(1000, tuple(range(8)))), a, 0.0)
    assert first(policy, asking(1000, tuple(range(10))), a, b) == "a"
    assert first(policy, asking(1100, tuple(range(11))), a, b) == "b", "8 of 11 blocks, and a has more tokens to do"


def test_llmd_affinity_breaks_at_18_seconds_and_takes_the_least_tokens() -> None:
    a, b = endpoint("a"), endpoint("b")
    request = asking(1000, tuple(range(10)))
    for tokens, expected in ((17_000, "a"), (18_500, "b")):
        policy = LlmdAffinity(1000.0)
        warm = Sent(request)
        policy.chosen(warm, a, 0.0)
        policy.served(warm, a, 0.5)
        policy.chosen(Sent(asking(tokens)), a, 1.0)
        assert first(policy, request, a, b) == expected
    policy = LlmdAffinity(1000.0)
    sent = Sent(asking(5000))
    policy.chosen(sent, a, 0.0)
    assert first(policy, asking(10), a, b) == "b"
    policy.released(sent, a, 1.0)
    assert {first(policy, asking(10), a, b, seed=seed) for seed in range(20)} == {"a", "b"}


def test_aibrix_ignores_the_prefix_when_requests_differ_by_more_than_8() -> None:
    for in_flight, expected in ((8, "b"), (9, "c")):
        members = [endpoint("a", in_flight=9 if in_flight == 9 else 8), endpoint("b", in_flight=1), endpoint("c")]
        policy = AibrixPrefixCache()
        policy.chosen(Sent(asking(blocks=(1, 2))), members[1], 0.0)
        assert first(policy, asking(blocks=(1, 2)), *members) == expected


def test_aibrix_takes_the_best_match_within_one_sigma() -> None:
    members = [endpoint(name, in_flight=count) for name, count in (("a", 6), ("b", 2), ("c", 0), ("d", 0))]
    policy = AibrixPrefixCache()
    policy.chosen(Sent(asking(blocks=(1, 2, 3))), members[0], 0.0)
    policy.chosen(Sent(asking(blocks=(1,))), members[1], 0.0)
    # mean 2, sigma 2.45: a with 6 is beyond 4.45
    assert first(policy, asking(blocks=(1, 2, 3)), *members) == "b"
    assert first(policy, asking(blocks=(9,)), *members) in ("c", "d")


def test_sglang_matches_above_a_third_unless_out_of_balance() -> None:
    a, b = endpoint("a"), endpoint("b")
    policy = SglangCacheAware()
    policy.chosen(Sent(asking(1000, (1, 2, 3, 4))), a, 0.0)
    assert first(policy, asking(1000, tuple(range(1, 14))), a, b) == "a", "4 of 13 blocks are more than 0.3"
    assert first(policy, asking(1000, tuple(range(1, 15))), a, b) == "b", "4 of 14 are not; b was sent less"
    for _ in range(65):
        a.take(0)
    assert first(policy, asking(1000, (1, 2, 3, 4)), a, b) == "b", "65 against 0 requests"
    for _ in range(50):
        b.take(0)
    assert first(policy, asking(1000, (1, 2, 3, 4)), a, b) == "a", "only 15 apart"


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_no_rule_depends_on_the_order_and_all_let_go(name: str) -> None:
    for order in ("abcd", "dcba"):
        counts = Counter(
            pool_of(BASELINES[name](1000.0), *order, seed=seed).pick(asking(), 0.0).candidates[0] for seed in range(600)
        )
        assert all(100 < counts[address] < 200 for address in order), counts  # 5 standard deviations
    policy = BASELINES[name](1000.0)
    pool = pool_of(policy, "a", "b")
    for number in range(6):
        lease = send(pool, asking(1000, (number, 7)), "ab"[number % 2])
        lease.served(1.0)
        lease.release(2.0)
    pool.set_members({}, 3.0)
    prefixes = getattr(policy, "_prefixes", None)
    if prefixes is not None:
        assert prefixes._index.view().endpoints == 0
