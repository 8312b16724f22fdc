"""Guarded hosts in front of one provider that says again what it was told, and clients that talk to them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import openai

from bench.provider import ProviderServer
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, manifest, provider, route
from tests.support.processes import wait_until
from tests.support.raw import RawConnection, Reply, request

UPSTREAM = "upstream.test"
MODEL = "m"
EMAIL, PHONE, CARD = "ann.lee@example.org", "13800138000", "6222021234567890128"
SECRET = "sk-" + "proj-" + hashlib.sha256(b"of nobody").hexdigest()[:40]
LOCAL = {"classifier": {"enabled": False}}
"""The detectors that need no model."""
ANSWERS = {"messages": "none", "systemPrompt": False, "tools": False, "response": True}
"""Looks at answers alone."""

Message = Mapping[str, Any]


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def policy(name: str, host: str, **spec: Any) -> Manifest:
    """A policy of one host, without the classifier unless `spec` says otherwise."""
    return manifest("LLMSecurityPolicy", name, targets={"hosts": [host]}, **{**LOCAL, **spec})


@dataclass
class Guarded:
    """A gateway, and the provider that gets what it lets through."""

    gateway: Gateway
    provider: ProviderServer

    @contextmanager
    def client(self, host: str, sim: str = "echo:3", **headers: str) -> Iterator[openai.OpenAI]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with openai.OpenAI(
            base_url=f"{self.gateway.url}/v1",
            api_key="of-the-client",
            max_retries=0,
            default_headers={"host": host, "x-sim": sim, **named},
        ) as client:
            yield client

    def chat(self, host: str, *messages: Message | str, sim: str = "echo:3", **fields: Any) -> str:
        """Text of an answer to a chat; raises what the client raises."""
        with self.client(host, sim) as client:
            answer = client.chat.completions.create(model=MODEL, messages=chat(messages), **fields)
        return str(answer.choices[0].message.content)

    def stream(self, host: str, *messages: Message | str, sim: str = "echo:3", **fields: Any) -> tuple[str, str]:
        """Text of a streamed answer, and why it ended."""
        texts, reasons = [], []
        with self.client(host, sim) as client:
            chunks = client.chat.completions.create(model=MODEL, messages=chat(messages), stream=True, **fields)
            for choice in (choice for chunk in chunks for choice in chunk.choices):
                texts.append(choice.delta.content or "")
                reasons.append(choice.finish_reason)
        return "".join(texts), next(filter(None, reasons), "")

    def post(self, host: str, body: Any, *, path: str = "/v1/chat/completions", **headers: str) -> Reply:
        """A request on a connection of its own; `body` is sent as JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"content-type": "application/json", "x-sim": "echo:3", **headers}
        with RawConnection(self.gateway.port) as connection:
            return connection.send(request(data, path=path, host=host, **lines)).reply()

    def arrived(self) -> dict[str, Any]:
        """The body of the latest request that the provider saw."""
        found: dict[str, Any] = json.loads(self.provider.recorder.snapshot()["last"]["body"])
        return found

    def texts(self) -> list[Any]:
        """Contents of its messages."""
        return [message["content"] for message in self.arrived()["messages"]]

    @property
    def count(self) -> int:
        """Requests that reached the provider."""
        return self.provider.recorder.seen

    def findings(self, policy: str, **labels: str) -> float:
        return self.gateway.metric("sluice_findings_total", policy=policy, **labels)

    def settled(self) -> None:
        """Waits until every exchange is over and so counted."""
        wait_until(lambda: self.gateway.metric("sluice_exchanges_in_flight") == 0, "every exchange to end", 20)


def chat(messages: Sequence[Message | str]) -> Any:
    return [user(message) if isinstance(message, str) else message for message in messages]


def error_of(error: openai.APIStatusError) -> dict[str, Any]:
    """The error object that a client shows, with the header that repeats its code checked."""
    found = error.body
    assert isinstance(found, dict), error
    assert sorted(found) == ["code", "message", "param", "type"], found
    assert error.response.headers["x-sluice-reason"] == found["code"]
    return found


class Dripping:
    """`with Dripping(far) as upstream`: answers every request with the writes that `answer` holds, each sent alone."""

    def __init__(self, far: FarSide) -> None:
        self.answer: Sequence[bytes] = ()
        self.head = b"content-type: text/event-stream"
        self.status = 200
        self.address = ""
        self._far = far

    def __enter__(self) -> Dripping:
        self._far.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._far.run(self._stop())

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(size)
        writer.write(b"HTTP/1.1 %d Said\r\nconnection: close\r\n" % self.status + self.head + b"\r\n\r\n")
        for piece in self.answer:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()


def guarded(
    far_side: FarSide,
    gateways: Gateways,
    hosts: Sequence[str],
    *manifests: Manifest,
    aliases: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    **gateway_spec: Any,
) -> Guarded:
    """A running gateway whose `hosts` all lead to one provider, with these policies and whatever else."""
    cloud = far_side.provider()
    gateway = gateways.start(
        *to_provider(hosts),
        *manifests,
        environ=environ,
        hostAliases={UPSTREAM: cloud.address, **(aliases or {})},
        **gateway_spec,
    )
    return Guarded(gateway, cloud)


def to_provider(hosts: Sequence[str]) -> list[Manifest]:
    """The provider, and the routes of hosts that lead to it."""
    routes = [route(host.partition(".")[0], host, {"backendRefs": [{"provider": "upstream"}]}) for host in hosts]
    return [provider("upstream", UPSTREAM, port=80, protocol="http"), *routes]
