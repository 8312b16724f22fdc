"""The engine core in real time: one timer per engine, one callback per sequence and tick, no task per token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from extproc.simulate.engine import Engine, Sequence, SimulatedRequest

MIN_TICK = 0.001
"""Seconds between two ticks at least; steps that end in between are delivered together. epoll cannot wait for less."""

Sink = Callable[[int, bool], None]
"""Called with the number of new tokens, and whether they are the last."""


class Pacer:
    """Steps an engine along the loop's clock, `time_scale` times as fast. Sinks must not raise and must not block.

    Tokens come when the model says, however late the loop is: a tick that comes late delivers the steps it missed.
    """

    def __init__(self, engine: Engine, time_scale: float) -> None:
        self.engine = engine
        self._scale = time_scale
        self._loop = asyncio.get_running_loop()
        self._origin = self._loop.time()
        self._sinks: dict[str, Sink] = {}
        self._timer: asyncio.Handle | None = None

    @property
    def now(self) -> float:
        """The engine's time."""
        return (self._loop.time() - self._origin) * self._scale

    def submit(self, request: SimulatedRequest, sink: Sink) -> Sequence:
        """Start a request. Raises ValueError as the engine does."""
        sequence = self.engine.submit(request, self.now)
        self._sinks[request.id] = sink
        if self._timer is None:
            # Not planned yet: what else is read from sockets in this turn of the loop joins the step.
            self._timer = self._loop.call_soon(self._tick)
        return sequence

    def cancel(self, request_id: str) -> None:
        """Stop a request, if it is still there; its sink is not called again."""
        if self._sinks.pop(request_id, None) is not None:
            self.engine.abort(request_id, self.now)

    def close(self) -> None:
        """No more ticks."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self.now
        for item in self.engine.advance(now):
            name = item.sequence.request.id
            sink = self._sinks.pop(name, None) if item.finished else self._sinks.get(name)
            if sink is not None:
                sink(item.tokens, item.finished)
        due = self.engine.next_step_at()
        if due is None:
            self._timer = None
        else:
            earliest = self._loop.time() + MIN_TICK
            self._timer = self._loop.call_at(max(earliest, self._origin + due / self._scale), self._tick)
