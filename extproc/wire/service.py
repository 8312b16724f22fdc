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

    def warn_once(self, text: str) -> None:
        if text and text not in self.warned:
            self.warned.add(text)
            log.warning("%s (not logged again)", text)
