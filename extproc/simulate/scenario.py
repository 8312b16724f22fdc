"""What is simulated besides the trace and the policy, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extproc.pool.load import EngineLoad
from extproc.pool.waiting import UNLIMITED, QueueLimits, SaturationLimits
from extproc.simulate.engine import Engine
from extproc.simulate.profile import EngineProfile


class Crash(msgspec.Struct, frozen=True):
    """Engine number `engine` is away from `at` to `back`, in seconds of the trace."""

    engine: int
    at: float
    back: float


class FleetConfig(msgspec.Struct, frozen=True, kw_only=True):
    profiles: tuple[EngineProfile, ...]
    """One for each engine."""
    metrics_interval: float = 0.2
    metrics_delay: float = 0.0
    stale_after: float = 2.0
    retry_count: int = 2
    saturation: SaturationLimits = UNLIMITED
    """From when on an engine gets no request; without limits nothing waits in the gateway."""
    queue: QueueLimits = QueueLimits()
    """Of the requests that wait in the gateway."""
    crashes: tuple[Crash, ...] = ()
    transfer_tokens_per_second: float = 200_000.0
    """Speed at which the KV of a prompt goes from a prefill engine to a decode engine."""
    seed: int = 0


class Outcome(msgspec.Struct, gc=False):
    """What became of one request. Times in seconds of the trace; None: it did not get there."""

    arrival: float
    prompt_tokens: int
    output_tokens: int
    engine: int = -1
    """Which one answered; -1: none."""
    cached_tokens: int = 0
    first_token: float | None = None
    finished: float | None = None
    ending: str = "rejected"
    """`answered`, `rejected` (no endpoint, or queue full, or too long in it), or `failed` (its engine crashed)."""


def engines(
    profile: EngineProfile, number: int, slow: Sequence[int] = (), slowdown: float = 2.0
) -> tuple[EngineProfile, ...]:
    """`number` equal engines, of which those in `slow` take `slowdown` times as long for everything."""
    slower = msgspec.structs.replace(
        profile,
        prefill_tokens_per_second=profile.prefill_tokens_per_second / slowdown,
        step_base=profile.step_base * slowdown,
        step_per_seq=profile.step_per_seq * slowdown,
    )
    return tuple(slower if index in slow else profile for index in range(number))


def address_of(engine: int) -> str:
    return f"10.0.{engine // 250}.{engine % 250 + 1}:8000"


def read_load(engine: Engine, now: float) -> EngineLoad:
    """What the gateway reads out of an engine's metrics."""
    load, profile = engine.load(now), engine.profile
    return EngineLoad(
        engine="vllm",
        taken_at=now,
        running=float(load.running),
        waiting=float(load.waiting),
        kv_usage=load.kv_usage,
        prompt_tokens_total=float(load.prompt_tokens),
        generated_tokens_total=float(load.generation_tokens),
        block_size=float(profile.block_size),
        num_blocks=float(profile.num_blocks),
    )
