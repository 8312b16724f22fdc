"""Load records to report messages and back."""

from __future__ import annotations

from typing import Any

from extproc.agents.proto.report_pb2 import Adapters, Load
from extproc.pool.load import EngineLoad

_FIGURES = (
    "running",
    "waiting",
    "kv_usage",
    "prompt_tokens_total",
    "generated_tokens_total",
    "prompt_per_s",
    "generated_per_s",
    "block_size",
    "num_blocks",
)


def to_message(load: EngineLoad) -> Any:
    """A `Load`. When the load was taken stays behind."""
    figures = {name: value for name in _FIGURES if (value := getattr(load, name)) is not None}
    message = Load(engine=load.engine, **figures)
    if load.running_adapters is not None or load.waiting_adapters is not None:
        adapters = Adapters(running=load.running_adapters or (), waiting=load.waiting_adapters or ())
        if load.max_adapters is not None:
            adapters.limit = load.max_adapters
        message.adapters.CopyFrom(adapters)
    return message


def from_message(message: Any, now: float) -> EngineLoad:
    """What a `Load` says, as of `now`."""
    figures = {name: getattr(message, name) for name in _FIGURES if message.HasField(name)}
    adapters = message.adapters
    known = message.HasField("adapters")
    return EngineLoad(
        engine=message.engine,
        taken_at=now,
        source="agent",
        running_adapters=tuple(adapters.running) if known else None,
        waiting_adapters=tuple(adapters.waiting) if known else None,
        max_adapters=adapters.limit if adapters.HasField("limit") else None,
        **figures,
    )
