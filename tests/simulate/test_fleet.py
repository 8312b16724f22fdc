"""The simulation against times worked out by hand, and then that it is the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from extproc.pool.endpoint import Endpoint
from extproc.pool.policies import POLICIES, make_policy
from extproc.pool.policy import PickRequest, Policy
from extproc.pool.waiting import QueueLimits, SaturationLimits
from extproc.simulate.fleet import run
from extproc.simulate.scenario import Crash, FleetConfig, Outcome, address_of, engines
from extproc.simulate.summary import summarise
from extproc.simulate.trace import at_once
from tests.simulate.build import PROFILE, conversations, profile, trace


class First(Policy):
    """The endpoints in the order of their addresses; shows what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float | None]] = []

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        ordered = sorted(endpoints, key=lambda endpoint: endpoint.address)
        load = ordered[0].load
        self.seen.append((now, None if load is None else load.running))
        return ordered[:count]


def times(outcome: Outcome) -> tuple[int, float | None, float | None, int]:
    return outcome.engine, outcome.first_token, outcome.finished, outcome.cached_tokens


def test_one_engine_by_hand() -> None:
    played = run(
        trace((0.0, 1024, 3, (1, 2)), (8.0, 1536, 1, (1, 2, 3))), First(), FleetConfig(profiles=engines(PROFILE, 1))
    )
    assert [times(outcome) for outcome in played] == [
        (0, 1.25, 1.75, 0),
        (0, 8.0 + 0.25 + 0.5, 8.75, 1024),
    ]
    assert [outcome.ending for outcome in played] == ["answered", "answered"]


def test_the_gateway_sees_metrics_as_old_as_they_are() -> None:
    some = trace(*((float(number), 1024, 40, ()) for number in range(4)))
    prompt, late = First(), First()
    run(some, prompt, FleetConfig(profiles=engines(PROFILE, 1), metrics_interval=0.25))
    run(some, late, FleetConfig(profiles=engines(PROFILE, 1), metrics_interval=0.25, metrics_delay=1.5))
    assert [running for _, running in prompt.seen] == [0.0, 1.0, 2.0, 3.0]
    assert [running for _, running in late.seen] == [None, None, 0.0, 0.0]


def test_a_crash_loses_answers_retries_prompts_and_the_engine_returns_empty() -> None:
    some = trace(
        (0.0, 512, 100, (1,)),  # answers since 0.75 when the crash comes
        (1.0, 8192, 1, ()),  # computed from 1.0 on
        (2.5, 512, 1, ()),
        (40.0, 600, 1, (1,)),
    )
    config = FleetConfig(profiles=engines(PROFILE, 2), crashes=(Crash(0, 2.0, 30.0),))
    broken, retried, meanwhile, after = run(some, First(), config)
    assert (broken.ending, broken.engine, broken.finished) == ("failed", 0, None)
    assert times(retried) == (1, 2.0 + 2 * 0.25 + 8.0, 10.5, 0)
    assert meanwhile.engine == 1
    assert (after.engine, after.cached_tokens, after.ending) == (0, 0, "answered")


def test_with_no_engine_left_a_request_is_rejected_or_failed() -> None:
    config = FleetConfig(profiles=engines(PROFILE, 1), crashes=(Crash(0, 1.0, 50.0),))
    lost, refused = run(trace((0.0, 8192, 5, ()), (2.0, 10, 1, ())), First(), config)
    assert (lost.ending, refused.ending) == ("failed", "rejected")


def test_a_prompt_that_no_engine_takes_is_rejected() -> None:
    refused, fine = run(trace((0.0, 50_000, 1, ()), (1.0, 10, 1, ())), First(), FleetConfig(profiles=(PROFILE,)))
    assert (refused.ending, fine.ending) == ("rejected", "answered")


def test_requests_wait_in_the_gateway_while_all_are_busy() -> None:
    limits = SaturationLimits(queue_depth=None, kv_usage=None, in_flight=1)
    some = trace((0.0, 1024, 1, ()), (0.0, 1024, 1, ()), (0.0, 1024, 1, ()), (0.0, 1024, 1, ()))
    queue = QueueLimits(max_size=2, timeout=2.0)
    played = run(some, First(), FleetConfig(profiles=(PROFILE,), saturation=limits, queue=queue))
    assert [outcome.first_token for outcome in played] == [1.25, 2.5, None, None]
    assert [outcome.ending for outcome in played] == ["answered", "answered", "rejected", "rejected"]


def test_prefill_and_decode_on_their_own_engines() -> None:
    profiles = (profile(role="prefill"), profile(role="decode"))
    config = FleetConfig(profiles=profiles, transfer_tokens_per_second=1024.0)
    long, short = run(trace((0.0, 1024, 3, ()), (8.0, 100, 2, ())), make_policy("static-pd"), config)
    assert times(long) == (1, 1.25 + 1.0 + 0.25 + 1 / 1024, 2.5 + 1 / 1024 + 0.5, 0)
    assert short.engine == 1
    assert short.first_token == 8.25 + 100 / 1024, "too short to be split"


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_same_input_gives_the_same_output(name: str) -> None:
    some = conversations(6, 5)
    config = FleetConfig(profiles=engines(profile(jitter=0.1), 4), crashes=(Crash(1, 5.0, 8.0),), seed=3)
    first, second = (run(some, make_policy(name), config) for _ in range(2))
    assert first == second
    assert sum(outcome.ending == "answered" for outcome in first) >= 28


def test_prefix_cache_finds_what_round_robin_does_not() -> None:
    some, config = conversations(7, 6), FleetConfig(profiles=engines(PROFILE, 4))
    found = {name: summarise(name, run(some, make_policy(name), config), 4) for name in ("prefix-cache", "round-robin")}
    assert found["prefix-cache"].hit_rate > 0.5 > 0.3 > found["round-robin"].hit_rate
    assert found["prefix-cache"].ttft.mean < found["round-robin"].ttft.mean


def test_slow_engines_get_less() -> None:
    fleet = engines(PROFILE, 4, slow=(2,), slowdown=4.0)
    assert [one.prefill_tokens_per_second for one in fleet] == [1024.0, 1024.0, 256.0, 1024.0]
    some = trace(*((number * 0.5, 1024, 1, ()) for number in range(200)))
    played = run(some, make_policy("prefix-cache"), FleetConfig(profiles=fleet))
    shares = [sum(outcome.engine == engine for outcome in played) for engine in range(4)]
    assert shares[2] * 2 < min(shares[0], shares[1], shares[3])


def test_everything_at_once_ends() -> None:
    played = run(at_once(conversations(5, 5)), make_policy("least-request"), FleetConfig(profiles=engines(PROFILE, 2)))
    assert {outcome.ending for outcome in played} == {"answered"}
    assert len({address_of(number) for number in range(600)}) == 600
