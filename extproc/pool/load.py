"""One engine's load, whatever engine printed it."""

from __future__ import annotations

from typing import Literal

import msgspec


class EngineLoad(msgspec.Struct, frozen=True, gc=False):
    """Figures of one moment. None is unknown: not printed, or not a sane number. Unknown is never the same as zero."""

    engine: str
    """Name of the dialect that the page was written in: `vllm`, `sglang`, `bladellm`, `trtllm`."""
    taken_at: float
    """Seconds on the clock of the caller."""
    running: float | None = None
    """Requests in the engine's batch, over all of its ranks."""
    waiting: float | None = None
    """Requests queued inside the engine."""
    kv_usage: float | None = None
    """Share of the KV cache in use, 0 to 1; of the fullest rank."""
    prompt_tokens_total: float | None = None
    generated_tokens_total: float | None = None
    prompt_per_s: float | None = None
    """Prompt tokens per second as the engine itself says; None where it prints only the total."""
    generated_per_s: float | None = None
    """Tokens per second as the engine itself says; None where it prints only the total."""
    block_size: float | None = None
    """Tokens in a block of the KV cache."""
    num_blocks: float | None = None
    """Blocks of the KV cache, over all ranks."""
    running_adapters: tuple[str, ...] | None = None
    """LoRA adapters of running requests; with `waiting_adapters`, those that are loaded or about to be."""
    waiting_adapters: tuple[str, ...] | None = None
    max_adapters: float | None = None
    """Adapters that fit into one batch of the engine."""
    source: Literal["scrape", "agent"] = "scrape"
    """Whether the gateway asked the engine, or an agent beside the engine reported it."""
