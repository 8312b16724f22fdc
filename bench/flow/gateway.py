"""A gateway with flow control in front of simulated engines, event by event. The flow is the production one."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from itertools import count

import msgspec

from extproc.scheduling.fair import Order
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.policy import Policies
from extproc.scheduling.ticket import Admitted, End, FlowPlace, Ticket
from extproc.simulate.engine import Engine
from extproc.simulate.profile import EngineProfile, SimulatedRequest


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request that comes to the gateway."""

    arrival: float
    prompt_tokens: int
    output_tokens: int
    predicted: int = 0
    """0: what it will really be."""
    labels: Mapping[str, str] = {}


class Fate(msgspec.Struct):
    """What became of it. Times are None where it did not come so far."""

    call: Call
    admitted: float | None = None
    first_token: float | None = None
    finished: float | None = None

    @property
    def ttft(self) -> float:
        """From arrival to the first token; infinity without one."""
        return math.inf if self.first_token is None else self.first_token - self.call.arrival

    @property
    def e2e(self) -> float:
        return math.inf if self.finished is None else self.finished - self.call.arrival


class Used(msgspec.Struct, frozen=True):
    """Real usage."""

    prompt_tokens: int
    completion_tokens: int


class Gateway:
    """Sends what is admitted to the engine with the fewest prompt tokens still to compute, of equals to the one with
    the fewest requests. Equal input gives equal output."""

    def __init__(
        self,
        policies: Policies,
        profile: EngineProfile,
        engines: int,
        *,
        orders: Mapping[str, Order] | None = None,
    ) -> None:
        self._flow = Flow(policies, 0.0, orders=orders)
        self._engines = [Engine(profile) for _ in range(engines)]
        self._held = [0] * engines
        self._prompts = [0] * engines
        """Prompt tokens sent to an engine whose first token has not come."""
        self._versions = [0] * engines
        self._events: list[tuple[float, int, int, int]] = []
        self._order = count()
        self._live: dict[str, tuple[Fate, Ticket]] = {}
        self._ready: list[tuple[Fate, FlowPlace]] = []
        self._tick_at = math.inf
        self._dirty: set[int] = set()
        self.fates: list[Fate] = []

    def play(self, calls: Sequence[Call]) -> list[Fate]:
        """The fate of every call, in the order of arrival, which is the order of `calls`."""
        place = 0
        while True:
            arrival = calls[place].arrival if place < len(calls) else math.inf
            due = self._events[0][0] if self._events else math.inf
            if not self._busy() and arrival == math.inf:
                return self.fates
            now = min(arrival, due)
            if now == math.inf:
                raise AssertionError("something waits that no event will wake")
            while self._events and self._events[0][0] == now:
                self._happen(now)
            while place < len(calls) and calls[place].arrival == now:
                self._arrive(calls[place], place, now)
                place += 1
            self._send_ready(now)
            self._plan(now)

    def _busy(self) -> bool:
        return bool(self._live) or not self._flow.idle

    def _arrive(self, call: Call, number: int, now: float) -> None:
        fate = Fate(call)
        self.fates.append(fate)
        job = Job(
            id=str(number),
            labels=call.labels,
            prompt_tokens=call.prompt_tokens,
            output_tokens=call.predicted or call.output_tokens,
        )
        outcome = self._flow.enter(job, now)
        if isinstance(outcome, Admitted):
            self._send(fate, outcome.ticket, now)
        elif isinstance(outcome, FlowPlace):
            place = outcome
            place.wake = lambda: self._ready.append((fate, place))

    def _send_ready(self, now: float) -> None:
        while self._ready:
            fate, place = self._ready.pop(0)
            if isinstance(place.result, Admitted):
                self._send(fate, place.result.ticket, now)

    def _send(self, fate: Fate, ticket: Ticket, now: float) -> None:
        engine = min(range(len(self._engines)), key=lambda number: (self._prompts[number], self._held[number]))
        fate.admitted = now
        job = ticket.job
        self._live[job.id] = fate, ticket
        self._held[engine] += 1
        call = fate.call
        self._prompts[engine] += call.prompt_tokens
        request = SimulatedRequest(id=job.id, prompt_tokens=call.prompt_tokens, output_tokens=call.output_tokens)
        self._engines[engine].submit(request, now)
        self._dirty.add(engine)

    def _happen(self, now: float) -> None:
        _, _, engine, version = heapq.heappop(self._events)
        if engine < 0:
            if now == self._tick_at:
                self._tick_at = math.inf
                self._flow.tick(now)
            return
        if version != self._versions[engine]:
            return
        self._dirty.add(engine)
        for progress in self._engines[engine].advance(now):
            sequence = progress.sequence
            fate, ticket = self._live[sequence.request.id]
            if fate.first_token is None:
                self._prompts[engine] -= fate.call.prompt_tokens
                fate.first_token = sequence.first_token_at
            if progress.finished:
                del self._live[sequence.request.id]
                self._held[engine] -= 1
                self._finish(fate, ticket, now)

    def _finish(self, fate: Fate, ticket: Ticket, now: float) -> None:
        call, admitted, first = fate.call, fate.admitted, fate.first_token
        if admitted is None or first is None:
            raise AssertionError("an answer that is finished has begun")
        fate.finished = now
        usage = Used(call.prompt_tokens, call.output_tokens)
        ticket.settle(now, End(usage=usage, latency=now - admitted, ttft=first - admitted, completed=True))

    def _plan(self, now: float) -> None:
        for engine in self._dirty:
            wake = self._engines[engine].wake_at()
            self._versions[engine] += 1
            if wake is not None:
                heapq.heappush(self._events, (wake, next(self._order), engine, self._versions[engine]))
        self._dirty.clear()
        event = self._flow.next_event()
        if event < self._tick_at:
            self._tick_at = max(event, math.nextafter(now, math.inf))
            heapq.heappush(self._events, (self._tick_at, next(self._order), -1, 0))
