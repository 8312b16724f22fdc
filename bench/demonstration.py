"""The requests that the quickstart sends, and the table of what became of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import openai
from rich.table import Table

CHAT = {"messages": [{"role": "user", "content": "请介绍你自己"}]}
_LOG_WAIT = 5.0
"""Seconds until a request is shown without what the access log says of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One demonstration request: a bare POST as curl sends it, or a chat of the official client."""

    title: str
    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    stream: bool = False
    expected: int = 200

    def curl(self, gateway: str) -> str:
        """The command that sends the same."""
        if not self.model:
            named = {"Host": self.host, **self.headers}
            options = "".join(f" -H '{name}: {value}'" for name, value in named.items())
            return f"curl{options} {gateway} -d '{_json(CHAT)}'"
        body = {"model": self.model, **CHAT, **({"stream": True} if self.stream else {})}
        command = "curl -N" if self.stream else "curl"
        return f"{command} {gateway}/v1/chat/completions -d '{_json(body)}'"


CALLS = (
    Call("default model of a provider", "dashscope.aliyuncs.com"),
    Call("a larger one for subscribers", "dashscope.aliyuncs.com", {"user-type": "subscriber"}),
    Call("50/50 between two providers", "demo-llm-server"),
    Call("50/50 between two providers", "demo-llm-server"),
    Call("least-loaded GPU engine", model="qwen3-8b"),
    Call("least-loaded GPU engine, streamed", model="qwen3-8b", stream=True),
    Call("a model that nobody serves", model="gpt-unknown", expected=404),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call, its status, the seconds to the end of the answer, and its access log line, empty if none came."""

    call: Call
    status: int
    seconds: float
    line: Mapping[str, Any]

    @property
    def expected(self) -> bool:
        return self.status == self.call.expected


async def demonstrate(gateway: str, lines: asyncio.Queue[bytes]) -> list[Outcome]:
    """Sends every call, one after the other, and pairs them with the access log, which Envoy writes a little later."""
    sent = [(call, *await send(gateway, call)) for call in CALLS]
    logged = sorted(await _logged(lines, len(sent)), key=lambda line: str(line.get("time")))
    logged += [{}] * (len(sent) - len(logged))
    return [Outcome(*each, line) for each, line in zip(sent, logged, strict=True)]


async def _logged(lines: asyncio.Queue[bytes], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(_LOG_WAIT):
            while len(found) < count:
                line = await lines.get()
                if line.startswith(b"{"):
                    found.append(json.loads(line))
    except TimeoutError:
        pass  # the access log may be switched off or go elsewhere; the requests are shown all the same
    return found


async def send(gateway: str, call: Call) -> tuple[int, float]:
    """Status (0: no answer) and seconds to the end of the answer."""
    begun = time.perf_counter()
    try:
        status = await (_send_by_client(gateway, call) if call.model else _send_bare(gateway, call))
    except (openai.APIConnectionError, aiohttp.ClientError):
        status = 0
    return status, time.perf_counter() - begun


async def _send_by_client(gateway: str, call: Call) -> int:
    # Proxies in the environment are not meant for this machine.
    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(base_url=f"{gateway}/v1", api_key="any", max_retries=0, http_client=http) as client:
        try:
            answer: Any = await client.chat.completions.create(model=call.model, stream=call.stream, **CHAT)  # type: ignore[call-overload]
            if call.stream:
                async for _ in answer:
                    pass
        except openai.APIStatusError as error:
            return error.status_code
    return 200


async def _send_bare(gateway: str, call: Call) -> int:
    """As `curl -d` sends it, which calls JSON a form."""
    headers = {"Host": call.host, "Content-Type": "application/x-www-form-urlencoded", **call.headers}
    async with (
        aiohttp.ClientSession() as session,
        session.post(gateway, data=json.dumps(CHAT), headers=headers) as response,
    ):
        await response.read()
        return response.status


def table(outcomes: Sequence[Outcome]) -> Table:
    """One row per request."""
    columns = ("request", "status", "provider", "model", "endpoint", "tokens in/out", "ms")
    found = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for outcome in outcomes:
        line = outcome.line
        status = str(outcome.status or "none") + ("" if outcome.expected else f" [red](not {outcome.call.expected})[/]")
        tokens = f"{line.get('prompt_tokens') or '-'}/{line.get('completion_tokens') or '-'}"
        cells = (_destination(line), str(line.get("model") or "-"), str(line.get("endpoint") or "-"), tokens)
        found.add_row(outcome.call.title, status, *cells, f"{outcome.seconds * 1000:.0f}")
    return found


def _destination(line: Mapping[str, Any]) -> str:
    target, reason = line.get("target"), line.get("reason")
    if not target:
        return f"none: {reason}" if reason else "-"
    kind, _, name = str(target).partition("/")
    return name if kind == "provider" else f"{kind} {name}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
