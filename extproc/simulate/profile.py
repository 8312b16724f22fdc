"""What a simulated engine is told: its speed and limits, and the requests it serves. What each means: `engine`."""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["both", "prefill", "decode"]


class EngineProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Speed and limits of one engine. Raises ValueError when `max_model_len` does not fit into the KV cache.

    The defaults are an 8B model on one A100-80: step times and blocks as fitted to vLLM 0.8.4 with Llama-3.1-8B by the
    `inference-sim` project (its defaults.yaml: 16,441 us + 47.8 us per prefill token + 18.2 us per decoding sequence,
    29,205 blocks), batch limits as vLLM sets them for that GPU, context length of Qwen3-8B.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    block_size: int = 16
    num_blocks: int = 29_205
    max_model_len: int = 40_960
    prefill_tokens_per_second: float = 20_900.0
    step_base: float = 0.01644
    step_per_seq: float = 0.0000182
    prefix_caching: bool = True
    role: Role = "both"
    max_loras: int = 4
    lora_load_seconds: float = 0.1
    jitter: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "max_num_seqs",
            "max_num_batched_tokens",
            "block_size",
            "num_blocks",
            "max_model_len",
            "max_loras",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.prefill_tokens_per_second <= 0 or self.step_base < 0 or self.step_per_seq < 0:
            raise ValueError("speeds must be positive")
        if not 0 <= self.jitter < 1:
            raise ValueError("jitter must be in [0, 1)")
        if self.max_model_len > self.num_blocks * self.block_size:
            raise ValueError("max_model_len does not fit into the KV cache")

    def step_seconds(self, decoding: int, prefill_tokens: int) -> float:
        """Duration of one step without jitter and slowdown."""
        return self.step_base + self.step_per_seq * decoding + prefill_tokens / self.prefill_tokens_per_second


PROFILES = {
    "8b-a100": EngineProfile(),
    "8b-h100": EngineProfile(
        max_num_seqs=1024,
        max_num_batched_tokens=8192,
        prefill_tokens_per_second=58_000.0,
        step_base=0.00575,
        step_per_seq=0.000006,
    ),
}
"""Profiles by name; `8b-h100` from the same source (5,753 us, 17.3 us, 6.0 us) and vLLM's limits for an H100."""


class SimulatedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt to serve.

    `blocks` are chained hashes of the prompt's full blocks, first block first; equal hashes mean an equal prefix. Fewer
    than the prompt has, or none, means that the rest is unique. A trace with 512-token blocks sets `block_size` to 512.
    """

    id: str
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    prefetched: bool = False
    lora: str = ""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine's own metrics say at one moment; totals count since the start."""

    running: int
    waiting: int
    kv_usage: float
    prompt_tokens: int
    generation_tokens: int
    prefix_queries: int
    prefix_hits: int
    preemptions: int
    finished: int
    aborted: int
    running_loras: tuple[str, ...]
    waiting_loras: tuple[str, ...]
