"""Policies against exact states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.pool.endpoint import Endpoint
from extproc.pool.load import EngineLoad
from extproc.pool.policies import make_policy
from extproc.pool.policy import (
    BestPicker,
    LeastRequests,
    PickRequest,
    ScoredPolicy,
    lowest_is_best,
)

REQUEST = PickRequest(model="m")


def endpoint(name: str, in_flight: int = 0, foreign: float | None = 0.0) -> Endpoint:
    """An endpoint at time 0; `foreign` None: nothing is known of its engine."""
    made = Endpoint(name, {}, 0.0)
    for _ in range(in_flight):
        made.take(0)
    if foreign is not None:
        made.observed(EngineLoad("vllm", 0.0, running=in_flight + foreign, waiting=0.0), 2.0)
    return made


def first(policy: str, endpoints: Sequence[Endpoint], now: float = 1.0, seed: int = 0) -> str:
    return make_policy(policy).choose(REQUEST, endpoints, 1, now, Random(seed))[0].address


def test_least_request_adds_what_is_ours_and_what_is_not() -> None:
    ours, theirs, both = endpoint("ours", 3, 0), endpoint("theirs", 0, 4), endpoint("both", 1, 1)
    assert LeastRequests().score(REQUEST, [ours, theirs, both], 1.0) == [0.5, 0.0, 1.0]
    assert first("least-request", [ours, theirs, both]) == "both"


def test_our_own_requests_in_the_scraped_figures_count_once() -> None:
    assert endpoint("a", in_flight=5, foreign=2).foreign == 2
    sharp = endpoint("b", in_flight=5)
    sharp.observed(EngineLoad("vllm", 0.0, running=3, waiting=0), 2.0)
    assert sharp.foreign == 0, "requests still on their way to the engine must not make the load negative"


def test_requests_that_end_while_a_scrape_runs_are_not_taken_for_foreign() -> None:
    busy = endpoint("a", in_flight=5, foreign=None)
    busy.scrape_begins(0.0)
    busy.take(0)
    for _ in range(4):
        busy.give_back(0)
    busy.observed(EngineLoad("vllm", 0.0, running=6, waiting=0), 2.0)
    assert busy.foreign == 0
    busy.scrape_begins(0.5)
    busy.observed(EngineLoad("vllm", 0.5, running=6, waiting=0), 2.0)
    assert busy.foreign == 4


def test_unknown_is_never_idle() -> None:
    unknown, idle, queued = endpoint("unknown", foreign=None), endpoint("idle"), endpoint("queued", foreign=3)
    for seed in range(20):
        assert first("least-request", [unknown, idle, queued], seed=seed) == "idle"


def test_stale_is_unknown() -> None:
    stale, busy = endpoint("stale"), endpoint("busy", foreign=3)
    assert first("least-request", [stale, busy], now=1.9) == "stale"
    assert LeastRequests().score(REQUEST, [stale, busy], 2.0) == [1.0, 1.0], "both stale: only our own load counts"
    busy.observed(EngineLoad("vllm", 2.0, running=3, waiting=0), 2.0)
    assert LeastRequests().score(REQUEST, [stale, busy], 2.5) == [1.0, 1.0]


def test_an_engine_that_tells_only_half_counts_with_that_half() -> None:
    half = endpoint("half", foreign=None)
    half.observed(EngineLoad("vllm", 0.0, waiting=4.0), 2.0)
    assert (half.foreign, half.fresh_until) == (4.0, 2.0)
    half.observed(EngineLoad("vllm", 1.0, kv_usage=0.5), 2.0)
    assert half.fresh_until == float("-inf")


def test_equals_are_chosen_evenly_whatever_their_order() -> None:
    equals = [endpoint(name) for name in "abcde"]
    random = Random(11)
    policy = make_policy("least-request")
    for order in (equals, equals[::-1]):
        counts = Counter(policy.choose(REQUEST, order, 1, 1.0, random)[0].address for _ in range(5000))
        assert set(counts) == set("abcde")
        assert all(850 < count < 1150 for count in counts.values()), counts  # 5 standard deviations


def test_round_robin_goes_round_and_lets_new_endpoints_in() -> None:
    members = [endpoint(name) for name in "abc"]
    policy = make_policy("round-robin")
    random = Random(3)
    turns = 0

    def turn() -> str:
        nonlocal turns
        turns += 1
        chosen = policy.choose(REQUEST, members, 1, 1.0, random)[0]
        chosen.picked_at = turns
        return chosen.address

    rounds = ["".join(turn() for _ in range(3)) for _ in range(4)]
    assert set(rounds[0]) == set("abc")
    assert rounds == [rounds[0]] * 4
    members.append(endpoint("d"))
    assert turn() == "d"
    assert "".join(turn() for _ in range(3)) == rounds[0]


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(0, 1000),
)
def test_the_picker_returns_the_best_in_order(scores: list[float], count: int, seed: int) -> None:
    endpoints = [endpoint(str(index)) for index in range(len(scores))]
    picked = BestPicker().pick(endpoints, scores, count, Random(seed))
    assert len({one.address for one in picked}) == len(picked) == min(count, len(scores))
    assert [scores[int(one.address)] for one in picked] == sorted(scores, reverse=True)[:count]


def test_a_scorer_that_returns_nan_is_an_error_and_no_endless_search() -> None:
    with pytest.raises(ValueError, match="NaN"):
        BestPicker().pick([endpoint("a")], [float("nan")], 1, Random(0))


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20))
def test_lowest_is_best_keeps_the_order(figures: list[float]) -> None:
    scores = lowest_is_best(figures)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)
    by_figure = [score for _, score in sorted(zip(figures, scores, strict=True))]
    assert by_figure == sorted(by_figure, reverse=True)
    assert scores[figures.index(min(figures))] == pytest.approx(1.0)


class OnlyLabelled:
    def keep(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> Sequence[Endpoint]:
        return [one for one in endpoints if one.labels.get("model") == request.model]


class ByName:
    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        return lowest_is_best([float(one.address) for one in endpoints])


def test_parts_compose_by_weight_after_the_filters() -> None:
    labelled = [endpoint(str(index), in_flight=2 - index) for index in range(3)]
    for one in labelled:
        one.labels["model"] = "m"
    everyone = [*labelled, endpoint("-1")]
    for weights, expected in (((1.0, 3.0), ["0", "1", "2"]), ((3.0, 1.0), ["2", "1", "0"])):
        policy = ScoredPolicy([(LeastRequests(), weights[0]), (ByName(), weights[1])], filters=[OnlyLabelled()])
        assert [one.address for one in policy.choose(REQUEST, everyone, 4, 1.0, Random(0))] == expected
        assert policy.choose(PickRequest(model="other"), everyone, 4, 1.0, Random(0)) == []


def test_a_policy_without_scorers_is_refused() -> None:
    with pytest.raises(ValueError, match="scorer"):
        ScoredPolicy([])
