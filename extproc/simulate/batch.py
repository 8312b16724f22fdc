"""Who is in the batch: admission, chunked prefill, preemption and adapters of a simulated engine. Rules: `engine`."""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from extproc.simulate.blocks import BlockCache, BlockLease
from extproc.simulate.profile import EngineProfile, SimulatedRequest


class JobPhase(enum.Enum):
    """Where a sequence is; a preempted one is WAITING again."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    ABORTED = "aborted"


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in the engine. Times are None until they happen; `cached`: prompt tokens found at first admission."""

    request: SimulatedRequest
    arrived: float
    phase: JobPhase = JobPhase.WAITING
    computed: int = 0
    generated: int = 0
    cached: int = 0
    preemptions: int = 0
    admitted_at: float | None = None
    first_token_at: float | None = None
    finished_at: float | None = None
    lease: BlockLease = field(default_factory=BlockLease)

    @property
    def pending(self) -> int:
        """Tokens without KV: 1 when decoding."""
        return self.request.prompt_tokens + self.generated - self.computed


@dataclass(slots=True)
class Plan:
    """One step: who computes how many tokens. `steady` if equal steps can follow it until a sequence finishes."""

    work: list[tuple[Sequence, int]]
    decoding: int
    prefill: int
    adapters_loaded: int
    steady: bool


class Batch:
    """The waiting queue, the running sequences and their blocks. Knows nothing of time but the `now` it is given."""

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        self.cache = BlockCache(profile.num_blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self._adapters: OrderedDict[str, None] = OrderedDict()

    def leave(self, sequence: Sequence, phase: JobPhase) -> None:
        """Take a sequence out, finished or aborted, and free its blocks."""
        if sequence.phase is JobPhase.RUNNING:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self.cache.release(sequence.lease)
        sequence.phase = phase

    def plan(self, now: float) -> Plan:
        """Choose the next step and reserve its blocks. Called only while there is a sequence."""
        work, budget, preempted = self._continue_running()
        loaded = 0 if preempted else self._admit(work, budget, now)
        if not work:
            raise AssertionError("a profile guarantees that one sequence always fits")
        decoding = sum(1 for sequence, _ in work if sequence.pending == 1 and sequence.generated)
        return Plan(
            work=work,
            decoding=decoding,
            prefill=sum(tokens for _, tokens in work) - decoding,
            adapters_loaded=loaded,
            steady=not preempted and decoding == len(work) == len(self.running),
        )

    def reserve(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for the next `tokens` tokens of a running sequence; false, and nothing taken, if there are too few."""
        after = sequence.computed + tokens
        if not self.cache.grow(sequence.lease, self._blocks(after)):
            return False
        self._share(sequence, after)
        return True

    def _continue_running(self) -> tuple[list[tuple[Sequence, int]], int, bool]:
        """The running sequences' part of a step, what is left of the budget, and whether one had to be preempted."""
        work: list[tuple[Sequence, int]] = []
        budget, index, preempted = self.profile.max_num_batched_tokens, 0, False
        while index < len(self.running) and budget:
            sequence = self.running[index]
            tokens = min(sequence.pending, budget)
            if self.reserve(sequence, tokens):
                work.append((sequence, tokens))
                budget -= tokens
                index += 1
            else:
                self._preempt(self.running.pop())
                preempted = True
        return work, budget, preempted

    def _preempt(self, sequence: Sequence) -> None:
        self.cache.release(sequence.lease)
        sequence.phase = JobPhase.WAITING
        sequence.computed = 0
        sequence.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _admit(self, work: list[tuple[Sequence, int]], budget: int, now: float) -> int:
        """Move waiting sequences into the batch; returns how many adapters have to be loaded for them."""
        loaded, passed = 0, []
        active = set(adapters(self.running))
        while self.waiting and budget and len(self.running) < self.profile.max_num_seqs:
            sequence = self.waiting[0]
            adapter = sequence.request.lora
            if adapter and adapter not in active and len(active) >= self.profile.max_loras:
                passed.append(self.waiting.popleft())
                continue
            tokens = self._enter(sequence, budget, now)
            if not tokens:
                break
            self.waiting.popleft()
            self.running.append(sequence)
            work.append((sequence, tokens))
            budget -= tokens
            if adapter:
                active.add(adapter)
                loaded += self._use_adapter(adapter, active)
        self.waiting.extendleft(reversed(passed))
        return loaded

    def _enter(self, sequence: Sequence, budget: int, now: float) -> int:
        """Take the blocks of a waiting sequence's first step; returns its tokens in that step, 0 if they do not fit."""
        request, size = sequence.request, self.profile.block_size
        hit = (
            self.cache.match(request.blocks, (request.prompt_tokens - 1) // size) if self.profile.prefix_caching else 0
        )
        known = hit * size
        if request.prefetched and not sequence.preemptions:
            known = max(known, request.prompt_tokens - 1)
        tokens = min(sequence.pending - known, budget)
        if not self.cache.admit(sequence.lease, request.blocks[:hit], self._blocks(known + tokens)):
            return 0
        if sequence.admitted_at is None:
            sequence.admitted_at = now
            sequence.cached = hit * size
            self.prefix_queries += request.prompt_tokens
            self.prefix_hits += sequence.cached
        sequence.phase = JobPhase.RUNNING
        sequence.computed = known
        self._share(sequence, known + tokens)
        return tokens

    def _use_adapter(self, adapter: str, active: set[str]) -> int:
        """Keep the adapters on the GPU, least recently used first out; 1 if this one has to be loaded."""
        known = adapter in self._adapters
        self._adapters[adapter] = None
        self._adapters.move_to_end(adapter)
        if len(self._adapters) > self.profile.max_loras:
            del self._adapters[next(name for name in self._adapters if name not in active)]
        return 0 if known else 1

    def _share(self, sequence: Sequence, computed: int) -> None:
        if self.profile.prefix_caching and sequence.lease.published < len(sequence.request.blocks):
            full = min(computed, sequence.request.prompt_tokens) // self.profile.block_size
            self.cache.publish(sequence.lease, sequence.request.blocks, full)

    def steps_without_change(self, work: list[tuple[Sequence, int]]) -> int:
        """How many equal decode steps follow until one finishes or the blocks run out; at least 1."""
        low, high = 1, min(sequence.request.output_tokens - sequence.generated for sequence, _ in work)
        if self._fits(work, high):
            return high
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if self._fits(work, middle) else (low, middle)
        return low

    def _fits(self, work: list[tuple[Sequence, int]], steps: int) -> bool:
        need = sum(max(0, self._blocks(item.computed + steps) - item.lease.total) for item, _ in work)
        return need <= self.cache.free

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.profile.block_size)


def adapters(sequences: Iterable[Sequence]) -> tuple[str, ...]:
    """The adapters that sequences use, each once, in their order."""
    return tuple(dict.fromkeys(item.request.lora for item in sequences if item.request.lora))
