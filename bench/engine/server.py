"""A simulated engine behind the HTTP interface of vLLM or SGLang, for tests, benchmarks and the quickstart.

The core (`extproc.simulate.engine`) decides when each token exists; this server turns them into OpenAI JSON and
server-sent events, shows the core's load at `/metrics`, and misbehaves as `/_control` says (`faults`). Token counts
follow `bench.answers`: the prompt is `render_chat(messages, tools)` or the text itself. An embedding is one prefill
with one unseen output token.

A request to a `decode` engine with `x-prefiller-host-port` is first sent to that prefill engine with `max_tokens: 1`,
as the sidecar of a real prefill/decode pool does; if that fails, the decode engine computes the prompt itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from bench import answers
from bench.engine import metrics, openai
from bench.engine.config import EngineConfig
from bench.engine.faults import Faults
from bench.engine.inference import Inference
from bench.engine.pacer import Pacer
from bench.engine.stream import Reset
from bench.farside import Recorder, reset_connection
from extproc.simulate.engine import Engine

__all__ = ["EngineConfig", "EngineServer", "Faults", "exit_now"]

MAX_BODY = 64 * 2**20
RETRY_AFTER = {"retry-after": "1"}
_TICKS_TO_ACCEPT = 5
"""Turns of the event loop from an accepted connection to one that the server knows, with some to spare."""

Handler = Callable[[web.Request, bytes, Reset | None], Awaitable[web.StreamResponse]]


class EngineServer:
    """`async with EngineServer(config) as engine`: serving at `engine.address` until the end of the block.

    `on_crash` is called when the engine is told to crash; without one the server resets every connection and stops
    listening, and `start` brings it back, empty, on the same port.
    """

    def __init__(self, config: EngineConfig | None = None, on_crash: Callable[[], None] | None = None) -> None:
        self.config = config or EngineConfig()
        self.port = self.config.port
        self.faults = self.config.faults
        self.recorder = Recorder()
        self._on_crash = on_crash
        self._dice = random.Random(self.config.profile.seed)
        self._runner: web.AppRunner | None = None
        self._crashing: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.config.host}:{self.port}"

    async def start(self) -> None:
        """Listen, with an empty engine."""
        self.engine = Engine(self.config.profile)
        self.engine.slowdown = self.faults.slow
        self.pacer = Pacer(self.engine, self.config.time_scale)
        self.observations = metrics.Observations()
        self.inference = Inference(self.config, self.pacer, self.observations)
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._inference(self.inference.chat)),
                web.post("/v1/completions", self._inference(self.inference.completion)),
                web.post("/v1/embeddings", self._inference(self.inference.embeddings)),
                web.get("/v1/models", self._answering(self._models)),
                web.get("/health", self._answering(self._health)),
                web.get("/metrics", self._answering(self._metrics)),
                web.get("/_control", self._show),
                web.post("/_control", self._change),
                web.delete("/_control", self._change),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.config.host, self.port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close everything; answers in progress are cut off."""
        self.pacer.close()
        await self.inference.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def crash(self) -> None:
        """Die as a killed process does: every connection is reset, nobody listens."""
        await self._stop_listening()
        server = self._runner.server if self._runner else None
        for connection in list(server.connections if server else ()):
            reset_connection(connection.transport)
        await self.stop()

    async def _stop_listening(self) -> None:
        """Connections that have just been accepted become known, so that none is forgotten half open."""
        loop = asyncio.get_running_loop()
        sites = list(self._runner.sites) if self._runner else []
        for site in sites:
            for listener in getattr(site, "_server").sockets:  # noqa: B009 -- aiohttp has no name for it
                loop.remove_reader(listener.fileno())
        for _ in range(_TICKS_TO_ACCEPT):
            await asyncio.sleep(0)
        for site in sites:
            await site.stop()

    async def __aenter__(self) -> EngineServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._crashing is not None:
            await self._crashing
        await self.stop()

    def set_faults(self, **changes: Any) -> None:
        """Replace fields of `faults`. Raises msgspec.ValidationError for what is no fault."""
        self.faults = self.faults.patched(changes)
        self.engine.slowdown = self.faults.slow

    def _answering(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            if self.faults.hang == "all":
                await _forever()
            return await handler(request)

        return answer

    def _inference(self, handler: Handler) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.recorder.enter()
            try:
                body = await request.read()
                self.recorder.record(request, body)
                return await self._guarded(request, body, handler)
            finally:
                self.recorder.leave()

        return answer

    async def _guarded(self, request: web.Request, body: bytes, handler: Handler) -> web.StreamResponse:
        faults = self.faults
        if faults.hang != "off":
            await _forever()
        struck = faults.strikes(self._dice)
        if struck and faults.status is not None:
            error = answers.error_body("simulated failure", "InternalServerError", faults.status)
            return web.json_response(error, status=faults.status, headers=RETRY_AFTER)
        if struck and faults.reset == "before-headers":
            reset_connection(request.transport)
            return web.Response()
        try:
            return await handler(request, body, faults.reset if struck else None)
        except openai.RefusedError as refusal:
            return web.json_response(refusal.body, status=refusal.status)

    async def _models(self, _: web.Request) -> web.Response:
        base, limit = self.config.models[0], self.config.profile.max_model_len
        data = [
            {
                "id": name,
                "object": "model",
                "created": 0,
                "owned_by": self.config.dialect,
                "root": name,
                "parent": base if name in self.config.loras else None,
                "max_model_len": limit,
            }
            for name in self.config.names
        ]
        return web.json_response({"object": "list", "data": data})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        kind = self.faults.metrics
        if kind == "slow":
            await asyncio.sleep(self.faults.metrics_delay)
        elif kind == "off":
            return web.Response(status=404, text="Not Found")
        elif kind == "garbage":
            return web.Response(body=metrics.garbage(), content_type="text/plain")
        now = self.pacer.now
        load, name, profile = self.engine.load(now), self.config.models[0], self.config.profile
        if self.config.dialect == "vllm":
            page = metrics.render_vllm(name, profile, load, self.observations, time.time())
        else:
            page = metrics.render_sglang(name, profile, load, self.observations, now)
        page = metrics.nan_values(page) if kind == "nan" else page
        return web.Response(text=page, content_type="text/plain", charset="utf-8")

    async def _show(self, _: web.Request) -> web.Response:
        state = {
            "faults": msgspec.to_builtins(self.faults),
            **self.recorder.snapshot(),
            "load": msgspec.to_builtins(self.engine.load(self.pacer.now)),
        }
        return web.json_response(state)

    async def _change(self, request: web.Request) -> web.Response:
        """POST: `{"crash": true}` or fields of `Faults`; DELETE: none of them."""
        if request.method == "DELETE":
            self.set_faults(**msgspec.structs.asdict(Faults()))
            return web.json_response(msgspec.to_builtins(self.faults))
        try:
            changes = msgspec.json.decode(await request.read(), type=dict[str, Any])
            crash = changes.pop("crash", False)
            self.set_faults(**changes)
        except msgspec.MsgspecError as error:
            return web.json_response(answers.error_body(str(error), "BadRequestError", 400), status=400)
        if crash and self._on_crash is not None:
            self._on_crash()
        elif crash:
            self._crashing = asyncio.get_running_loop().create_task(self.crash())
        return web.json_response(msgspec.to_builtins(self.faults))


async def _forever() -> None:
    """Until the client or the server goes away, which cancels the handler."""
    await asyncio.get_running_loop().create_future()


def exit_now() -> None:
    """What a crash means for an engine in a process of its own."""
    os._exit(1)
