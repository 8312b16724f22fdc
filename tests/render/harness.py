"""A rendered gateway on the real Envoy, with a filter that does what the request's headers tell it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import msgspec
import yaml
from aiohttp import web
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from envoy.service.ext_proc.v3.external_processor_pb2 import HeadersResponse, ProcessingResponse

from extproc.envoyproxy.process import EnvoyProxy, find_envoy
from extproc.render import EnvoyConfig, render
from extproc.render.parts import SERVED_BY
from extproc.resources.base import decode_hook
from extproc.resources.load import KINDS
from extproc.resources.snapshot import Snapshot, default_gateway
from tests.support.processes import free_port


def snapshot(text: str, directory: Path = Path()) -> Snapshot:
    """A snapshot of `kind name: spec` entries, such as `pool p: {endpoints: []}`, with nothing checked."""
    names = {"pool": "InferencePool", "provider": "LLMProvider", "route": "LLMRoute", "gateway": "Gateway"}
    found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for title, spec in (yaml.safe_load(text) or {}).items():
        short, name = title.split()
        kind = names[short]
        document = {"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec or {}}
        found[kind][name] = msgspec.convert(document, KINDS[kind], dec_hook=decode_hook)
    return Snapshot(
        gateway=next(iter(found["Gateway"].values()), default_gateway()),
        providers=found["LLMProvider"],
        routes=found["LLMRoute"],
        pools=found["InferencePool"],
        directory=directory,
    )


def pool(name: str, *addresses: str, more: str = "") -> str:
    listed = ", ".join(f"{{address: '{address}'}}" for address in addresses)
    return f"pool {name}: {{endpoints: [{listed}], {more}}}\n"


def to_pool(host: str, name: str) -> str:
    return f"route {name}: {{host: '{host}', rules: [{{backendRefs: [{{pool: {name}}}]}}]}}\n"


class ScriptedFilter:
    """Sends each request to the target in its `x-target`; `x-case` asks for something special."""

    def __init__(self) -> None:
        self.heads: list[dict[str, str]] = []
        """Request headers as they reached the filter."""
        self.phases: list[str] = []
        self.served_by: list[str] = []
        self.claims: list[object] = []
        self.held = asyncio.Event()
        """Requests with `x-case: held` are decided only once this is set."""

    async def Process(self, messages: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:  # noqa: N802 gRPC's
        head: dict[str, str] = {}
        async for message in messages:
            phase = message.WhichOneof("request")
            self.phases.append(phase)
            if phase == "request_headers":
                head = {item.key: item.raw_value.decode() for item in message.request_headers.headers.headers}
                self.heads.append(head)
                self.claims.append(_plain(message.metadata_context.filter_metadata.get("envoy.filters.http.jwt_authn")))
                if head.get("x-case") == "hang":
                    await asyncio.Event().wait()
                if head.get("x-case") == "held":
                    await self.held.wait()
                if head.get("x-case") == "unmarked":
                    yield _unmarked()
                    return
                if head.get("x-case") == "answer":
                    yield _answer()
                    return
                if head.get("x-case") == "immediate":
                    yield _immediate()
                    return
                if message.request_headers.end_of_stream:
                    yield _decision(head, "request_headers")
                else:
                    yield ProcessingResponse(request_headers=HeadersResponse(), mode_override=_MODE)
            elif phase == "request_body":
                yield _decision(head, "request_body")
            elif phase == "response_headers":
                chosen = message.metadata_context.filter_metadata.get("envoy.lb")
                self.served_by.append(chosen[SERVED_BY] if chosen and SERVED_BY in chosen else "")
                if head.get("x-case") == "late-immediate":
                    yield _immediate()
                    return
                yield ProcessingResponse(response_headers=HeadersResponse())
                return


_MODE = ProcessingMode(request_body_mode=ProcessingMode.BUFFERED, response_header_mode=ProcessingMode.SEND)


def _plain(struct: Any) -> object:
    return None if struct is None else {key: dict(value) for key, value in struct.items()}


def _decision(head: dict[str, str], phase: str) -> ProcessingResponse:
    reply = ProcessingResponse()
    if phase == "request_headers":
        reply.mode_override.CopyFrom(_MODE)
    common = getattr(reply, phase).response
    common.clear_route_cache = True
    _set(common.header_mutation, "x-decided", "yes")
    facts = {"target": head.get("x-target", "none"), "kind": head.get("x-kind", "unary"), "model": "m", "route": "r/0"}
    reply.dynamic_metadata.get_or_create_struct("sluice").update(facts)
    if "x-endpoints" in head:
        found = reply.dynamic_metadata.get_or_create_struct("envoy.lb")
        found.update({"x-gateway-destination-endpoint": head["x-endpoints"]})
    return reply


def _immediate() -> ProcessingResponse:
    reply = ProcessingResponse()
    reply.immediate_response.status.code = 404
    reply.immediate_response.body = IMMEDIATE_BODY
    _set(reply.immediate_response.headers, "content-type", "application/json")
    _set(reply.immediate_response.headers, "x-sluice-reason", "model_not_found")
    return reply


IMMEDIATE_BODY = (
    b'{"error":{"message":"no \\"x\\"","type":"invalid_request_error","code":"model_not_found","param":null}}'
)


def _answer() -> ProcessingResponse:
    """What the filter knows by itself, such as the list of models."""
    reply = ProcessingResponse()
    reply.immediate_response.status.code = 200
    reply.immediate_response.body = ANSWER_BODY
    _set(reply.immediate_response.headers, "content-type", "application/json")
    return reply


ANSWER_BODY = b'{"object":"list","data":[]}'


def _unmarked() -> ProcessingResponse:
    """An answer without a reason, as an Envoy filter might give: its text becomes the message."""
    reply = ProcessingResponse()
    reply.immediate_response.status.code = 401
    reply.immediate_response.body = HOSTILE.encode()
    return reply


HOSTILE = '"}}\\ \n\t{{%RESPONSE_CODE%} \u0000\u2028é'


def _set(mutation: Any, name: str, value: str) -> None:
    line = mutation.set_headers.add(append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
    line.header.key = name
    line.header.raw_value = value.encode()


@dataclass
class Upstream:
    """A destination that reports what it got, or answers `status`."""

    port: int
    status: int = 200
    requests: list[web.Request] = field(default_factory=list)
    hold: asyncio.Event | None = None
    """Answers only once this is set."""
    extra: dict[str, str] = field(default_factory=dict)  # headers of its answers

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.requests.append(request)
        if self.hold is not None:
            await self.hold.wait()
        headers = {"x-sluice-reason": "forged", "x-served-at": self.address} | self.extra
        return web.json_response({"port": self.port}, status=self.status, headers=headers)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI error object, checked for its exact shape."""
        found = json.loads(self.body)
        assert list(found) == ["error"], found
        assert sorted(found["error"]) == ["code", "message", "param", "type"], found
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-sluice-reason"] == found["error"]["code"]
        return dict(found["error"])


class Gateway:
    """Envoy, the scripted filter and a client."""

    def __init__(self, stack: AsyncExitStack, directory: Path) -> None:
        self._stack = stack
        self.directory = directory
        self.port = free_port()
        self.log = directory / "access.log"
        self.log.touch()
        self.filter = ScriptedFilter()
        self.filter_address = f"unix:{directory}/filter.sock"
        self.envoy_log: list[str] = []
        self._server: grpc.aio.Server | None = None
        self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))

    def settings(self, extra: str = "") -> str:
        """The gateway resource as flow-style YAML."""
        return (
            f"{{listener: {{port: {self.port}}}, accessLog: {{path: {self.log}}}, "
            f"limits: {{requestBody: 3MiB, messageTimeout: 1s}}, {extra}}}"
        )

    async def upstream(self, status: int = 200, ssl: Any = None) -> Upstream:
        found = Upstream(free_port(), status)
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", found.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", found.port, ssl_context=ssl).start()
        return found

    async def serve_filter(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(self.filter, self._server)
        self._server.add_insecure_port(self.filter_address)
        await self._server.start()

    async def kill_filter(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def render(self, resources: str, extra: str = "") -> EnvoyConfig:
        return render(snapshot(f"gateway g: {self.settings(extra)}\n{resources}", self.directory), self.filter_address)

    async def start(self, resources: str, extra: str = "", linger: float = 30) -> EnvoyProxy:
        """Serves the filter and starts Envoy with the rendered resources."""
        proxy = EnvoyProxy(find_envoy(), concurrency=1, on_log=self.envoy_log.append, linger=linger)
        self._stack.push_async_callback(proxy.stop, 0)
        await self.serve_filter()
        await proxy.start(self.render(resources, extra))
        return proxy

    async def send(
        self, body: bytes | None = b"{}", *, method: str = "POST", path: str = "/v1/chat/completions", **headers: str
    ) -> Reply:
        """One request; `x_target="pool/p"` becomes the header `x-target`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self._client.request(method, url, data=body and BytesIO(body), headers=named) as response:
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, lower, await response.read())

    async def raw(self, data: bytes) -> bytes:
        """The response, as bytes, that Envoy sends for these bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (line.split()[1] for line in head.splitlines() if line.startswith(b"content-length:"))
        found = head + await reader.readexactly(int(length))
        writer.close()
        return found

    async def close(self) -> None:
        await self._client.close()
        await self.kill_filter()


@asynccontextmanager
async def gateway(directory: Path) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        found = Gateway(stack, directory)
        stack.push_async_callback(found.close)
        yield found
