from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bench.baselines import BASELINES
from bench.pool import decision
from bench.pool.__main__ import main
from bench.pool.bars import Bar, bars_of, lost
from bench.pool.cells import CELLS, PREFILL_RATE, capacity, play, profile_of
from extproc.pool.policies import make_policy
from extproc.simulate.scenario import Outcome
from extproc.simulate.summary import Summary, summarise
from tests.simulate.build import PROFILE, conversations


def summary(policy: str, ttft: float, failed: int = 0) -> Summary:
    outcomes = [Outcome(0.0, 10, 2, 0, 0, ttft, ttft + 1.0, "answered")]
    return summarise(policy, outcomes + [Outcome(0.0, 1, 1, ending="failed")] * failed, 1)


def test_a_bar_says_its_name_value_limit_and_whether_it_holds() -> None:
    assert str(Bar("a", 1.0, 1.0)) == "bar a 1 1 ok"
    assert str(Bar("a", 1.0, 1.0, strict=True)) == "bar a 1 1 short"
    assert str(Bar("b_us", 41.25, 40)) == "bar b_us 41.25 40 short"


def test_ours_is_held_against_the_published_figure_and_the_best_baseline() -> None:
    found = {
        one.policy: one for one in (summary("prefix-cache", 1.3), summary("random", 2.0), summary("least-token", 1.0))
    }
    bars = bars_of("prefill only, conversation", found, BASELINES)
    assert [str(bar) for bar in bars] == [
        "bar prefill_only_conversation_ttft 1.3 1.29 short",
        "bar prefill_only_conversation_below_baselines 1.3 2 ok",
    ]
    assert lost("cell", found, BASELINES) == []
    worse = {**found, "random": summary("random", 1.2)}
    assert lost("cell", worse, BASELINES)[0] == "cell: random has the better mean TTFT, 1.200 against 1.300"


def test_the_cells_are_those_that_were_asked_for() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS) == 12
    assert {cell.load for cell in CELLS if not cell.prefill_only} == {0.6, 0.8, 0.95}
    for cell in CELLS[:2]:
        fifo = profile_of(cell)
        assert (fifo.max_num_seqs, fifo.num_blocks, fifo.step_seconds(0, 800)) == (
            1,
            3000,
            800 / PREFILL_RATE[cell.trace],
        )


def test_load_is_a_share_of_what_the_engines_can_do() -> None:
    trace = conversations(8, 8)
    full = capacity(trace, PROFILE)
    assert full > 0
    cell = msgspec.structs.replace(CELLS[2], load=0.5, crash=True, burst=4)
    found = play(cell, trace, full, "x", make_policy("prefix-cache"), 0.2)
    assert found.requests == len(trace.requests)
    assert found.ttft.mean > 0


def test_a_decision_is_measured_in_its_parts() -> None:
    cost = decision.cost_of_a_pick(3, 4096)
    assert 0 < cost.hashing < cost.total
    assert decision.cost_of_a_traced_pick(3, 20) > 0
    assert 20 < decision.bytes_of_a_block(blocks=5000, endpoints=4) < 400


def test_missing_traces_are_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--traces", str(tmp_path)])
    assert result.exit_code == 2
    assert "lacks mooncake_conversation.jsonl.gz, mooncake_synthetic.jsonl.gz: give the folder" in result.output


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_baseline_plays(name: str) -> None:
    found = play(CELLS[0], conversations(4, 3), 0.0, name, BASELINES[name](8000.0), 0.05)
    assert (found.rejected, found.failed) == (0, 0)
