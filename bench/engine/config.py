"""How one simulated engine is set up."""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.engine.faults import Faults
from extproc.simulate.profile import EngineProfile


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`models` are served names, the first the default; `answer_tokens`: mean length of an answer without limit."""

    models: tuple[str, ...] = ("qwen3-8b",)
    loras: tuple[str, ...] = ()
    dialect: Literal["vllm", "sglang"] = "vllm"
    profile: EngineProfile = EngineProfile()
    host: str = "127.0.0.1"
    port: int = 0
    time_scale: float = 1.0
    answer_tokens: int = 64
    faults: Faults = Faults()

    @property
    def names(self) -> tuple[str, ...]:
        """Every model name that requests may use."""
        return (*self.models, *self.loras)
