"""One trace, one policy, a number of engines: what happens, event by event.

The gateway is the production `Pool` with the production policy; the engines are `engine.Engine`s. What lies between
them (Envoy, network) takes no time. The gateway reads the engines' figures every `metrics_interval` seconds, and they
are `metrics_delay` seconds old when it has them. An engine that crashes loses what it holds; requests that had no token
yet are tried on their next candidate, the others are broken; the gateway learns of it from the first of them.

Nothing is drawn but ties in a pick and an engine's jitter, both from seeds: equal input gives equal output, to the bit.
"""

from __future__ import annotations

import heapq
from itertools import count
from random import Random

import msgspec

from extproc.pool.policy import PickRequest, Policy
from extproc.pool.pool import Lease, NoEndpoints, Pick, Pool
from extproc.pool.prompt import Prompt
from extproc.pool.waiting import PoolQueueFull, QueuePlace
from extproc.simulate.batch import Sequence as Running
from extproc.simulate.engine import Engine
from extproc.simulate.profile import SimulatedRequest
from extproc.simulate.scenario import FleetConfig, Outcome, address_of, read_load
from extproc.simulate.trace import Trace, TraceRequest


class _Job:
    """A request on its way."""

    __slots__ = ("attempts", "lease", "number", "outcome", "pick", "source")

    def __init__(self, number: int, source: TraceRequest, outcome: Outcome, pick: Pick) -> None:
        self.number = number
        self.source = source
        self.outcome = outcome
        self.pick = pick
        self.lease: Lease = pick.lease
        self.attempts = 1


_CRASH, _BACK, _STEP, _DELIVER, _METRICS, _READY, _RETRY = range(7)
"""Kinds of events, in the order in which those of one moment happen; arrivals come last."""


def run(trace: Trace, policy: Policy, config: FleetConfig) -> list[Outcome]:
    """The outcome of every request, in the order of arrival."""
    return _FleetRun(trace, policy, config).run()


class _FleetRun:
    def __init__(self, trace: Trace, policy: Policy, config: FleetConfig) -> None:
        self._trace = trace
        self._config = config
        self._engines = [self._new_engine(index) for index in range(len(config.profiles))]
        self._addresses = [address_of(index) for index in range(len(config.profiles))]
        self._index = {address: index for index, address in enumerate(self._addresses)}
        self._alive = [True] * len(config.profiles)
        self._jobs: list[dict[str, _Job]] = [{} for _ in config.profiles]
        self._versions = [0] * len(config.profiles)
        self._dirty: set[int] = set()
        self._events: list[tuple[float, int, int, int, object]] = []
        self._order = count()
        self._answers = 0
        self._answered_tokens = 0
        self._next_arrival = 0
        self._now = 0.0
        self._queued: dict[QueuePlace[Pick], tuple[int, TraceRequest, Outcome]] = {}
        self._pool = Pool(
            "simulated",
            policy,
            retry_count=config.retry_count,
            stale_after=config.stale_after,
            saturation=config.saturation,
            queue=config.queue,
            random=Random(config.seed),  # noqa: S311 -- a simulation wants the same draw again
        )
        roles = [{"role": profile.role} for profile in config.profiles]
        self._pool.set_members(dict(zip(self._addresses, roles, strict=True)), 0.0)
        self.outcomes: list[Outcome] = []

    def run(self) -> list[Outcome]:
        requests = self._trace.requests
        for crash in self._config.crashes:
            self._push(crash.at, _CRASH, crash.engine)
            self._push(crash.back, _BACK, crash.engine)
        self._read_metrics(0.0, None)
        total = len(requests)
        while True:
            arrival = requests[self._next_arrival].arrival if self._next_arrival < total else None
            due = self._events[0][0] if self._events else None
            if due is None and arrival is None:
                return self.outcomes
            if due is not None and (arrival is None or due <= arrival):
                now = due
                while self._events and self._events[0][0] == now:
                    self._happen(now)
            elif arrival is not None:
                now = arrival
            while self._next_arrival < total and requests[self._next_arrival].arrival == now:
                self._arrive(self._next_arrival, requests[self._next_arrival], now)
                self._next_arrival += 1
            self._plan(now)

    def _new_engine(self, index: int) -> Engine:
        profile = self._config.profiles[index]
        return Engine(msgspec.structs.replace(profile, seed=profile.seed + index))

    def _push(self, time: float, kind: int, engine: int, data: object = None) -> None:
        heapq.heappush(self._events, (time, kind, next(self._order), engine, data))

    def _happen(self, now: float) -> None:
        _, kind, _, engine, data = heapq.heappop(self._events)
        self._now = now
        if kind == _STEP:
            if data == self._versions[engine]:
                self._step(engine, now)
        elif kind == _METRICS:
            self._read_metrics(now, data)
        elif kind == _DELIVER:
            self._deliver(now, data)
        elif kind == _READY:
            self._decode(now, data)
        elif kind == _RETRY:
            self._retry(data, now)
        elif kind == _CRASH:
            self._crash(engine, now)
        else:
            self._alive[engine] = True
            self._pool.observe(self._addresses[engine], read_load(self._engines[engine], now), now)

    def _plan(self, now: float) -> None:
        for engine in self._dirty:
            wake = self._engines[engine].wake_at()
            self._versions[engine] += 1
            if wake is not None:
                self._push(wake, _STEP, engine, self._versions[engine])
        self._dirty.clear()

    def _arrive(self, number: int, source: TraceRequest, now: float) -> None:
        outcome = Outcome(now, source.prompt_tokens, source.output_tokens)
        self.outcomes.append(outcome)
        expected = self._answered_tokens // self._answers if self._answers else 0
        request = PickRequest(
            prompt_tokens=source.prompt_tokens,
            expected_output_tokens=expected,
            prompt=Prompt.hashed(source.blocks, self._trace.block_tokens),
            tells_first_token=True,
        )
        try:
            answer = self._pool.admit(request, now)
        except (NoEndpoints, PoolQueueFull):
            return
        if isinstance(answer, Pick):
            self._start(number, source, outcome, answer, now)
        else:
            self._queued[answer] = (number, source, outcome)
            answer.wake = lambda: self._admitted(answer)
            self._push(now + answer.pause(now), _RETRY, -1, answer)

    def _admitted(self, place: QueuePlace[Pick]) -> None:
        """The wait of a request in the gateway is over."""
        number, source, outcome = self._queued.pop(place)
        if place.pick is not None:
            self._start(number, source, outcome, place.pick, self._now)

    def _retry(self, place: object, now: float) -> None:
        if isinstance(place, QueuePlace) and place in self._queued:
            place.retry(now)
            if place in self._queued:
                self._push(now + place.pause(now), _RETRY, -1, place)

    def _start(self, number: int, source: TraceRequest, outcome: Outcome, pick: Pick, now: float) -> None:
        job = _Job(number, source, outcome, pick)
        if pick.prefill is not None and self._alive[self._index[pick.prefill]]:
            self._submit(job, self._index[pick.prefill], now, prefill=True)
        else:
            self._send(job, self._index[pick.candidates[0]], now)

    def _send(self, job: _Job, engine: int, now: float, *, prefetched: bool = False) -> None:
        """To the engine that answers, or to the next candidate where that one is away."""
        candidates = job.pick.candidates
        while not self._alive[engine]:
            self._pool.failed(self._addresses[engine], now)
            if job.attempts >= len(candidates):
                self._give_up(job, now)
                return
            engine = self._index[candidates[job.attempts]]
            job.attempts += 1
            prefetched = False
            job.lease.move(self._addresses[engine], now)
        self._submit(job, engine, now, prefetched=prefetched)

    def _submit(self, job: _Job, engine: int, now: float, *, prefill: bool = False, prefetched: bool = False) -> None:
        source = job.source
        request = SimulatedRequest(
            id=str(job.number),
            prompt_tokens=source.prompt_tokens,
            output_tokens=1 if prefill else source.output_tokens,
            blocks=source.blocks,
            prefetched=prefetched,
        )
        try:
            self._engines[engine].submit(request, now)
        except ValueError:  # longer than the engine's context: it answers 400, and so would every other one
            job.lease.release(now)
            return
        self._jobs[engine][request.id] = job
        self._dirty.add(engine)

    def _step(self, engine: int, now: float) -> None:
        self._dirty.add(engine)
        jobs = self._jobs[engine]
        for progress in self._engines[engine].advance(now):
            running = progress.sequence
            if running.generated != progress.tokens and not progress.finished:
                continue
            job = jobs[running.request.id]
            if job.outcome.first_token is None:
                self._first_token(job, engine, running, now)
            if progress.finished and running.request.id in jobs:
                del jobs[running.request.id]
                self._finish(job, engine, now)

    def _first_token(self, job: _Job, engine: int, running: Running, now: float) -> None:
        outcome = job.outcome
        outcome.cached_tokens = max(outcome.cached_tokens, running.cached)
        if job.lease.prefill is not None and self._addresses[engine] == job.lease.prefill.address:
            del self._jobs[engine][running.request.id]
            seconds = outcome.prompt_tokens / self._config.transfer_tokens_per_second
            self._push(now + seconds, _READY, engine, job)
            return
        outcome.first_token = now if running.first_token_at is None else running.first_token_at
        outcome.engine = engine
        job.lease.served(now)

    def _decode(self, now: float, job: object) -> None:
        if isinstance(job, _Job):
            self._send(job, self._index[job.pick.candidates[0]], now, prefetched=True)

    def _finish(self, job: _Job, engine: int, now: float) -> None:
        job.outcome.finished = now
        job.outcome.ending = "answered"
        job.lease.release(now)
        self._answers += 1
        self._answered_tokens += job.outcome.output_tokens

    def _give_up(self, job: _Job, now: float) -> None:
        job.outcome.ending = "failed"
        job.lease.release(now)

    def _crash(self, engine: int, now: float) -> None:
        lost = list(self._jobs[engine].values())
        self._jobs[engine].clear()
        self._engines[engine] = self._new_engine(engine)
        self._alive[engine] = False
        self._dirty.add(engine)
        for job in lost:
            self._pool.failed(self._addresses[engine], now)
            if job.outcome.first_token is not None:
                self._give_up(job, now)
            else:
                self._send(job, engine if job.lease.prefill is None else self._index[job.pick.candidates[0]], now)

    def _read_metrics(self, now: float, begun: object) -> None:
        """Asks all engines, and plans the last reading that can arrive before the next request does."""
        for address in self._addresses:
            self._pool.scrape_begins(address, now)
        loads = [read_load(self._engines[engine], now) if alive else None for engine, alive in enumerate(self._alive)]
        self._push(now + self._config.metrics_delay, _DELIVER, -1, loads)

    def _deliver(self, now: float, loads: object) -> None:
        if not isinstance(loads, list):
            raise AssertionError("what is delivered was read before")
        for engine, load in enumerate(loads):
            if load is None:
                self._pool.unreachable(self._addresses[engine], "connection refused", now)
            elif self._alive[engine]:
                self._pool.observe(self._addresses[engine], load, now)
        if self._next_arrival >= len(self._trace.requests):
            return
        config = self._config
        period = config.metrics_interval + config.metrics_delay
        spare = self._trace.requests[self._next_arrival].arrival - config.metrics_delay - now - config.metrics_interval
        skipped = max(0, int(spare / period)) if spare > 0 else 0
        self._push(now + config.metrics_interval + skipped * period, _METRICS, -1)
