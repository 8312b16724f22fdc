"""Small traces and engines whose times are exact in binary."""

from __future__ import annotations

import msgspec

from extproc.simulate.profile import EngineProfile
from extproc.simulate.trace import Trace, TraceRequest

PROFILE = EngineProfile(
    max_num_seqs=4,
    max_num_batched_tokens=4096,
    block_size=512,
    num_blocks=64,
    max_model_len=16_384,
    prefill_tokens_per_second=1024.0,
    step_base=0.25,
    step_per_seq=0.0,
)


def profile(**changes: object) -> EngineProfile:
    return msgspec.structs.replace(PROFILE, **changes)


def trace(*requests: tuple[float, int, int, tuple[int, ...]]) -> Trace:
    """Of (arrival, prompt tokens, output tokens, blocks)."""
    return Trace("small", tuple(TraceRequest(*request) for request in requests), 512)


def conversations(number: int, turns: int, every: float = 0.5) -> Trace:
    """Conversations side by side, each turn one block longer than the one before."""
    requests = []
    for turn in range(turns):
        for talk in range(number):
            blocks = tuple(1000 * talk + block for block in range(turn + 2))
            arrival = every * (turn * number + talk)
            requests.append((arrival, 512 * (turn + 2) + 100, 4 + talk % 3, blocks))
    return trace(*requests)
