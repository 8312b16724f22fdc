"""Keeps a channel to Redis: connects, beats, notices trouble, waits, connects again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from extproc.shared.channel import Channel, Lost
from extproc.shared.options import RedisOptions

_TROUBLES = (Lost, RedisError, OSError, TimeoutError, msgspec.MsgspecError)


class Side(Protocol):
    """Whoever uses the link."""

    @property
    def shared(self) -> bool:
        """Whether Redis decides."""
        ...

    async def beat_on(self, channel: Channel) -> None: ...

    def join(self, channel: Channel) -> None:
        """Redis answers in time: it decides from here on."""
        ...

    def part(self, reason: str) -> None:
        """It does not. May be called again."""
        ...


class Link:
    def __init__(self, url: str, password: Callable[[], str | None] | None, options: RedisOptions, side: Side) -> None:
        """Raises ValueError for a bad URL."""
        self._arguments: dict[str, Any] = {**parse_url(url)}
        self._password = password
        self._options = options
        self._side = side
        self._trouble = asyncio.Event()
        self._tried = asyncio.Event()
        self._pause = options.retry
        self._failed_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self.channel: Channel | None = None
        self.where = str(self._arguments.get("path") or self._arguments.get("host", "localhost"))

    def __repr__(self) -> str:
        return f"<Link to {self.where} {self.channel!r}>"

    async def start(self) -> None:
        """Returns after the first attempt, whatever came of it."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._tried.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def trouble(self, reason: str) -> None:
        """Redis is not to be relied on until it has answered a heartbeat in time."""
        self._side.part(reason)
        self._trouble.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._attend()
            except _TROUBLES:
                self._tried.set()
            await asyncio.sleep(self._next_pause())

    async def _attend(self) -> None:
        """One connection, from its beginning to its end: one of `_TROUBLES`, of which the other side knows by then."""
        channel = Channel(
            self._connection(),
            limit=self._options.limit,
            slow=lambda: self.trouble(f"has not answered for {self._options.limit * 1000:.0f} ms"),
            ended=lambda error: self.trouble(f"is not reachable: {error}"),
        )
        try:
            async with asyncio.timeout(self._options.give_up):
                await channel.open()
            self.channel = channel
            await self._beats(channel)
        except _TROUBLES as error:
            self._side.part(f"is not reachable: {str(error) or 'it does not answer'}")
            raise
        finally:
            await channel.close("the connection was given up")
            self.channel = None

    async def _beats(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        while channel.error is None:
            self._trouble.clear()
            since = loop.time()
            async with asyncio.timeout(self._options.give_up):
                await self._side.beat_on(channel)
            if not self._side.shared and loop.time() - since <= self._options.limit and channel.error is None:
                self._side.join(channel)
            self._tried.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.heartbeat if self._side.shared else self._options.limit):
                    await self._trouble.wait()
            if not self._side.shared and channel.error is None:
                await asyncio.sleep(self._next_pause())
        raise channel.error

    def _next_pause(self) -> float:
        now = asyncio.get_running_loop().time()
        options = self._options
        again = now - self._failed_at < options.calm
        self._pause = min(self._pause * 2, options.longest_retry) if again else options.retry
        self._failed_at = now
        return self._pause * random.uniform(0.75, 1.0)  # noqa: S311 -- spreads replicas, guards nothing

    def _connection(self) -> AbstractConnection:
        """Without timeouts of its own, and without attempts behind the link's back."""
        arguments = {**self._arguments, "protocol": 3, "retry": Retry(NoBackoff(), 0), "socket_timeout": None}
        if self._password is not None and (password := self._password()) is not None:
            arguments["password"] = password
        make = arguments.pop("connection_class", Connection)
        connection = make(**arguments)
        assert isinstance(connection, AbstractConnection)  # noqa: S101 -- one of the library's three kinds
        return connection
