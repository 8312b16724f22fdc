"""An ask on its way, and what an answer, or none, leaves to be given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from extproc.scheduling.state.claims import BucketClaim, Claims, Grant, Return, SlotClaim
from extproc.shared.messages import moved


class PendingRequest:
    """The future gets an answer in any case, from Redis or from here."""

    __slots__ = ("ask", "future", "now")

    def __init__(self, ask: Claims, now: float, future: asyncio.Future[Grant]) -> None:
        self.ask = ask
        self.now = now
        self.future = future

    def __repr__(self) -> str:
        return f"<PendingRequest {self.ask!r} {'answered' if self.future.done() else 'open'}>"


def slots_of(ask: Claims) -> Iterator[SlotClaim]:
    """Every slot that the ask may have taken, under every key where it may be kept."""
    for claim in (*ask.limits, *(claim for group in ask.lines for claim in group)):
        if isinstance(claim, SlotClaim):
            yield claim
            if claim.max_keys > 1 and isinstance(other := moved(claim), SlotClaim):
                yield other


def undone(answer: Grant) -> list[Return]:
    """Everything that was taken, in full."""
    return [Return(claim, claim.amount if isinstance(claim, BucketClaim) else 0.0) for claim in answer.taken]
