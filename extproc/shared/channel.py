"""One connection to Redis that any number of questions share: written in order, answered in order, never waited for by
the next one."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError

from extproc.shared.scripts import ALL, Script

log = logging.getLogger("sluice.shared")
Done = Callable[[Any], None]
"""Called exactly once, with the reply, Redis's error, or `Lost`."""
_GRACE = 3
"""Turns of the event loop in which a reply that has come already is still read, after a pause of this process."""


class Lost(Exception):
    """The connection ended before the answer: whether the command took effect is not known."""


class Channel:
    """Open until `close`, or until Redis ends it; `ended` is called then. `slow` is called when an answer takes longer
    than `limit`, and not again before everything is answered."""

    def __init__(
        self,
        connection: AbstractConnection,
        *,
        limit: float,
        slow: Callable[[], None],
        ended: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._limit = limit
        self._slow = slow
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._pending: deque[tuple[float, tuple[Any, ...] | None, Done]] = deque()
        self._chunks: list[bytes] = []
        self._wake = asyncio.Event()
        self._timer: asyncio.Handle | None = None
        self._overdue = False
        self._grace = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.error: Exception | None = None
        """Why it ended; None while it is open."""

    def __repr__(self) -> str:
        return f"<Channel {len(self._pending)} unanswered{', overdue' if self._overdue else ''}>"

    @property
    def backlog(self) -> int:
        """Commands that are not answered yet."""
        return len(self._pending)

    async def open(self) -> None:
        """Connects, with TLS and password as configured, and loads the scripts. Raises RedisError or OSError."""
        await self._connection.connect()  # type: ignore[no-untyped-call] # the library's
        self._tasks = [self._loop.create_task(self._write()), self._loop.create_task(self._read())]
        for task in self._tasks:
            task.add_done_callback(self._stopped)
        cluster = await self.call("INFO", "cluster")
        if b"cluster_enabled:1" in bytes(cluster):
            raise RedisError("Redis Cluster is not supported: a decision needs all its keys on one server")
        await self.load()

    async def load(self) -> None:
        """Makes Redis know the scripts. One that it does not know is sent whole, but then behind later commands."""
        for script in ALL:
            await self.call("SCRIPT", "LOAD", script.text)

    def send(self, words: tuple[Any, ...], done: Done, again: tuple[Any, ...] | None = None) -> None:
        """Queues one command; `again` is sent in its place if Redis does not know its script."""
        if self.error is not None:
            done(Lost(str(self.error)))
            return
        self._pending.append((self._loop.time(), again, done))
        self._chunks += self._connection.pack_command(*words)
        self._wake.set()
        if self._timer is None and not self._overdue:
            self._timer = self._loop.call_later(self._limit, self._check)

    def run(self, script: Script, prefix: str, payload: bytes, done: Done, *more: bytes) -> None:
        """One script, in one round trip."""
        arguments = (0, prefix, payload, *more)
        self.send(("EVALSHA", script.sha, *arguments), done, ("EVAL", script.text, *arguments))

    async def call(self, *words: Any) -> Any:
        """One command, and its reply. Raises Lost or Redis's error."""
        future, done = awaited(self._loop)
        self.send(words, done)
        return await future

    async def run_once(self, script: Script, prefix: str, payload: bytes) -> Any:
        """One script, and its reply. Raises Lost or Redis's error."""
        future, done = awaited(self._loop)
        self.run(script, prefix, payload, done)
        return await future

    async def close(self, reason: str = "closed") -> None:
        """Ends the connection; what is not answered is `Lost`. May be called again."""
        self._end(Lost(reason))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.disconnect(nowait=True)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                chunks, self._chunks = self._chunks, []
                if not self._connection.is_connected:
                    return  # the reader has seen the end; to write now would connect again unasked
                await self._connection.send_packed_command([b"".join(chunks)], check_health=False)
        except (RedisError, OSError) as error:
            self._end(error)

    async def _read(self) -> None:
        try:
            while True:
                try:
                    reply = await self._connection.read_response(disable_decoding=True)
                except ResponseError as error:
                    reply = error
                self._answer(reply)
        except (RedisError, OSError) as error:
            self._end(error)

    def _answer(self, reply: Any) -> None:
        since, again, done = self._pending.popleft()
        if isinstance(reply, NoScriptError) and again is not None:
            self._pending.append((since, None, done))
            self._chunks += self._connection.pack_command(*again)
            self._wake.set()
            return
        if not self._pending:
            self._overdue = False
        done(reply)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        """A fault of the program in one of the two tasks must not leave anybody waiting."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the connection to Redis is given up", exc_info=error)
            self._end(Lost(repr(error)))

    def _check(self) -> None:
        """Whether the oldest command has waited too long."""
        self._timer = None
        if not self._pending:
            return
        left = self._pending[0][0] + self._limit - self._loop.time()
        if left > 0:
            self._grace = 0
            self._timer = self._loop.call_later(left, self._check)
        elif self._grace < _GRACE:
            self._grace += 1
            self._timer = self._loop.call_soon(self._check)
        else:
            self._grace = 0
            self._overdue = True
            self._slow()

    def _end(self, error: Exception) -> None:
        if self.error is not None:
            return
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
        pending, self._pending = self._pending, deque()
        for _, _, done in pending:
            done(Lost(str(error)))
        self._ended(error)


def awaited(loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Future[Any], Done]:
    """A future, and the callback that resolves it unless nobody waits any more."""
    future: asyncio.Future[Any] = loop.create_future()

    def done(result: Any) -> None:
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return future, done
