"""A destination that holds every request until the test says how it goes on, event by event."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from aiohttp import web

from bench.farside import reset_connection
from tests.support.far_side import FarSide

_PATIENCE = 30.0
_IDLE_ENGINE = "vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n"


class Call:
    """One request that arrived, and the answer that the test makes of it."""

    def __init__(self, far: FarSide, at: str, request: web.Request, body: bytes) -> None:
        self.at = at
        """Address of the server that it arrived at."""
        self.method = request.method
        self.path = request.raw_path
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.body = body
        self.gone = threading.Event()
        """Set when the exchange is over, by the answer's end or because the other side left."""
        self._far = far
        self._request = request
        self._answer: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        self._stream: web.StreamResponse | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def answer(self, status: int = 200, **fields: Any) -> None:
        """A JSON answer, a chat completion unless `fields` say otherwise."""
        usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        message = {"role": "assistant", "content": "held"}
        completion = {"object": "chat.completion", "id": "1", "created": 1, "model": self.json.get("model"), **fields}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        body = completion | ({"choices": choices, "usage": usage} if status < 400 else {})
        self._do(self._finish(web.json_response(body, status=status)))

    def begin(self) -> None:
        """The headers of an event stream."""
        self._do(self._begin())

    def event(self, text: str) -> None:
        """One event with `text` as content; begins the stream if need be."""
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        chunk = {"object": "chat.completion.chunk", "id": "1", "created": 1, "model": "m", "choices": [choice]}
        self._do(self._write(b"data: " + json.dumps(chunk).encode() + b"\n\n"))

    def end(self) -> None:
        """The usage chunk, `[DONE]` and the end of the stream."""
        usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        chunk = {
            "object": "chat.completion.chunk",
            "id": "1",
            "created": 1,
            "model": "m",
            "choices": [],
            "usage": usage,
        }
        self._do(self._write(b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"))
        assert self._stream is not None
        self._do(self._finish(self._stream))

    def reset(self) -> None:
        """Breaks the connection off with a TCP RST."""
        self._do(self._reset())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self._far.run(work)

    async def _begin(self) -> None:
        self._stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await self._stream.prepare(self._request)

    async def _write(self, data: bytes) -> None:
        if self._stream is None:
            await self._begin()
        assert self._stream is not None
        await self._stream.write(data)

    async def _finish(self, response: web.StreamResponse) -> None:
        self._answer.set_result(response)

    async def _reset(self) -> None:
        reset_connection(self._request.transport)

    async def settled(self) -> web.StreamResponse:
        try:
            return await self._answer
        finally:
            self.gone.set()


class Held:
    """`with Held(far) as upstream`: a plain HTTP server whose requests come out of `next` one by one.

    Its metrics page says that the engine has nothing to do, so a pool sees only the gateway's own load. Servers that
    are given the same `calls` put their requests there, for a test that does not know which of them gets one.
    """

    def __init__(self, far: FarSide, calls: queue.Queue[Call] | None = None) -> None:
        self.address = ""
        self.arrived = 0
        self._far = far
        self._calls = queue.Queue() if calls is None else calls

    def next(self, patience: float = _PATIENCE) -> Call:
        """The next request that arrives, or has arrived and was not asked for yet. Raises queue.Empty."""
        return self._calls.get(timeout=patience)

    def __enter__(self) -> Held:
        self._far.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._far.run(self._runner.cleanup())

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=_IDLE_ENGINE)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = Call(self._far, self.address, request, await request.read())
        self.arrived += 1
        self._calls.put(call)
        return await call.settled()
