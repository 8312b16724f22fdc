"""A metrics server that behaves as told, and a queue of the changes that a scraper tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from extproc.pool.endpoint import Change, State
from tests.pool.pages import vllm_page

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page(body: bytes = b"", status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body or vllm_page(), status=status)

    return answer


async def hang(request: web.Request) -> web.StreamResponse:
    """Holds the request until the client gives up."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"# garbage\n" * 10_000)


class Engine:
    """One endpoint on a port of its own, which it keeps while it is down."""

    def __init__(self) -> None:
        self.answer: Answer = page()
        self.port = 0
        self.paths: list[str] = []
        self.connections: set[object] = set()
        self._asked = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def up(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def down(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def asked(self, more: int) -> None:
        """Returns when that many more scrapes have come in; all before the last of them have been evaluated."""
        await self.asked_in_all(len(self.paths) + more)

    async def asked_in_all(self, goal: int) -> None:
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.paths) >= goal)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        self.connections.add(request.transport)
        async with self._asked:
            self._asked.notify_all()
        return await self.answer(request)


@asynccontextmanager
async def running_engine() -> AsyncIterator[Engine]:
    engine = Engine()
    await engine.up()
    try:
        yield engine
    finally:
        await engine.down()


class Changes:
    """Collects what it is called with."""

    def __init__(self) -> None:
        self.all: list[Change] = []
        self._queue: asyncio.Queue[Change] = asyncio.Queue()

    def __call__(self, change: Change) -> None:
        self.all.append(change)
        self._queue.put_nowait(change)

    async def until(self, address: str, state: State) -> Change:
        """The next change of that endpoint to that state."""
        while True:
            change = await self._queue.get()
            if (change.address, change.state) == (address, state):
                return change
