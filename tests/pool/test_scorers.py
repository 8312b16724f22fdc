from __future__ import annotations

from collections import Counter

import pytest

from extproc.pool.cache_forecast import CacheForecast, CacheForecastParameters
from extproc.pool.policies import make_policy
from extproc.pool.policy import Scorer
from extproc.pool.scorers import (
    FewestRunning,
    KvFree,
    LoraAffinity,
    LoraReady,
    NotSaturated,
    QueueLength,
    SessionAffinity,
    waiting,
)
from tests.pool.build import asking, endpoint, observed, pool_of, send


def test_queue_length_is_scaled_and_counts_what_was_sent_since() -> None:
    short, middle, long = (
        observed(endpoint(name), waiting=value) for name, value in zip("abc", (0.0, 1.0, 4.0), strict=True)
    )
    assert QueueLength().score(asking(), [short, middle, long], 1.0) == [1.0, 0.75, 0.0]
    short.take(10)
    short.take(10)
    assert waiting(short, 1.0) == 2.0
    assert QueueLength().score(asking(), [short, middle, long], 1.0) == [pytest.approx(2 / 3), 1.0, 0.0]


def test_free_kv_is_what_is_not_used() -> None:
    full, free = observed(endpoint("a"), kv_usage=1.0), observed(endpoint("b"), kv_usage=0.25)
    assert KvFree().score(asking(), [full, free], 1.0) == [0.0, 0.75]


def test_running_counts_ours_and_others() -> None:
    ours, theirs = observed(endpoint("a", in_flight=3), running=3.0), observed(endpoint("b"), running=5.0)
    assert FewestRunning().score(asking(), [ours, theirs], 1.0) == [1.0, 0.0]


@pytest.mark.parametrize("scorer", [QueueLength(), KvFree(), FewestRunning()])
def test_unknown_and_stale_figures_are_never_the_best(scorer: Scorer) -> None:
    busy, unknown = observed(endpoint("a"), waiting=5.0, running=5.0, kv_usage=0.9), endpoint("b")
    idle = observed(endpoint("c"))
    scores = scorer.score(asking(), [busy, unknown, idle], 1.0)
    assert scores[1] == scores[0] < scores[2]
    stale = scorer.score(asking(), [busy, idle], 20.0)
    assert stale[0] == stale[1]


def test_saturated_endpoints_are_left_out_while_another_one_is_there() -> None:
    queued, full = observed(endpoint("a"), waiting=5.0), observed(endpoint("b"), kv_usage=0.8)
    fine, unknown = observed(endpoint("c"), waiting=4.0, kv_usage=0.7), endpoint("d")
    part = NotSaturated(5.0, 0.8)
    assert part.saturation(fine, 1.0) == pytest.approx(0.875)
    assert part.keep(asking(), [queued, full, fine, unknown], 1.0) == [fine, unknown]
    assert part.keep(asking(), [queued, full], 1.0) == [queued, full]


def test_a_session_has_one_endpoint_whatever_the_order_and_few_move_when_one_goes() -> None:
    members = [endpoint(f"10.0.0.{number}:8000") for number in range(8)]
    scorer = SessionAffinity()

    def home(session: str, among: list[str] | None = None) -> str:
        some = [one for one in members if among is None or one.address in among]
        scores = scorer.score(asking(session=session), some, 0.0)
        assert sorted(scores)[-2:] == [0.0, 1.0]
        assert scorer.score(asking(session=session), some[::-1], 0.0) == scores[::-1]
        return some[scores.index(1.0)].address

    sessions = [f"user-{number}" for number in range(400)]
    homes = {session: home(session) for session in sessions}
    assert all(20 <= count <= 85 for count in Counter(homes.values()).values()), Counter(homes.values())
    left = [one.address for one in members[1:]]
    moved = [session for session in sessions if home(session, left) != homes[session]]
    assert {homes[session] for session in moved} == {members[0].address}
    assert scorer.score(asking(), members, 0.0) == []


def test_an_adapter_prefers_where_it_is_loaded_then_room_then_its_queue() -> None:
    runs = observed(endpoint("runs"), running_adapters=("x", "y"), max_adapters=2.0)
    room = observed(endpoint("room"), running_adapters=("y",), waiting_adapters=("y",), max_adapters=2.0)
    waits = observed(endpoint("waits"), running_adapters=("y", "z"), waiting_adapters=("x",), max_adapters=2.0)
    full = observed(endpoint("full"), running_adapters=("y", "z"), max_adapters=2.0)
    unknown = observed(endpoint("unknown"))
    everyone = [runs, room, waits, full, unknown]
    assert LoraAffinity().score(asking(lora="x"), everyone, 1.0) == [1.0, 0.8, 0.6, 0.0, 0.0]
    assert LoraAffinity().score(asking(), everyone, 1.0) == []
    assert LoraAffinity().score(asking(lora="x"), everyone, 11.0) == [0.0] * 5
    assert LoraReady().keep(asking(lora="x"), everyone, 1.0) == [runs, room, waits]
    assert LoraReady().keep(asking(lora="x"), [full, unknown], 1.0) == [full, unknown]
    assert LoraReady().keep(asking(), everyone, 1.0) == everyone


def test_least_token_counts_uncached_prompts_and_output_to_come() -> None:
    pool = pool_of(make_policy("least-token"), "a", "b")
    first = send(pool, asking(1000, tuple(range(10)), expected_output_tokens=50), "a")
    again = asking(1000, tuple(range(10)))
    assert pool.pick(again, 0.0).candidates[0] == "b", "1051 tokens against 1000"
    first.served(1.0)
    assert pool.pick(again, 1.0).candidates[0] == "a", "50 tokens of output are left there, and the prompt is known"


def test_cached_tokens_of_requests_on_their_way_are_no_work() -> None:
    forecast = CacheForecast(CacheForecastParameters())
    made = endpoint("a")
    forecast.index.learn("a", [1, 2, 3])

    class Lease:
        request = asking(500, (1, 2, 3, 4))
        prefill = None

    lease = Lease()
    forecast.uncached(lease.request, [made])
    forecast.chosen(lease, made, 0.0)
    assert forecast.saved(made) == 300.0
    forecast.released(lease, made, 0.0)
    assert forecast.saved(made) == 0.0
