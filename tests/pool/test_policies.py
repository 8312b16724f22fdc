"""Every policy by its name: parameters, and what all of them have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.pool.endpoint import Endpoint
from extproc.pool.load import EngineLoad
from extproc.pool.policies import DEFAULT, POLICIES, BadPolicy, PolicyConfig, make_policy
from extproc.pool.policy import PickRequest, Policy
from extproc.pool.pool import Lease, NoEndpoints, Pool
from extproc.pool.prompt import Prompt
from tests.pool.build import asking, pool_of

NAMES = sorted(POLICIES)


def test_the_default_is_there_and_every_parameter_has_a_default() -> None:
    assert DEFAULT in POLICIES
    for name in NAMES:
        assert isinstance(make_policy(name), Policy)
        assert isinstance(make_policy(PolicyConfig(name=name)), Policy)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PolicyConfig(name="prefix-cash"), "least-request, least-token, llm-metric-based, prefix-cache"),
        (PolicyConfig(name="prefix-cache", parameters={"blockByte": 64}), "blockBytes, maxPromptBlocks"),
        (PolicyConfig(name="prefix-cache", parameters={"blockBytes": 0}), "block_bytes must be above 0"),
        (PolicyConfig(name="prefix-cache", parameters={"blockBytes": "64"}), "Expected `int`"),
        (PolicyConfig(name="round-robin", parameters={"x": 1}), "its parameters are none"),
        (PolicyConfig(name="llm-metric-based", parameters={"kvLimit": 0}), "above 0"),
        (PolicyConfig(name="no.such.module:Class"), "no.such.module"),
        (PolicyConfig(name="tests.pool.test_policies:Nobody"), "Nobody"),
        (PolicyConfig(name="tests.pool.test_policies:Closest", parameters={"x": 1}), "unexpected keyword"),
        (PolicyConfig(name="collections:Counter"), "is no"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_allowed(config: PolicyConfig, message: str) -> None:
    with pytest.raises(BadPolicy, match=message):
        make_policy(config)


class Closest(Policy):
    """A user's own policy: the nearest zone first, and within it the fewest requests."""

    def __init__(self, zone: str = "a") -> None:
        self.zone = zone

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        def cost(endpoint: Endpoint) -> tuple[bool, int, float]:
            return endpoint.labels.get("zone") != self.zone, endpoint.in_flight, random.random()

        return sorted(endpoints, key=cost)[:count]


def test_a_user_s_own_policy_is_found_by_name() -> None:
    policy = make_policy(PolicyConfig(name="tests.pool.test_policies:Closest", parameters={"zone": "b"}))
    pool = Pool("p", policy, retry_count=1, stale_after=1.0, random=Random(0))
    pool.set_members({"1": {"zone": "a"}, "2": {"zone": "b"}, "3": {"zone": "b"}}, 0.0)
    first, second, third = (pool.pick(asking(), 0.0).candidates for _ in range(3))
    assert {first[0], second[0]} == {"2", "3"}
    assert third[0] in ("2", "3")
    assert len(first) == 2


@pytest.mark.parametrize("name", NAMES)
def test_equals_are_chosen_evenly_whatever_their_order(name: str) -> None:
    for order in ("abcde", "edcba"):
        places = [Counter[str](), Counter[str](), Counter[str]()]
        for seed in range(1200):
            pick = pool_of(make_policy(name), *order, seed=seed).pick(asking(blocks=(1, 2)), 0.0)
            for place, address in zip(places, pick.candidates, strict=True):
                place[address] += 1
        for place in places:
            assert all(170 < place[address] < 310 for address in order), place  # 5 standard deviations


@pytest.mark.parametrize("name", NAMES)
def test_a_subset_limits_the_choice(name: str) -> None:
    pool = pool_of(make_policy(name), *"abcde")
    picks = {pool.pick(asking(subset=frozenset("bd")), 0.0).candidates[0] for _ in range(20)}
    assert picks == {"b", "d"}
    with pytest.raises(NoEndpoints, match="none_fits"):
        pool.pick(asking(subset=frozenset("xy")), 0.0)


EVENT = st.tuples(
    st.sampled_from(["pick", "served", "release", "move", "members", "scrape", "fail", "restart"]),
    st.integers(0, 9),
    st.integers(0, 40),
)


@pytest.mark.parametrize("name", NAMES)
@given(events=st.lists(EVENT, max_size=60))
@settings(max_examples=25, deadline=None)
def test_after_any_mixture_of_endings_nothing_is_left(name: str, events: list[tuple[str, int, int]]) -> None:
    parameters = {"indexBlocks": 40} if "endpointBlocks" in _names(name) else {}
    policy = make_policy(PolicyConfig(name=name, parameters=parameters))
    roles = {"a": "prefill", "b": "decode", "c": "both", "d": "prefill"}
    pool = pool_of(policy, *roles, roles=roles)
    held: list[Lease] = []
    for number, (event, which, size) in enumerate(events):
        now = float(number)
        address = "abcd"[which % 4]
        if event == "pick":
            request = asking(size * 100, tuple(range(which, which + size)), tells_first_token=bool(which % 2))
            try:
                held.append(pool.pick(request, now).lease)
            except NoEndpoints:
                continue
        elif event == "served" and held:
            held[which % len(held)].served(now)
        elif event == "release" and held:
            held.pop(which % len(held)).release(now)
        elif event == "move" and held:
            held[which % len(held)].move(address, now)
        elif event == "members":
            pool.set_members({one: {"role": roles[one]} for one in roles if one != address}, now)
        elif event == "fail":
            pool.failed(address, now)
        else:
            total = 1e6 + number if event == "scrape" else 0.0
            load = EngineLoad("vllm", now, running=1.0, waiting=float(size), kv_usage=0.5, prompt_tokens_total=total)
            pool.scrape_begins(address, now)
            pool.observe(address, msgspec.structs.replace(load, block_size=10.0, num_blocks=100.0), now)
    for lease in held:
        lease.release(1000.0)
    assert all((view.in_flight, view.tokens) == (0, 0) for view in pool.view(1000.0).endpoints)
    forecast = getattr(policy, "forecast", getattr(policy, "_forecast", None))
    if forecast is not None:
        view = forecast.index.view()
        assert view.blocks <= 40
        assert view.expected == 0
        assert not forecast._journeys
        assert all(backlog.tokens == 0.0 for backlog in forecast._backlogs.values())
        pool.set_members({}, 1001.0)
        assert (forecast.index.view().endpoints, forecast.index._where) == (0, {})


def _names(policy: str) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(POLICIES[policy].parameters)}


@pytest.mark.parametrize("name", ["prefix-cache", "least-token", "static-pd", "dynamic-pd"])
def test_what_the_index_holds_is_shown_and_freed_with_its_endpoint(name: str) -> None:
    pool = Pool("gpus", make_policy(name), retry_count=0, stale_after=2.0, random=Random(0))
    pool.set_members({"10.0.0.1:80": {}}, 0.0)
    request = PickRequest(model="m", prompt_tokens=1000, prompt=Prompt([b"x" * 4096], model="m"))
    lease = pool.pick(request, 0.0).lease
    lease.served(1.0)
    lease.release(2.0)
    shown = pool.view(2.0).prefix_index
    assert shown is not None
    assert shown.blocks > 0
    assert shown.bytes > 0
    pool.set_members({}, 3.0)
    shown = pool.view(3.0).prefix_index
    assert shown is not None
    assert (shown.blocks, shown.endpoints) == (0, 0)


@pytest.mark.parametrize("name", ["round-robin", "least-request", "llm-metric-based"])
def test_policies_without_an_index_show_none(name: str) -> None:
    pool = Pool("gpus", make_policy(name), retry_count=0, stale_after=2.0, random=Random(0))
    assert pool.view(0.0).prefix_index is None
