"""The table of the quickstart, and the commands that repeat its requests."""

from __future__ import annotations

import asyncio
import io
import json
import shlex

from aiohttp import web
from rich.console import Console

from bench.demonstration import CALLS, CHAT, Call, Outcome, demonstrate, table

GATEWAY = "http://127.0.0.1:1"


def test_every_command_can_be_pasted() -> None:
    for call in CALLS:
        words = shlex.split(call.curl(GATEWAY))
        body = json.loads(words[words.index("-d") + 1])
        assert words[0] == "curl"
        assert body["messages"] == CHAT["messages"]
        assert (f"Host: {call.host}" in words) == bool(call.host)


def test_the_table_says_what_went_otherwise() -> None:
    line = {"target": "pool/gpus", "model": "m", "endpoint": "10.0.0.1:1", "prompt_tokens": 3, "completion_tokens": 4}
    outcomes = [
        Outcome(Call("served"), 200, 0.0123, line),
        Outcome(Call("refused", expected=404), 404, 0.001, {"reason": "model_not_found"}),
        Outcome(Call("broken"), 0, 0.001, {}),
    ]
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(table(outcomes))
    served, refused, broken = console.export_text().splitlines()[1:]
    assert served.split() == ["served", "200", "pool", "gpus", "m", "10.0.0.1:1", "3/4", "12"]
    assert "none: model_not_found" in refused
    assert "none (not 200)" in broken
    assert [outcome.expected for outcome in outcomes] == [True, True, False]


async def test_requests_are_paired_with_their_log_lines() -> None:
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    count = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        await request.read()
        lines.put_nowait(b"not a log line\n")
        lines.put_nowait(json.dumps({"time": f"{count:03}", "model": f"model {count}"}).encode())
        return web.json_response({"error": {"message": "no"}}, status=418)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        outcomes = await demonstrate(f"http://127.0.0.1:{runner.addresses[0][1]}", lines)
    finally:
        await runner.cleanup()
    assert [outcome.line["model"] for outcome in outcomes] == [f"model {number + 1}" for number in range(len(CALLS))]
    assert {outcome.status for outcome in outcomes} == {418}
