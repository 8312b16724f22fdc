"""The pure core of a simulated engine: continuous batching as vLLM V1 does it, in steps, without a clock of its own.

One step computes tokens for many sequences and takes

    step_base + step_per_seq * (decoding sequences) + (prefill tokens) / prefill_tokens_per_second     seconds,

times `1 + jitter * u` with a seeded u in [-1, 1], times `slowdown`, plus `lora_load_seconds` for every adapter that has
to be loaded. This linear form and the default numbers are published fits of vLLM (`EngineProfile`); `jitter`,
`lora_load_seconds` and `max_loras` are assumptions. Attention's growth with the context is not modelled; `step_per_seq`
contains that of an average context.

- A step has a budget of `max_num_batched_tokens`. Running sequences come first, in the order they were admitted: one
  token each when decoding, the rest of the prompt (or what the budget leaves of it: chunked prefill) otherwise. Then
  waiting sequences are admitted first come, first served while budget, `max_num_seqs` and KV blocks last. A full batch
  or cache holds the whole queue; only an adapter beyond `max_loras` lets others pass.
- The step that computes the last prompt token yields the first output token; every later step yields one.
- KV memory is `num_blocks` blocks of `block_size` tokens, taken as tokens are computed. When a running sequence finds
  no block, the sequence admitted last is preempted: it loses its blocks, goes to the front of the queue and is
  recomputed, prompt and generated tokens, finding in the prefix cache what is still there. Nothing is admitted then.
- Prefix caching: full prompt blocks are findable by their chained hash from the step that computes them until they are
  evicted (`blocks`). At least one prompt token is always computed. Generated tokens are not shared.
- Prefill/decode: a `prefetched` request brings the KV of its prompt (computed by a prefill engine), so only its last
  token is computed here; when it is preempted that is lost. A `prefill` engine refuses such requests. The time of the
  transfer is the caller's: submit the request when its KV has arrived.

How to drive it, in real time or in a discrete-event simulation: `submit` and `abort` at any time, `advance(now)` to
learn which tokens exist by then. Between the two, `next_step_at()` says when the next tokens appear, and `wake_at()`
when the batch next changes by itself (a run of equal decode steps is one leap, so an event simulator needs few calls).
Both plan the next step, so ask after everything that arrives at the same moment was submitted. Times are seconds on the
caller's scale and never go backwards. What happens does not depend on how often `advance` is called.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import msgspec

from extproc.simulate.batch import Batch, JobPhase, Sequence, adapters
from extproc.simulate.profile import PROFILES, EngineProfile, Load, SimulatedRequest

__all__ = ["PROFILES", "Engine", "EngineProfile", "JobPhase", "Load", "Progress", "Sequence", "SimulatedRequest"]


class Progress(msgspec.Struct, frozen=True):
    """`tokens` new output tokens of a sequence; the last of them if `finished`."""

    sequence: Sequence
    tokens: int
    finished: bool


@dataclass(slots=True)
class _Leap:
    """`count` equal steps of `duration` from `start`, `done` of them applied."""

    start: float
    duration: float
    count: int
    work: list[tuple[Sequence, int]]
    done: int = 0

    def boundary(self, steps: int) -> float:
        return self.start + steps * self.duration

    def completed(self, now: float) -> int:
        """Steps complete at `now`, of those planned."""
        if self.boundary(self.count) <= now:
            return self.count
        steps = int((now - self.start) / self.duration)
        while self.boundary(steps) > now:
            steps -= 1
        while self.boundary(steps + 1) <= now:
            steps += 1
        return max(steps, self.done)


class Engine:
    """See the module. `slowdown` above 1 makes steps that start from then on slower."""

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        self.slowdown = 1.0
        self._batch = Batch(profile)
        self._live: dict[str, Sequence] = {}
        self._leap: _Leap | None = None
        self._free_at = 0.0
        self._outbox: dict[Sequence, int] = {}
        self._random = random.Random(profile.seed)  # noqa: S311 -- jitter of a simulation
        self._prompt_tokens = self._generation_tokens = self._finished = self._aborted = 0

    def check(self, request: SimulatedRequest) -> None:
        """Raises ValueError for a request that this engine can never serve."""
        limit, role = self.profile.max_model_len, self.profile.role
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError("a request has at least one prompt token and one output token")
        if request.prompt_tokens + request.output_tokens > limit:
            raise ValueError(f"prompt and output have more than {limit} tokens")
        if request.prefetched and role == "prefill":
            raise ValueError("a prefill engine takes no prefetched request")

    def submit(self, request: SimulatedRequest, now: float) -> Sequence:
        """Queue a request. Raises ValueError for one that fails `check` or whose id is in use."""
        self.check(request)
        if request.id in self._live:
            raise ValueError(f"request {request.id!r} is in the engine already")
        self._settle(now)
        sequence = Sequence(request, now)
        self._live[request.id] = sequence
        self._batch.waiting.append(sequence)
        self._cut(now)
        return sequence

    def abort(self, request_id: str, now: float) -> bool:
        """Forget a request; the step in progress still takes its time. False if the engine does not have it."""
        self._settle(now)
        sequence = self._live.pop(request_id, None)
        if sequence is None:
            return False
        self._batch.leave(sequence, JobPhase.ABORTED)
        self._outbox.pop(sequence, None)
        self._aborted += 1
        self._cut(now)
        return True

    def advance(self, now: float) -> list[Progress]:
        """All output since the last call, up to and including `now`, one entry per sequence."""
        self._settle(now)
        news = [
            Progress(sequence, tokens, sequence.phase is JobPhase.FINISHED) for sequence, tokens in self._outbox.items()
        ]
        self._outbox.clear()
        return news

    def next_step_at(self) -> float | None:
        """When the step in progress (planned here if due) ends; None when idle."""
        leap = self._ensure()
        return None if leap is None else leap.boundary(leap.done + 1)

    def wake_at(self) -> float | None:
        """When something other than plain decoding next happens; None when idle."""
        leap = self._ensure()
        return None if leap is None else leap.boundary(leap.count)

    def load(self, now: float) -> Load:
        """The metrics at `now`."""
        self._settle(now)
        batch = self._batch
        return Load(
            running=len(batch.running),
            waiting=len(batch.waiting),
            kv_usage=batch.cache.used / batch.cache.capacity,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            prefix_queries=batch.prefix_queries,
            prefix_hits=batch.prefix_hits,
            preemptions=batch.preemptions,
            finished=self._finished,
            aborted=self._aborted,
            running_loras=adapters(batch.running),
            waiting_loras=adapters(batch.waiting),
        )

    def _settle(self, now: float) -> None:
        """Apply every step that ends by `now` and start the ones that start before it.

        A step due exactly at `now` is not planned yet, so that everything that arrives at `now` can be in it.
        """
        while (leap := self._leap) or (self._live and self._free_at < now):
            if leap is None:
                self._plan()
                continue
            steps = leap.completed(now) - leap.done
            if steps:
                self._apply(leap, steps)
            if self._leap is leap:
                return

    def _ensure(self) -> _Leap | None:
        if self._leap is None and self._live:
            self._plan()
        return self._leap

    def _cut(self, now: float) -> None:
        """Something changed: what follows the step in progress has to be planned anew."""
        if self._leap is None:
            self._free_at = max(self._free_at, now)
        else:
            self._leap.count = self._leap.done + 1

    def _apply(self, leap: _Leap, steps: int) -> None:
        leap.done += steps
        now = leap.boundary(leap.done)
        ahead = 0 if leap.done == leap.count else 1
        active = [(sequence, tokens) for sequence, tokens in leap.work if sequence.phase is JobPhase.RUNNING]
        if leap.count > 1:
            # Every step of a leap takes its blocks when it starts: those applied here, and the one in progress.
            for sequence, _ in active:
                if not self._batch.reserve(sequence, steps + ahead):
                    raise AssertionError("a leap is no longer than its blocks last")
        for sequence, tokens in active:
            sequence.computed += tokens * steps
            if sequence.pending <= 0:
                self._emit(sequence, steps, now)
        if not ahead:
            self._leap, self._free_at = None, now

    def _emit(self, sequence: Sequence, tokens: int, now: float) -> None:
        sequence.generated += tokens
        self._outbox[sequence] = self._outbox.get(sequence, 0) + tokens
        self._generation_tokens += tokens
        if sequence.first_token_at is None:
            sequence.first_token_at = now
            self._prompt_tokens += sequence.request.prompt_tokens
        if sequence.generated == sequence.request.output_tokens:
            sequence.finished_at = now
            del self._live[sequence.request.id]
            self._batch.leave(sequence, JobPhase.FINISHED)
            self._finished += 1

    def _plan(self) -> None:
        """Choose the next step; it starts when the engine became free."""
        plan = self._batch.plan(self._free_at)
        seconds = self.profile.step_seconds(plan.decoding, plan.prefill)
        if self.profile.jitter:
            seconds *= 1 + self.profile.jitter * self._random.uniform(-1, 1)
        self._leap = _Leap(
            start=self._free_at,
            duration=seconds * self.slowdown + plan.adapters_loaded * self.profile.lora_load_seconds,
            count=self._batch.steps_without_change(plan.work) if plan.steady else 1,
            work=plan.work,
        )
