"""What all ext_proc streams of one filter share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.values import BodyReply
from extproc.steps.live import Live
from extproc.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class BodyBudget:
    """Bytes of request bodies that all streams together hold. A single body always fits."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0

    def __repr__(self) -> str:
        return f"<BodyBudget {self.held} bytes>"

    def take(self, size: int, limit: int) -> bool:
        """Whether there is room for so many bytes more; then they are taken, and to be given back."""
        if self.held and self.held + size > limit:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        self.held -= size


@dataclass(slots=True)
class Service:
    """What all streams share. `live` is replaced as a whole when the configuration changes."""

    live: Live
    settle: Callable[[ExchangeRecord], None]
    """Takes the record of an exchange that is over, and completes its usage."""
    expect: Callable[[str, int], tuple[int, int]]
    """Prompt and completion tokens that a model makes of so many bytes of prompt; 0 is unknown."""
    metrics: Metrics
    clock: Callable[[], float]
    beside: Callable[[Callable[[], BodyReply]], Awaitable[BodyReply]] = asyncio.to_thread
    """Runs long work in a thread."""
    warned: set[str] = field(default_factory=set)
    """What has been logged once and need not be again."""

    bodies: BodyBudget = field(default_factory=BodyBudget)
    stale_envoy: str = ""
    """What is wrong with an Envoy in front, for whoever asks whether the filter is ready."""

    def __post_init__(self) -> None:
        self.metrics.body_bytes = lambda: self.bodies.held

    def stale(self, envoy: str, own: str) -> None:
        """An Envoy that was rendered from the configuration `envoy` cannot protect a request of the one in force."""
        self.stale_envoy = (
            f"stale_envoy: an Envoy was rendered from configuration {envoy} and this filter has {own}; requests that "
            "it cannot protect are refused: run `sluice render envoy` again and restart it"
        )
        self.warn_once(self.stale_envoy)

    def warn_once(self, text: str) -> None:
        if text and text not in self.warned:
            self.warned.add(text)
            log.warning("%s (not logged again)", text)
