"""How the tokens of one request reach its connection."""

from __future__ import annotations

import asyncio
from typing import Literal

from aiohttp import web
from aiohttp.http import HttpVersion11

from bench.engine.openai import EventWriter, Job, answer_json
from bench.farside import reset_connection
from extproc.simulate.engine import Sequence

Reset = Literal["before-headers", "after-headers", "mid-stream"]


class Answer:
    """One answer in progress. `feed` is called with tokens as they appear, `done` ends with the last of them.

    A stream is written straight to the transport, already framed as chunks: aiohttp's own `write` is a coroutine, and
    waking a task per token and sequence is what a simulator of many engines cannot afford. What a slow reader leaves
    unread is buffered; it is no more than one answer.
    """

    def __init__(self, request: web.Request, job: Job, reset: Reset | None) -> None:
        self.request = request
        self.job = job
        self.reset = reset
        self.sequence: Sequence | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.response: web.StreamResponse | None = None
        self._writer = EventWriter(job)
        self._sent = 0

    async def start(self) -> None:
        """Send the headers of a stream."""
        self.response = web.StreamResponse(
            headers={"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        )
        await self.response.prepare(self.request)
        if self.reset == "after-headers":
            self._break()

    def feed(self, tokens: int, finished: bool) -> None:
        """New tokens exist."""
        if self.response is not None and not self.done.done():
            self._write(tokens, finished)
        if finished and not self.done.done():
            self.done.set_result(None)

    def _write(self, tokens: int, finished: bool) -> None:
        end = self._sent + tokens
        data = self._writer.content(self._sent, end)
        if not self._sent:
            data = self._writer.opening() + data
        self._sent = end
        if finished and self.sequence is not None:
            self.job.cached = self.sequence.cached
            data += self._writer.closing() if self.reset is None else b""
        transport = self.request.transport
        if transport is not None and not transport.is_closing():
            framed = self.request.version >= HttpVersion11
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if framed else data)
        if self.reset == "mid-stream" and 2 * end >= len(self.job.pieces):
            self._break()

    def _break(self) -> None:
        reset_connection(self.request.transport)
        if not self.done.done():
            self.done.set_result(None)


async def respond(answer: Answer) -> web.StreamResponse:
    """End a stream, or send a finished answer as JSON."""
    if answer.response is not None:
        if answer.reset is None:
            await answer.response.write_eof()
        return answer.response
    body = answer_json(answer.job)
    if answer.reset is None:
        return web.Response(body=body, content_type="application/json")
    broken = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(body))})
    await broken.prepare(answer.request)
    if answer.reset == "mid-stream":
        await broken.write(body[: len(body) // 2])
    reset_connection(answer.request.transport)
    return broken
