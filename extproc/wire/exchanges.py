"""The ext_proc streams of one server, whatever carries their messages."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from extproc.exchange.exchange import UnexpectedEventError
from extproc.steps.wait import Wait
from extproc.wire.service import Service
from extproc.wire.session import Session

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
_PATIENCE = 0.5
"""Seconds that work may take before Envoy is told to wait for it. Of a queue it is told at once."""


class MessageStream(Protocol):
    """One stream as a transport offers it. A transport cancels whoever reads or writes when Envoy resets it."""

    async def read(self) -> bytes | None:
        """The next message; None when no more comes."""
        ...

    async def write(self, data: bytes) -> None: ...


REFUSALS = (UnexpectedEventError, DecodeError)
"""Raised where Envoy sent what has no place in an exchange: the stream ends with INVALID_ARGUMENT."""


class Exchanges:
    """Begins and ends sessions, and knows when the last one of a server that drains has ended."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.in_flight = 0
        self.draining = False
        self._idle = asyncio.Event()

    def begin(self, rendered: str | None = None) -> Session:
        """`rendered`: what the stream's `steps.protection.HEADER` says, if it has one."""
        self.in_flight += 1
        return Session(self.service, rendered)

    def end(self, session: Session) -> None:
        self.in_flight -= 1
        if self.draining and not self.in_flight:
            self._idle.set()
        session.close()

    async def drain(self, seconds: float) -> None:
        """Waits for the running exchanges. New ones are the transport's to refuse, by `draining`."""
        self.draining = True
        if self.in_flight:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)


async def serve(session: Session, stream: MessageStream, clock: Callable[[], float]) -> None:
    """Takes an exchange from wherever it is to its end. Raises REFUSALS."""
    ahead: asyncio.Task[bytes | None] | None = None
    """A read that was begun during a wait, to see whether Envoy gives up."""
    try:
        while True:
            while (wait := session.waiting) is not None:
                ahead = ahead or asyncio.ensure_future(stream.read())
                if not await _over(wait, ahead, session, stream, clock):
                    return
                for reply in session.resume():
                    await stream.write(reply)
            if session.done:
                return
            data = await (stream.read() if ahead is None else ahead)
            ahead = None
            if data is None:
                return
            for reply in session.handle(data):
                await stream.write(reply)
    finally:
        if ahead is not None:
            ahead.cancel()


async def _over(
    wait: Wait, ahead: asyncio.Future[Any], session: Session, stream: MessageStream, clock: Callable[[], float]
) -> bool:
    """Returns once the wait is over: True, or False if Envoy has gone before."""
    woken = asyncio.get_running_loop().create_future()
    wait.wake = lambda: None if woken.done() else woken.set_result(None)
    work = None if wait.work is None else asyncio.ensure_future(wait.work())
    signs = {woken, ahead} if work is None else {woken, ahead, work}
    hold_at = clock() + (0.0 if work is None else _PATIENCE)
    try:
        while not wait.over:
            now = clock()
            if now >= hold_at:
                hold_at = math.inf
                for reply in session.hold(wait):
                    await stream.write(reply)
            pause = min(wait.pause(now), hold_at - now)
            done, _ = await asyncio.wait(
                signs, timeout=None if math.isinf(pause) else pause, return_when=asyncio.FIRST_COMPLETED
            )
            if ahead in done and not wait.over:
                if not (session.streaming and ahead.result() is not None):
                    return _still_there(ahead)
                signs.discard(ahead)
            elif woken not in done:
                wait.retry(clock())
        return True
    finally:
        wait.wake = _nothing
        if work is not None:
            work.cancel()


def _still_there(ahead: asyncio.Future[Any]) -> bool:
    """False if Envoy has gone; nothing else can have come."""
    if ahead.result() is None:
        return False
    raise UnexpectedEventError("a message while the last one still waits for its reply")


def _nothing() -> None:
    """Nobody awaits it any more."""
