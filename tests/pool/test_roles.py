from __future__ import annotations

from random import Random

import msgspec
import pytest

from extproc.pool.load import EngineLoad
from extproc.pool.policies import PolicyConfig, make_policy
from extproc.pool.pool import Pool
from extproc.pool.roles import DynamicSplit, StaticSplit, decode_costs
from tests.pool.build import LOAD, asking, endpoint, observed, pool_of, send

ROLES = {"p1": "prefill", "p2": "prefill", "d1": "decode", "d2": "decode"}


def static(**parameters: object) -> tuple[Pool, StaticSplit]:
    policy = make_policy(PolicyConfig(name="static-pd", parameters=parameters))
    assert isinstance(policy, StaticSplit)
    return pool_of(policy, *ROLES, roles=ROLES), policy


def test_the_destination_decodes_and_the_other_one_prefills() -> None:
    pool, _ = static()
    pick = pool.pick(asking(1000, (1, 2)), 0.0)
    assert set(pick.candidates) == {"d1", "d2"}
    assert pick.prefill in ("p1", "p2")
    assert {view.address: view.in_flight for view in pool.view(0.0).endpoints if view.in_flight} == {
        pick.candidates[0]: 1,
        pick.prefill: 1,
    }


def test_the_prefill_endpoint_is_free_after_the_first_token_and_both_remember_the_prompt() -> None:
    pool, policy = static()
    pick = pool.pick(asking(1000, (1, 2)), 0.0)
    pick.lease.served(1.0)
    assert [view.address for view in pool.view(1.0).endpoints if view.in_flight] == [pick.candidates[0]]
    held = policy._forecast.index.depths((1, 2), [pick.candidates[0], str(pick.prefill)])
    assert held == [2, 2]
    pick.lease.release(2.0)
    assert all((view.in_flight, view.tokens) == (0, 0) for view in pool.view(2.0).endpoints)


def test_a_short_or_cached_prompt_is_not_split() -> None:
    pool, _ = static(splitAbove=500)
    assert pool.pick(asking(499), 0.0).prefill is None
    assert pool.pick(asking(500), 0.0).prefill is not None
    pool, _ = static(splitAbove=500)
    first = pool.pick(asking(1000, tuple(range(10))), 0.0)
    first.lease.served(1.0)
    first.lease.release(1.0)
    again = pool.pick(msgspec.structs.replace(asking(1200, tuple(range(12))), subset=None), 2.0)
    if again.candidates[0] == first.candidates[0]:
        assert again.prefill is None, "200 tokens are left"
    else:
        assert again.prefill == first.prefill, "the prompt is cached there"


def test_the_prefill_side_weighs_match_against_requests() -> None:
    pool, policy = static()
    known = send(pool, asking(1000, tuple(range(10))), "p1")
    known.served(0.0)
    known.release(0.0)
    helpers = [found for name in ("p1", "p2") if (found := pool.find(name))]
    request = asking(1000, tuple(range(5)))
    assert policy._prefill_costs(request, helpers, policy._forecast.uncached(request, helpers)) == [5.0, 10.0]
    helpers[0].take(0)
    helpers[0].take(0)
    helpers[1].take(0)
    assert policy._prefill_costs(request, helpers, policy._forecast.uncached(request, helpers)) == [6.0, 10.5]


def test_the_decode_formula() -> None:
    busy = observed(endpoint("a"), running=8.0, kv_usage=0.5, generated_per_s=200.0)
    idle = observed(endpoint("b"), running=4.0, kv_usage=0.0, generated_per_s=100.0)
    assert decode_costs([busy, idle], 1.0) == [(1 + 1 - 1) / 0.5, (0.5 + 1 - 0.5) / 1]


def test_one_role_alone_still_serves() -> None:
    policy = make_policy("static-pd")
    for role in ("prefill", "decode", "both"):
        pool = pool_of(policy, "x", "y", roles={"x": role, "y": role})
        pick = pool.pick(asking(5000), 0.0)
        assert set(pick.candidates) == {"x", "y"}
        if role == "prefill":
            assert pick.prefill != pick.candidates[0]
        else:
            assert pick.prefill is None


def dynamic(**parameters: object) -> tuple[Pool, DynamicSplit]:
    fields = {"prefillRate": 1000.0, "promptOverhead": 0, **parameters}
    policy = make_policy(PolicyConfig(name="dynamic-pd", parameters=fields))
    assert isinstance(policy, DynamicSplit)
    return pool_of(policy, *ROLES, roles=ROLES), policy


def busy(pool: Pool, address: str, usage: float) -> None:
    pool.observe(address, msgspec.structs.replace(LOAD, kv_usage=usage, taken_at=0.0), 0.0)


def test_a_role_borrows_only_when_all_its_endpoints_are_under_pressure() -> None:
    pool, policy = dynamic()
    send(pool, asking(3000), "p1")
    pool.pick(asking(1), 0.0)
    assert policy.lent == {}, "p2 is idle"
    send(pool, asking(3000), "p2")
    pool.pick(asking(1), 0.0)
    assert list(policy.lent.values()) == ["prefill"]


def test_hysteresis() -> None:
    pool, policy = dynamic(holdSeconds=10.0)
    held = [send(pool, asking(3000), name) for name in ("p1", "p2")]
    endpoints = [found for name in ROLES if (found := pool.find(name))]
    busy(pool, "d1", 0.4)
    busy(pool, "d2", 0.2)
    policy.choose(asking(1), endpoints, 3, 0.0, Random(0))
    assert policy.lent == {"d2": "prefill"}, "the idler one"
    policy.choose(asking(1), endpoints, 3, 5.0, Random(0))
    for lease in held:
        lease.release(6.0)
    policy.choose(asking(1), endpoints, 3, 9.0, Random(0))
    assert policy.lent == {"d2": "prefill"}, "too soon after the last change"
    policy.choose(asking(1), endpoints, 3, 10.0, Random(0))
    assert policy.lent == {}


def test_no_role_lends_its_last_endpoint_or_while_it_is_under_pressure_itself() -> None:
    pool, policy = dynamic()
    for name in ("p1", "p2"):
        send(pool, asking(3000), name)
    endpoints = [found for name in ROLES if (found := pool.find(name))]
    busy(pool, "d1", 0.9)
    busy(pool, "d2", 0.2)
    policy.choose(asking(1), endpoints, 3, 0.0, Random(0))
    assert policy.lent == {}
    policy.choose(asking(1), [one for one in endpoints if one.address != "d1"], 3, 1.0, Random(0))
    assert policy.lent == {}


def test_decode_borrows_when_its_caches_are_full_and_our_own_tokens_count_at_once() -> None:
    pool, policy = dynamic()
    endpoints = [found for name in ROLES if (found := pool.find(name))]
    for name in ("d1", "d2"):
        pool.observe(name, EngineLoad("vllm", 0.0, running=1.0, kv_usage=0.1, block_size=10.0, num_blocks=100.0), 0.0)
        send(pool, asking(900), name)
    assert policy.pressure(endpoints[2], "decode", 0.0) == pytest.approx(0.9 / 0.8)
    policy.choose(asking(1), endpoints, 3, 0.0, Random(0))
    assert list(policy.lent.values()) == ["decode"]
    lent = next(iter(policy.lent))
    assert lent in policy.choose(asking(1), endpoints, 1, 1.0, Random(0))[0].address
    pool.set_members({}, 2.0)
    assert policy.lent == {}


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="return_below"):
        dynamic(returnBelow=2.0)
