"""One call as its handler sees it: messages to read, messages to write, an end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from extproc.wire.http2.connection import Connection
from extproc.wire.http2.messages import INTERNAL, RESOURCE_EXHAUSTED
from extproc.wire.http2.states import CLOSED
from extproc.wire.http2.stream import Stream

log = logging.getLogger(__name__)

CANCELLED = 1


class StatusError(Exception):
    """Raised by a handler: the call ends with this gRPC status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Receiver(Protocol):
    """Serves a call without a task of its own. Whatever it raises ends the call, with INTERNAL if it is no
    StatusError."""

    def message(self, data: bytes) -> None:
        """The next message. Not called before everything sent so far is on its way."""

    def ended(self) -> None:
        """The peer has sent its last message."""

    def closed(self) -> None:
        """The call is over, whoever ended it. Called exactly once, last."""


class Call:
    """What a peer sends goes to a `Receiver` at once, or waits in an inbox for `read`.

    The peer can send as much as the stream's window allows before anything is read, and no more. One task at a time
    reads, and one writes.
    """

    __slots__ = (
        "_connection",
        "_drained",
        "_flush",
        "_heard",
        "_inbox",
        "_news",
        "_receiver",
        "_resting",
        "_stream",
        "_task",
        "metadata",
        "over",
        "path",
    )

    def __init__(
        self,
        connection: Connection,
        stream: Stream,
        path: str,
        flush: Callable[[], None],
        metadata: Mapping[bytes, bytes] = {},
    ) -> None:
        self.path = path
        self.metadata = metadata
        """Headers of the call."""
        self.over = False
        self._connection = connection
        self._stream = stream
        self._flush = flush
        """Has what was sent written soon."""
        self._inbox: deque[bytes] = deque()
        self._heard = False
        self._receiver: Receiver | None = None
        self._resting = False
        """Whether the inbox is for `read` although there is a receiver."""
        self._news: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Call({self.path!r}, {self._stream!r}, inbox={len(self._inbox)}, over={self.over})"

    def begin(self, handler: Callable[[Call], None]) -> None:
        """For the driver: has the handler take the call."""
        self._deliver(handler, self)

    def serve(self, receiver: Receiver) -> None:
        """From here on the call is the receiver's."""
        self._receiver = receiver

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """From here on the call is `work`'s, which reads and writes, and ends the call by returning. It is cancelled
        when the peer gives the call up."""
        self._resting = True
        self._task = asyncio.get_running_loop().create_task(self._run(work))

    async def read(self) -> bytes | None:
        """The next message; None after the last one, or when the peer has gone."""
        while not self._inbox:
            if self._heard or self.over:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        message = self._inbox.popleft()
        self._connection.release(self._stream, len(message))
        self._flush()
        return message

    def send(self, data: bytes) -> None:
        """Puts a message on its way, without waiting. Nothing happens once the call is over."""
        if not self.over and self._stream.state is not CLOSED:
            self._connection.message(self._stream, data)
            self._flush()

    async def write(self, data: bytes) -> None:
        """Returns once the peer has let everything out that was sent."""
        self.send(data)
        while self._stream.outbox and not self.over:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def end(self, status: int = 0, message: str = "") -> None:
        """Ends the call after what was sent. Does nothing if it is over."""
        if self.over:
            return
        if self._stream.state is not CLOSED:
            self._connection.end(self._stream, status, message)
            self._flush()
        self.close()

    def arrived(self, data: bytes) -> None:
        """For the driver: the peer has sent a message."""
        if self._receiver is not None and not self._resting and not self._inbox and not self._stream.outbox:
            self._deliver(self._receiver.message, data)
            return
        self._inbox.append(data)
        if not self._connection.keep(self._stream, len(data)):
            self.end(RESOURCE_EXHAUSTED, "this connection has too many bytes in flight")
        self._wake()

    def heard(self) -> None:
        """For the driver: the peer has sent everything."""
        self._heard = True
        self._wake()
        self._pump()

    def drained(self) -> None:
        """For the driver: everything sent is on its way."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._pump()

    def close(self) -> None:
        """The call is over: ended here, or, for the driver, given up by the peer."""
        if self.over:
            return
        self.over = True
        self._inbox.clear()
        self._wake()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._deliver(receiver.closed)

    def _pump(self) -> None:
        """Gives the receiver what has waited for it."""
        while (receiver := self._receiver) is not None and not self._resting and not self._stream.outbox:
            if self._inbox:
                message = self._inbox.popleft()
                self._connection.release(self._stream, len(message))
                self._deliver(receiver.message, message)
            elif self._heard:
                self._deliver(receiver.ended)
                return
            else:
                return

    def _deliver(self, take: Callable[..., None], *arguments: object) -> None:
        """A fault of whoever serves the call ends this call, and no other."""
        try:
            take(*arguments)
        except StatusError as error:
            self.end(error.status, str(error))
        except Exception:
            log.exception("fault while serving %s", self.path)
            self.end(INTERNAL, "internal error")

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            self.end(CANCELLED)
            raise
        except StatusError as error:
            self.end(error.status, str(error))
        except Exception:
            log.exception("fault while serving %s", self.path)
            self.end(INTERNAL, "internal error")
        else:
            self.end()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
