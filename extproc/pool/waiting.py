"""What happens while every endpoint has enough to do: requests wait here, in order, for the first that is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, Literal, TypeVar

import msgspec

from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import PickRequest

Picked = TypeVar("Picked")
Outcome = Literal["waiting", "admitted", "impossible", "expired", "left"]


class SaturationLimits(msgspec.Struct, frozen=True, kw_only=True):
    """From when on an endpoint gets no further request. None switches a limit off."""

    queue_depth: float | None = 5
    """Requests waiting in the engine (the threshold of the Gateway API inference extension)."""
    kv_usage: float | None = 0.95
    """Share of the engine's KV cache in use. Beyond it engines begin to preempt."""
    in_flight: int | None = None
    """Requests of ours at the endpoint, for engines whose batch size is known or that report nothing."""

    def full(self, endpoint: Endpoint, now: float) -> bool:
        """Whether `endpoint` has enough to do. Figures that are unknown or stale fill nothing.

        A scrape shows the past. Where it showed a queue, everything sent since has joined that queue.
        """
        if self.in_flight is not None and endpoint.in_flight >= self.in_flight:
            return True
        load = endpoint.load
        if load is None or now >= endpoint.fresh_until:
            return False
        if self.kv_usage is not None and load.kv_usage is not None and load.kv_usage >= self.kv_usage:
            return True
        if self.queue_depth is None or not load.waiting:
            return False
        return load.waiting + endpoint.in_flight - endpoint.at_scrape >= self.queue_depth


UNLIMITED = SaturationLimits(queue_depth=None, kv_usage=None)


class PoolQueueFull(Exception):
    """The queue is at its limit: the request cannot even wait."""


class Saturated(Exception):
    """Every endpoint that could serve the request has enough to do."""


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one pool's queue. Times in seconds."""

    max_size: int = 512
    timeout: float = 10.0
    """Longest wait."""
    try_period: float = 1.0
    """How often a waiting request tries again even if nothing has been released."""


class QueuePlace(Generic[Picked]):
    """One request's place in the queue. The driver sets `wake`, which is called once when the wait is over."""

    __slots__ = ("_queue", "deadline", "error", "outcome", "pick", "request", "since", "wake")

    work: ClassVar[None] = None
    longest: ClassVar[float] = 0.0

    def __init__(self, queue: WaitingRoom[Picked], request: PickRequest, now: float) -> None:
        self._queue = queue
        self.request = request
        self.since = now
        self.deadline = now + queue.limits.timeout
        self.outcome: Outcome = "waiting"
        self.pick: Picked | None = None
        """Set once admitted, until somebody takes it."""
        self.error: Exception | None = None
        """Why no endpoint will ever serve this request, once that is so."""
        self.wake: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<QueuePlace {self.outcome} since={self.since:g}>"

    @property
    def over(self) -> bool:
        return self.outcome != "waiting"

    def pause(self, now: float) -> float:
        """Seconds until `retry` is due."""
        return min(self._queue.limits.try_period, max(0.0, self.deadline - now))

    def retry(self, now: float) -> None:
        """Time has passed: whoever can go on does, whoever has waited too long leaves."""
        self._queue.serve(now)

    def take(self) -> Picked | None:
        """What the queue gave, once: it is the caller's to release then. None where the wait ended otherwise."""
        pick, self.pick = self.pick, None
        return pick

    def leave(self, now: float) -> None:
        """Nobody is left to go on. A pick that was granted and not taken goes back. Harmless after `take`."""
        self._queue.remove(self, now)


class WaitingRoom(Generic[Picked]):
    """First come, first served. `choose` gives an endpoint, or raises Saturated while none is free."""

    def __init__(
        self,
        choose: Callable[[PickRequest, float], Picked],
        limits: QueueLimits,
        give_back: Callable[[Picked, float], None],
    ) -> None:
        """`give_back` takes a pick that nobody is left to use."""
        self.limits = limits
        self._choose = choose
        self._give_back = give_back
        self._places: dict[QueuePlace[Picked], None] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<WaitingRoom {len(self)} of {self.limits.max_size}>"

    def oldest_wait(self, now: float) -> float:
        """Seconds that the first has waited; 0 while nobody waits."""
        return now - next(iter(self._places)).since if self._places else 0.0

    def enter(self, request: PickRequest, now: float) -> QueuePlace[Picked]:
        """The last place. Raises PoolQueueFull."""
        if len(self._places) >= self.limits.max_size:
            raise PoolQueueFull
        place = QueuePlace(self, request, now)
        self._places[place] = None
        return place

    def serve(self, now: float) -> None:
        """Admits from the front for as long as there is room, after those have left who have waited too long."""
        while self._places:
            place = next(iter(self._places))
            if place.deadline <= now:
                self._end(place, "expired")
                continue
            try:
                place.pick = self._choose(place.request, now)
            except Saturated:
                return
            except Exception as error:  # noqa: BLE001 -- not swallowed: the place hands it to its own request
                place.error = error
                self._end(place, "impossible")
            else:
                self._end(place, "admitted")

    def remove(self, place: QueuePlace[Picked], now: float) -> None:
        if place.outcome == "waiting":
            del self._places[place]
            place.outcome = "left"
        elif (pick := place.take()) is not None:
            self._give_back(pick, now)

    def _end(self, place: QueuePlace[Picked], outcome: Outcome) -> None:
        del self._places[place]
        place.outcome = outcome
        place.wake()


def _nothing() -> None:
    """Nobody awaits the place yet."""
