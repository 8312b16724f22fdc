from __future__ import annotations

import pytest

from bench.scrape import page
from extproc.pool.engines.metrics import parse_metrics


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_the_pages_are_about_as_long_as_said_and_tell_a_new_load_at_each_step(dialect: str) -> None:
    loads = [parse_metrics(page(dialect, 50_000, step), 0.0) for step in range(3)]
    assert all(50_000 < len(page(dialect, 50_000, step)) < 55_000 for step in range(3))
    assert {load.engine for load in loads if load} == {dialect}
    for figure in ("running", "waiting", "prompt_tokens_total"):
        assert len({getattr(load, figure) for load in loads}) == 3
    assert all(load is not None and load.kv_usage is not None and load.num_blocks for load in loads)
