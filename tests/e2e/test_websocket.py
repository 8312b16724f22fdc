"""WebSocket clients: steered by their headers, then left alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from tests.support.gateway import Gateways, pool, route
from tests.support.processes import wait_until


@asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """Answers every text with the path it came to; `address` is `IP:PORT`."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{request.path} {message.data}")
        return socket

    app = web.Application()
    app.router.add_get("/v1/realtime", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


async def test_a_websocket_counts_as_load_until_it_closes(gateways: Gateways) -> None:
    async with echo_server() as address:
        gateway = await asyncio.to_thread(
            gateways.start, pool("gpus", [address]), route("all", "*", {"backendRefs": [{"pool": "gpus"}]})
        )

        def in_flight() -> int:
            (found,) = json.loads(gateway.admin_text("/endpoints"))
            return int(found["endpoints"][0]["in_flight"])

        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{gateway.url}/v1/realtime") as socket,
        ):
            for text in ("hello", "x" * 100_000):
                await socket.send_str(text)
                assert await socket.receive_str(timeout=10) == f"/v1/realtime {text}"
            assert await asyncio.to_thread(in_flight) == 1
        await asyncio.to_thread(wait_until, lambda: in_flight() == 0, "the load to be given back", 10)
