"""The situations in which policies are compared."""

from __future__ import annotations

from pathlib import Path

import msgspec

from extproc.pool.policies import make_policy
from extproc.pool.policy import Policy
from extproc.simulate.fleet import run
from extproc.simulate.profile import PROFILES, EngineProfile
from extproc.simulate.scenario import Crash, FleetConfig, engines
from extproc.simulate.summary import Summary, summarise
from extproc.simulate.trace import Trace, at_once, compressed, in_bursts, read_trace

ENGINES = 8
TRACES = {"conversation": "mooncake_conversation.jsonl.gz", "synthetic": "mooncake_synthetic.jsonl.gz"}
PREFILL_RATE = {"conversation": 8_000.0, "synthetic": 12_000.0}
"""Tokens per second of the published comparison."""
_BLOCK = 512
"""Tokens in a block of the traces, and so of the engines' caches here."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the comparison."""

    name: str
    trace: str
    prefill_only: bool
    load: float = 0.0
    """Share of what the engines can do at most; 0: as fast as the trace was recorded."""
    slow: tuple[int, ...] = ()
    """Engines at half speed."""
    metrics_delay: float = 0.0
    burst: int = 0
    crash: bool = False


def _cells() -> tuple[Cell, ...]:
    fifo = [Cell(name=f"prefill only, {name}", trace=name, prefill_only=True) for name in TRACES]
    loads = [
        Cell(name=f"{name} at {load:.0%}", trace=name, prefill_only=False, load=load)
        for name in TRACES
        for load in (0.6, 0.8, 0.95)
    ]
    base = Cell(name="", trace="conversation", prefill_only=False, load=0.8)
    return (
        *fifo,
        *loads,
        msgspec.structs.replace(base, name="two engines at half speed", load=0.6, slow=(2, 5)),
        msgspec.structs.replace(base, name="metrics 1 s old", metrics_delay=1.0),
        msgspec.structs.replace(base, name="bursts of 800", load=0.6, burst=800),
        msgspec.structs.replace(base, name="one engine crashes and returns", crash=True),
    )


CELLS = _cells()


def profile_of(cell: Cell) -> EngineProfile:
    """One request at a time and nothing but prompts, 3,000 blocks; or an 8B model on an A100 as it is."""
    if cell.prefill_only:
        return EngineProfile(
            max_num_seqs=1,
            max_num_batched_tokens=1 << 20,
            block_size=_BLOCK,
            num_blocks=3_000,
            max_model_len=1_000_000,
            prefill_tokens_per_second=PREFILL_RATE[cell.trace],
            step_base=0.0,
            step_per_seq=0.0,
        )
    real = PROFILES["8b-a100"]
    blocks = real.num_blocks * real.block_size // _BLOCK
    return msgspec.structs.replace(real, block_size=_BLOCK, num_blocks=blocks, max_model_len=200_000)


def load_trace(folder: Path, cell: Cell) -> Trace:
    trace = read_trace(folder / TRACES[cell.trace])
    if not cell.prefill_only:
        return trace
    single = tuple(msgspec.structs.replace(request, output_tokens=1) for request in trace.requests)
    return msgspec.structs.replace(trace, requests=single)


def capacity(trace: Trace, profile: EngineProfile) -> float:
    """Requests per second that the engines finish when all of the trace is there at once, by least request."""
    outcomes = run(at_once(trace), make_policy("least-request"), FleetConfig(profiles=engines(profile, ENGINES)))
    return len(outcomes) / max(outcome.finished or 0.0 for outcome in outcomes)


def play(cell: Cell, trace: Trace, full: float, name: str, policy: Policy, interval: float) -> Summary:
    """One policy in one situation. `full`: `capacity` of the trace; `interval`: seconds between looks at metrics."""
    profile = profile_of(cell)
    if cell.load:
        trace = compressed(trace, cell.load * full * trace.seconds / len(trace.requests))
    if cell.burst:
        trace = in_bursts(trace, cell.burst)
    third = trace.seconds / 3
    config = FleetConfig(
        profiles=engines(profile, ENGINES, cell.slow),
        metrics_interval=interval,
        metrics_delay=cell.metrics_delay,
        crashes=(Crash(3, third, third + 60.0),) if cell.crash else (),
    )
    return summarise(name, run(trace, policy, config), ENGINES)
