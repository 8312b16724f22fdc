"""What Redis has still to be told: in order, in batches, each taking effect once however often it is sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from extproc.scheduling.state.claims import Claim
from extproc.shared.channel import Channel, Lost
from extproc.shared.messages import pack_settle
from extproc.shared.scripts import SETTLE

BATCH = 500
"""Operations of one batch: about half a millisecond of Redis's time."""
ATTEMPTS = 5
"""Refusals by Redis itself after which a batch is dropped, so that it cannot keep all others away for ever."""
Operation = tuple[Literal["give", "free", "hold"], Claim]


class Outbox:
    """Bounded: beyond `most` undelivered operations new ones are dropped and counted."""

    def __init__(self, replica: str, prefix: str, *, most: int, failed: Callable[[Exception], None]) -> None:
        self._replica = replica
        self._prefix = prefix
        self._most = most
        self._failed = failed
        self._new: list[Operation] = []
        self._sent: dict[int, list[Operation]] = {}
        self._flying: set[int] = set()
        self._refused: dict[int, int] = {}
        self._number = 0
        self.size = 0
        self.dropped = 0
        self.now: float | None = None
        """In place of Redis's own time."""

    def __repr__(self) -> str:
        return f"<Outbox of {self.size}, {self.dropped} dropped>"

    def add(self, what: Literal["give", "free", "hold"], claim: Claim) -> None:
        """`give`: the claim's amount, which may be negative. `free`: its slot. `hold`: its slot, whatever the limit."""
        if self.size >= self._most:
            self.dropped += 1
            return
        self.size += 1
        self._new.append((what, claim))

    def flush(self, channel: Channel) -> None:
        """Sends what was not sent, and what was sent and failed."""
        if not self._new and len(self._flying) == len(self._sent):
            return
        while self._new:
            self._number += 1
            self._sent[self._number], self._new = self._new[:BATCH], self._new[BATCH:]
        oldest = next(iter(self._sent))
        for number in [n for n in self._sent if n not in self._flying]:
            self._flying.add(number)
            payload = pack_settle(self._replica, number, oldest, self._sent[number], self.now)
            channel.run(SETTLE, self._prefix, payload, partial(self._done, number))

    def _done(self, number: int, reply: Any) -> None:
        self._flying.discard(number)
        if not isinstance(reply, Exception):
            self._forget(number)
            return
        if not isinstance(reply, Lost):
            self._refused[number] = self._refused.get(number, 0) + 1
            if self._refused[number] >= ATTEMPTS:
                self.dropped += len(self._sent[number])
                self._forget(number)
        self._failed(reply)

    def _forget(self, number: int) -> None:
        self.size -= len(self._sent.pop(number))
        self._refused.pop(number, None)
