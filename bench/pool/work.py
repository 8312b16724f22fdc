"""What the processes of the comparison are given to do."""

from __future__ import annotations

import time
from pathlib import Path

from bench.baselines import BASELINES
from bench.pool.cells import CELLS, Cell, capacity, load_trace, play, profile_of
from extproc.pool.policies import make_policy
from extproc.simulate.summary import Summary


def full_of(traces: Path, trace: str) -> float:
    """Requests per second that the engines can do at most."""
    cell = next(cell for cell in CELLS if cell.trace == trace and cell.load)
    return capacity(load_trace(traces, cell), profile_of(cell))


def play_named(traces: Path, cell: Cell, full: float, name: str) -> tuple[Summary, float]:
    """The figures, and how long that took."""
    trace = load_trace(traces, cell)
    theirs = BASELINES.get(name)
    policy = make_policy(name) if theirs is None else theirs(profile_of(cell).prefill_tokens_per_second)
    interval = 0.05 if name.startswith("llm-d") else 0.2
    began = time.thread_time()
    return play(cell, trace, full, name, policy, interval), time.thread_time() - began
