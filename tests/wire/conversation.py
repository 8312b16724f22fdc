"""A picker and a gateway that talks to it as a conformant one does, message by message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue, Metadata
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub
from google.protobuf.struct_pb2 import Struct

from extproc.accounting.record import ExchangeRecord
from extproc.pool.policy import LeastRequests, ScoredPolicy
from extproc.pool.pool import Pool
from extproc.pool.waiting import QueueLimits, SaturationLimits
from extproc.steps.live import Live
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable
from extproc.telemetry.metrics import Metrics
from extproc.wire.server import Server, TransportName
from extproc.wire.service import Service

A, B, C = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"
DESTINATION = "x-gateway-destination-endpoint"
SUBSET = "x-gateway-destination-endpoint-subset"
CHAT = b'{"messages":[{"role":"user","content":"hi"}],"model":"m"}'
JSON = {":status": "200", "content-type": "application/json"}
SSE = {":status": "200", "content-type": "text/event-stream"}
USAGE = b'{"model":"ours","usage":{"prompt_tokens":4,"completion_tokens":6}}'
EVENT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
LAST_EVENT = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\ndata: [DONE]\n\n'
ABSENT = object()
DUPLEX = ProcessingMode.FULL_DUPLEX_STREAMED


class Picker:
    """Sluice with one pool behind every host."""

    def __init__(self, endpoints: Sequence[str] = (A, B), *, saturation: SaturationLimits | None = None) -> None:
        self.settled: asyncio.Queue[ExchangeRecord] = asyncio.Queue()
        self.records: list[ExchangeRecord] = []
        self.pool = Pool(
            "gpus",
            ScoredPolicy([(LeastRequests(), 1.0)]),
            retry_count=1,
            stale_after=1.0,
            random=Random(0),
            saturation=saturation,
            queue=QueueLimits(max_size=1, try_period=0.01),
        )
        self.pool.set_members({address: {} for address in endpoints}, 0.0)
        self.service = Service(self.live(), self._settle, self._expect, Metrics(), lambda: 1.0)
        self.steering = asyncio.Event()
        """Set once a request has got as far as its endpoint: it has one then, or waits, or was refused."""

    def live(self, *, body_limit: int = 1 << 20, restore: bool = False, model: str | None = None) -> Live:
        backend = Backend("pool/gpus", 1, pool=self.pool, model=model, sheddable=frozenset(["batch"]))
        rule = RouteRule("r/0", (backend,), restore_model=restore)
        return Live(RouteTable({}, default=HostRoutes("*", (rule,))), body_limit=body_limit)

    @property
    def in_flight(self) -> dict[str, int]:
        return {one.address: one.in_flight for one in self.pool.view(1.0).endpoints if one.in_flight}

    def _expect(self, _model: str, size: int) -> tuple[int, int]:
        self.steering.set()
        return size // 4, 0

    def _settle(self, record: ExchangeRecord) -> None:
        self.records.append(record)
        self.settled.put_nowait(record)


class Stream:
    """One ext_proc stream. Envoy does not wait for replies here, and neither does this."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, *messages: ProcessingRequest) -> None:
        for message in messages:
            await self.call.write(message)

    async def read(self) -> ProcessingResponse:
        reply = await self.call.read()
        assert reply is not grpc.aio.EOF, "the picker has ended the stream"
        return reply

    async def body(self, part: str) -> tuple[bytes, list[ProcessingResponse]]:
        """The pieces of a body up to its marked end, together and one by one."""
        replies: list[ProcessingResponse] = []
        while not replies or not streamed(replies[-1], part).end_of_stream:
            replies.append(await self.read())
        return b"".join(streamed(reply, part).body for reply in replies), replies

    async def end(self) -> list[ProcessingResponse]:
        """What was sent beyond what was read."""
        await self.call.done_writing()
        rest = []
        while (reply := await self.call.read()) is not grpc.aio.EOF:
            rest.append(reply)
        return rest


class Channel:
    """A running picker and a client for it."""

    def __init__(self, picker: Picker, stub: Any, channel: Any) -> None:
        self.picker = picker
        self.channel = channel
        self._stub = stub

    def open(self) -> Stream:
        return Stream(self._stub.Process())

    async def picked(self, subset: object = ABSENT) -> ProcessingResponse:
        """The first reply to a request that has no body, alone on its stream."""
        stream = self.open()
        await stream.send(request_headers({":method": "GET", ":path": "/health"}, end=True, subset=subset))
        reply = await stream.read()
        await stream.end()
        return reply


@asynccontextmanager
async def serving(picker: Picker, directory: Path, transport: TransportName = "http2") -> AsyncIterator[Channel]:
    server = Server(picker.service, transport=transport)
    address = f"unix:{directory / 'picker.sock'}"
    await server.start(address)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Channel(picker, ExternalProcessorStub(channel), channel)
    finally:
        await server.drain(0)


def header_map(headers: Mapping[str, str]) -> HeaderMap:
    return HeaderMap(headers=[HeaderValue(key=name, raw_value=value.encode()) for name, value in headers.items()])


def metadata(namespace: str, values: Mapping[str, object]) -> Metadata:
    fields = Struct()
    fields.update(values)
    return Metadata(filter_metadata={namespace: fields})


def request_headers(
    headers: Mapping[str, str] = {},
    *,
    end: bool = False,
    modes: tuple[Any, Any] = (DUPLEX, DUPLEX),
    subset: object = ABSENT,
) -> ProcessingRequest:
    """The first message of a stream, which tells the modes; `subset` is the subset hint."""
    pairs = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "any.example", **headers}
    message = ProcessingRequest(
        request_headers=HttpHeaders(headers=header_map(pairs), end_of_stream=end),
        protocol_config=ProtocolConfiguration(request_body_mode=modes[0], response_body_mode=modes[1]),
    )
    if subset is not ABSENT:
        message.metadata_context.CopyFrom(metadata("envoy.lb.subset_hint", {SUBSET: subset}))
    return message


def request_body(body: bytes, *, end: bool = True) -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=body, end_of_stream=end))


def response_headers(headers: Mapping[str, str], *, end: bool = False, served: str = "") -> ProcessingRequest:
    message = ProcessingRequest(response_headers=HttpHeaders(headers=header_map(headers), end_of_stream=end))
    if served:
        message.metadata_context.CopyFrom(metadata("envoy.lb", {"x-gateway-destination-endpoint-served": served}))
    return message


def response_body(body: bytes, *, end: bool = False) -> ProcessingRequest:
    return ProcessingRequest(response_body=HttpBody(body=body, end_of_stream=end))


def kind(reply: ProcessingResponse) -> str:
    return str(reply.WhichOneof("response"))


def streamed(reply: ProcessingResponse, part: str) -> Any:
    assert kind(reply) == part
    assert getattr(reply, part).response.body_mutation.WhichOneof("mutation") == "streamed_response"
    return getattr(reply, part).response.body_mutation.streamed_response


def edits(mutation: Any) -> dict[str, str]:
    return {option.header.key: option.header.raw_value.decode() for option in mutation.set_headers}


def destination(reply: ProcessingResponse) -> list[str]:
    """The endpoints, which header and metadata have to tell alike."""
    assert kind(reply) == "request_headers", reply
    assert not reply.HasField("mode_override")
    common = reply.request_headers.response
    assert common.clear_route_cache
    assert common.body_mutation.WhichOneof("mutation") is None
    value = reply.dynamic_metadata["envoy.lb"][DESTINATION]
    assert edits(common.header_mutation)[DESTINATION] == value
    return str(value).split(",")


def refusal(reply: ProcessingResponse) -> tuple[int, str]:
    assert kind(reply) == "immediate_response", reply
    return reply.immediate_response.status.code, json.loads(reply.immediate_response.body)["error"]["code"]


async def steered(stream: Stream, body: bytes = CHAT, headers: Mapping[str, str] = {}) -> list[str]:
    """Takes a request through to its endpoints."""
    await stream.send(request_headers(headers), request_body(body))
    found = destination(await stream.read())
    assert (await stream.body("request_body"))[0] == body
    return found
