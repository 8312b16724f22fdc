"""What a request may have to wait for between its steps: a place in a queue, or work beside the event loop.

A step that waits is a generator: it yields a `Wait`, is resumed once that is over, and returns as any other step does.
So a queued request's whole way can be read in the step that queues it. The driver of a wait sets `wake` and, until
`over`, awaits `work` if there is any, calls `retry` after every `pause`, and `leave` if nobody is left to go on.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")


class Wait(Protocol):
    """A place in a queue (`QueuePlace`, `FlowPlace`) or `Work`."""

    wake: Callable[[], None]
    """Called once, when the wait is over."""

    @property
    def over(self) -> bool: ...

    @property
    def work(self) -> Callable[[], Awaitable[None]] | None:
        """To be awaited once, by the driver; None: somebody else ends the wait."""
        ...

    @property
    def longest(self) -> float:
        """Seconds that it may take beyond what requests may wait in queues."""
        ...

    def pause(self, now: float) -> float:
        """Seconds until `retry` is due; infinity: never."""
        ...

    def retry(self, now: float) -> None:
        """Time has passed: whoever can go on does, whoever has waited too long leaves."""
        ...

    def leave(self, now: float) -> None:
        """The request ends here: its place goes to others, and so does what it was granted and has not taken."""
        ...


Waiting = Generator[Wait, None, Result]
"""A step, or part of one, that may wait."""


class Work(Generic[Result]):
    """Work in a thread, or by somebody on the network. It limits its own time."""

    __slots__ = ("_begin", "_error", "_results", "longest", "wake")

    def __init__(self, begin: Callable[[], Awaitable[Result]], longest: float = 0.0) -> None:
        self._begin = begin
        self._results: list[Result] = []
        self._error: Exception | None = None
        self.longest = longest
        self.wake: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<Work {'done' if self.over else 'open'}>"

    @property
    def over(self) -> bool:
        return bool(self._results) or self._error is not None

    @property
    def result(self) -> Result:
        """Raises what the work raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    async def work(self) -> None:
        try:
            self._results.append(await self._begin())
        except Exception as error:  # noqa: BLE001 -- not swallowed: the step that waits for the result gets it
            self._error = error
        self.wake()

    def pause(self, now: float) -> float:
        return math.inf

    def retry(self, now: float) -> None:
        """Nothing makes it faster."""

    def leave(self, now: float) -> None:
        """The driver ends it."""


def beside(begin: Callable[[], Awaitable[Result]], longest: float = 0.0) -> Waiting[Result]:
    """The result of what `begin` gives, awaited beside the event loop's other work, for at most `longest` seconds."""
    work = Work(begin, longest)
    yield work
    return work.result


def _nothing() -> None:
    """Nobody awaits the work yet."""
