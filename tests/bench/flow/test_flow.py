from __future__ import annotations

import math
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.flow import cost, exact, predictor, ssjf
from bench.flow.__main__ import main
from bench.flow.bars import Bar, quantile, rows
from bench.flow.gateway import Call, Fate, Gateway
from extproc.prediction.evaluate import Pair
from extproc.scheduling.policy import ConcurrencyScheduling, Policies
from extproc.scheduling.workloads import Scheduler, WorkloadParameters
from extproc.simulate.profile import PROFILES
from extproc.spec import Duration

PROFILE = PROFILES["8b-a100"]


def slots(number: int, *, timeout: float = 1e6) -> Policies:
    scheduler = Scheduler(default_workload_parameters=WorkloadParameters(queue_timeout=Duration(timeout)))
    return Policies(slots=(ConcurrencyScheduling(name="slots", max_concurrency=number, scheduler=scheduler),))


def calls(*arrivals: float, tokens: int = 100) -> list[Call]:
    return [Call(arrival=at, prompt_tokens=100, output_tokens=tokens) for at in arrivals]


class TestGateway:
    def test_one_slot_serves_one_after_the_other(self) -> None:
        fates = Gateway(slots(1), PROFILE, 1).play(calls(0.0, 0.1, 0.2))
        for before, after in pairwise(fates):
            assert before.finished is not None and after.admitted == pytest.approx(before.finished)

    def test_times_are_those_of_the_engine(self) -> None:
        (fate,) = Gateway(Policies(), PROFILE, 1).play(calls(1.0, tokens=11))
        assert fate.ttft == pytest.approx(PROFILE.step_seconds(0, 100))
        assert fate.e2e == pytest.approx(PROFILE.step_seconds(0, 100) + 10 * PROFILE.step_seconds(1, 0))

    def test_who_waits_too_long_has_no_answer_and_the_others_do(self) -> None:
        fates = Gateway(slots(1, timeout=1.0), PROFILE, 1).play(calls(0.0, 0.1, 20.0, tokens=300))
        assert [fate.finished is not None for fate in fates] == [True, False, True]
        assert fates[1].ttft == math.inf

    def test_engines_share_the_load(self) -> None:
        one = Gateway(Policies(), PROFILE, 1).play(calls(*[0.0] * 40))
        two = Gateway(Policies(), PROFILE, 2).play(calls(*[0.0] * 40))
        assert max(fate.e2e for fate in two) < max(fate.e2e for fate in one)

    def test_it_comes_out_the_same_every_time(self) -> None:
        def figures() -> list[tuple[float, float]]:
            played: list[Fate] = Gateway(slots(3), PROFILE, 2).play(calls(*[number * 0.2 for number in range(50)]))
            return [(fate.ttft, fate.e2e) for fate in played]

        assert figures() == figures()


class TestExact:
    def test_shares_are_due(self) -> None:
        assert exact.shares(1_000)[0] < 0.02

    def test_nothing_is_lost_and_requests_end_in_every_way(self) -> None:
        lost, kinds = exact.conservation(3_000)
        assert lost == 0
        assert all(kinds.values())

    def test_the_quota_is_under_pressure_and_holds(self) -> None:
        excess, admitted = exact.quota_excess()
        assert excess == 0
        assert 1_000 < admitted < 5_000


def pairs() -> list[Pair]:
    return [
        Pair(prompt=f"{text} number {number}", model="m", tokens=tokens + number)
        for number in range(60)
        for text, tokens in (("write a report on", 600), ("name", 10))
    ]


class TestOrder:
    def test_an_order_that_knows_lengths_is_faster_in_the_mean_and_does_the_same_work(self) -> None:
        (stream,) = ssjf.streams(pairs(), 1)
        at_once = [Call(arrival=0.0, prompt_tokens=9, output_tokens=c.output_tokens) for c in stream.calls]
        first, oracle = ssjf.play(at_once, "fcfs", 1), ssjf.play(at_once, "oracle, no guard", 1)
        assert oracle.mean < 0.8 * first.mean
        assert oracle.throughput == pytest.approx(first.throughput)

    def test_the_guarded_order_learns_from_answers_and_reorders(self) -> None:
        (stream,) = ssjf.streams(pairs(), 1)
        timed = [
            Call(arrival=4.0 * number, prompt_tokens=9, output_tokens=call.output_tokens)
            for number, call in enumerate(stream.calls * 3)
        ]
        first, ours = ssjf.play(timed, "fcfs", 1), ssjf.play(timed, "oracle, slack", 1)
        assert ours.mean < first.mean
        assert ours.throughput == pytest.approx(first.throughput, rel=0.02)

    def test_what_is_played_was_not_learned_from(self) -> None:
        streams = ssjf.streams(pairs())
        held_out = [pair for pair in pairs() if sha256(pair.prompt.encode()).digest()[0] & 1]
        assert sum(len(stream.calls) for stream in streams) == len(held_out)
        assert all(call.predicted > 0 for stream in streams for call in stream.calls)


def test_every_kind_of_policy_is_measured() -> None:
    assert len(cost.seven().every()) == 7


def test_bars_say_whether_they_are_met() -> None:
    assert str(Bar("a", 1.0, 1.0)) == "bar a 1 1 ok"
    assert str(Bar("b", 0.9, 1.0, least=True)) == "bar b 0.9 1 short"


def test_quantiles_and_tables() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([], 0.5) == 0
    assert rows(("a", "b"), [("long", 1.0)]) == "a     b\nlong  1"


def test_pairs_of_somebody_are_judged_by_command(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f'{{"prompt": "{p.prompt}", "model": "m", "tokens": {p.tokens}}}\n' for p in pairs()))
    result = CliRunner().invoke(main, ["--predictor", "--pairs", str(file)])
    assert "log2 histogram" in result.output
    assert "bar predictor_kendall_tau" in result.output


def test_missing_data_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--data", str(tmp_path)])
    assert result.exit_code == 2
    assert predictor.PAIRS in result.output
