"""Work that a step wants done before it goes on: in a thread, or by somebody on the network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Work:
    """`begin` is awaited once; then the step that asked runs again, and finds its result where `begin` has put it.

    It limits its own time, and keeps to itself what fails: an exception out of `begin` ends the request.
    """

    begin: Callable[[], Awaitable[None]]
    longest: float
    """Seconds that it may take."""
    streaming: bool = False
    """Whether Envoy may send on meanwhile: the pieces of an answer do not wait for the replies to earlier ones."""
