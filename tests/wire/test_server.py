"""Whole streams over real gRPC, against a server with a hand-made routing table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.pool.policy import LeastRequests, PickRequest, ScoredPolicy
from extproc.pool.pool import Pool
from extproc.pool.waiting import QueueLimits, SaturationLimits
from extproc.steps.live import Live
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable
from extproc.telemetry.metrics import Metrics
from extproc.wire.server import SERVICE, Server, TransportName
from extproc.wire.service import Service

CHAT = b'{"messages":[{"role":"user","content":"hi"}],"model":"theirs"}'


class Harness:
    """A running server, a client for it, and what was settled."""

    def __init__(self, directory: Path, transport: TransportName = "http2") -> None:
        self.records: list[ExchangeRecord] = []
        self.settled: asyncio.Queue[ExchangeRecord] = asyncio.Queue()
        self.metrics = Metrics()
        backend = Backend("provider/p", 1, model="ours", is_provider=True, key_header="authorization", key=lambda: b"K")
        routes = HostRoutes("api", (RouteRule("r/0", (backend,)),), ("ours",))
        live = Live(RouteTable({"api": routes}))
        self.service = Service(live, self._settle, lambda _model, size: (size // 4, 0), self.metrics, lambda: 1.0)
        self.server = Server(self.service, transport=transport)
        self.address = f"unix:{directory / 'filter.sock'}"

    def _settle(self, record: ExchangeRecord) -> None:
        self.records.append(record)
        self.settled.put_nowait(record)

    async def exchange(self, *messages: ProcessingRequest) -> list[ProcessingResponse]:
        """Sends messages one by one as Envoy does, each after the reply to the last."""
        replies = []
        async with grpc.aio.insecure_channel(self.address) as channel:
            call = ExternalProcessorStub(channel).Process()
            for message in messages:
                await call.write(message)
                reply = await call.read()
                replies.append(reply)
                if reply.WhichOneof("response") == "immediate_response":
                    break
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        return replies


@pytest.fixture
async def harness(tmp_path: Path, transport: TransportName) -> AsyncIterator[Harness]:
    async with running(tmp_path, transport) as found:
        yield found


@asynccontextmanager
async def running(directory: Path, transport: TransportName = "http2") -> AsyncIterator[Harness]:
    harness = Harness(directory, transport)
    await harness.server.start(harness.address)
    try:
        yield harness
    finally:
        await harness.server.drain(0)


def header_map(headers: Mapping[str, str]) -> HeaderMap:
    return HeaderMap(headers=[HeaderValue(key=name, raw_value=value.encode()) for name, value in headers.items()])


def request_headers(headers: Mapping[str, str] = {}, *, end: bool = False) -> ProcessingRequest:
    pairs = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "api", **headers}
    return ProcessingRequest(request_headers=HttpHeaders(headers=header_map(pairs), end_of_stream=end))


def request_body(body: bytes) -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=body, end_of_stream=True))


def response_headers(headers: Mapping[str, str], *, end: bool = False) -> ProcessingRequest:
    return ProcessingRequest(response_headers=HttpHeaders(headers=header_map(headers), end_of_stream=end))


def response_body(body: bytes, *, end: bool) -> ProcessingRequest:
    return ProcessingRequest(response_body=HttpBody(body=body, end_of_stream=end))


def edits(mutation: Any) -> dict[str, bytes]:
    return {option.header.key: option.header.raw_value for option in mutation.set_headers}


async def test_a_request_is_rewritten_and_its_answer_counted(harness: Harness) -> None:
    usage = b'{"usage":{"prompt_tokens":4,"completion_tokens":6}}'
    replies = await harness.exchange(
        request_headers({"content-type": "application/json", "authorization": "Bearer client"}),
        request_body(CHAT),
        response_headers({":status": "200", "content-type": "application/json", "content-length": str(len(usage))}),
        response_body(usage, end=True),
    )
    assert [reply.WhichOneof("response") for reply in replies] == [
        "request_headers",
        "request_body",
        "response_headers",
        "response_body",
    ]
    common = replies[1].request_body.response
    assert json.loads(common.body_mutation.body)["model"] == "ours"
    assert common.clear_route_cache
    assert edits(common.header_mutation)["authorization"] == b"K"
    assert int(edits(common.header_mutation)["content-length"]) == len(common.body_mutation.body)
    assert replies[1].dynamic_metadata["sluice"]["target"] == "provider/p"
    mode = replies[2].mode_override
    assert (mode.response_body_mode, mode.response_header_mode) == (ProcessingMode.BUFFERED, ProcessingMode.SEND)
    assert replies[3].dynamic_metadata["sluice"]["prompt_tokens"] == 4
    assert not replies[3].response_body.response.HasField("body_mutation")
    (record,) = harness.records
    assert record.usage is not None
    assert (record.usage.completion_tokens, record.ending, record.status) == (6, Ending.COMPLETED, 200)
    assert (record.requested_model, record.target_model, record.route) == ("theirs", "ours", "r/0")


@pytest.mark.parametrize(
    ("host", "body", "status", "code"),
    [
        ("elsewhere", CHAT, 404, "route_not_found"),
        ("api", b"{", 400, "invalid_json"),
        ("api", b"[]", 400, "not_an_object"),
        ("api", b"", 400, "empty_body"),
        ("api", b'{"messages":[]}', 400, "missing_field"),
        ("api", b'{"model":1,"messages":[{"role":"user","content":""}]}', 400, "wrong_type"),
    ],
)
async def test_a_bad_request_gets_an_error_object(
    harness: Harness, host: str, body: bytes, status: int, code: str
) -> None:
    replies = await harness.exchange(request_headers({":authority": host}), request_body(body))
    answer = replies[-1].immediate_response
    assert answer.status.code == status
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert edits(answer.headers)["x-sluice-reason"].decode() == error["code"]
    assert error["code"] == code
    assert len(harness.records) == 1


async def test_the_list_of_models_is_answered_here(harness: Harness) -> None:
    (reply,) = await harness.exchange(request_headers({":method": "GET", ":path": "/v1/models"}, end=True))
    assert reply.immediate_response.status.code == 200
    assert [model["id"] for model in json.loads(reply.immediate_response.body)["data"]] == ["ours"]


async def test_a_message_out_of_order_ends_the_stream_and_settles_once(harness: Harness) -> None:
    async with grpc.aio.insecure_channel(harness.address) as channel:
        call = ExternalProcessorStub(channel).Process()
        await call.write(response_body(b"", end=True))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
            await call.code()
            raise AssertionError("the stream went on")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(harness.records) == 1


async def test_a_fault_of_our_own_is_an_error_for_the_client(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_request: object) -> None:
        raise RuntimeError("broken step")

    monkeypatch.setattr("extproc.wire.session.decide", broken)
    replies = await harness.exchange(request_headers(), request_body(CHAT))
    assert replies[-1].immediate_response.status.code == 500
    assert "broken step" in caplog.text
    assert "broken step" not in replies[-1].immediate_response.body.decode()
    assert [record.ending for record in harness.records] == [Ending.INTERNAL]


async def test_a_client_that_goes_away_settles_the_exchange(harness: Harness) -> None:
    await harness.exchange(request_headers(), request_body(CHAT))
    (record,) = harness.records
    assert record.ending is Ending.CLIENT_GONE


async def test_trailers_end_an_answer(harness: Harness) -> None:
    replies = await harness.exchange(
        request_headers(),
        request_body(CHAT),
        response_headers({":status": "200", "content-type": "text/event-stream"}),
        response_body(b"data: {}\n\n", end=False),
        ProcessingRequest(response_trailers=HttpTrailers()),
    )
    assert replies[-1].WhichOneof("response") == "response_trailers"
    assert harness.records[0].ending is Ending.COMPLETED


async def test_health_follows_the_server(tmp_path: Path, transport: TransportName) -> None:
    async with running(tmp_path, transport) as harness, grpc.aio.insecure_channel(harness.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for name in ("", SERVICE):
            reply = await check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_health_watch_is_told_of_the_drain_and_ends_with_the_server(
    tmp_path: Path, transport: TransportName
) -> None:
    async with running(tmp_path, transport) as harness, grpc.aio.insecure_channel(harness.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="unknown"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        drain = asyncio.create_task(harness.server.drain(0.2))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError):
            await watch.read()
        await drain


async def test_reflection_names_the_services(tmp_path: Path, transport: TransportName) -> None:
    async with running(tmp_path, transport) as harness, grpc.aio.insecure_channel(harness.address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        for _ in range(2):
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            listed = (await call.read()).list_services_response.service
            assert SERVICE in {service.name for service in listed}
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_draining_lets_a_running_exchange_finish(tmp_path: Path, transport: TransportName) -> None:
    async with running(tmp_path, transport) as harness, grpc.aio.insecure_channel(harness.address) as channel:
        call = ExternalProcessorStub(channel).Process()
        await call.write(request_headers())
        await call.read()
        drain = asyncio.create_task(harness.server.drain(20))
        await asyncio.sleep(0)
        await call.write(request_body(CHAT))
        assert (await call.read()).WhichOneof("response") == "request_body"
        await call.done_writing()
        await drain
    assert len(harness.records) == 1


def busy_pool(timeout: float = 10.0) -> Pool:
    """A pool of one endpoint that takes one request at a time."""
    pool = Pool(
        "gpus",
        ScoredPolicy([(LeastRequests(), 1.0)]),
        retry_count=0,
        stale_after=1.0,
        random=Random(0),
        saturation=SaturationLimits(in_flight=1),
        queue=QueueLimits(timeout=timeout, try_period=0.01),
    )
    pool.set_members({"10.0.0.1:80": {}}, 0.0)
    return pool


def use_pool(harness: Harness, pool: Pool) -> None:
    routes = HostRoutes("api", (RouteRule("r/0", (Backend("pool/gpus", 1, pool=pool),)),))
    harness.service.live = Live(RouteTable({"api": routes}), longest_wait=10.0)


async def test_a_request_waits_for_an_endpoint_and_envoy_is_told_to_wait_too(harness: Harness) -> None:
    pool = busy_pool()
    use_pool(harness, pool)
    held = pool.pick(PickRequest(), 1.0)
    async with grpc.aio.insecure_channel(harness.address) as channel:
        call = ExternalProcessorStub(channel).Process()
        await call.write(request_headers())
        await call.read()
        await call.write(request_body(CHAT))
        hold = await call.read()
        assert hold.WhichOneof("response") is None
        assert hold.override_message_timeout.seconds >= 10
        held.lease.release(1.0)
        reply = await call.read()
        assert reply.dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"] == "10.0.0.1:80"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert pool.view(1.0).endpoints[0].in_flight == 0


async def test_a_client_that_leaves_the_queue_frees_its_place(harness: Harness) -> None:
    pool = busy_pool()
    use_pool(harness, pool)
    held = pool.pick(PickRequest(), 1.0)
    async with grpc.aio.insecure_channel(harness.address) as channel:
        for leave in ("done_writing", "cancel"):
            call = ExternalProcessorStub(channel).Process()
            await call.write(request_headers())
            await call.read()
            await call.write(request_body(CHAT))
            await call.read()
            assert pool.waiting == 1
            if leave == "cancel":
                call.cancel()
            else:
                await call.done_writing()
            assert (await harness.settled.get()).ending is Ending.CLIENT_GONE
            assert pool.waiting == 0
    held.lease.release(1.0)
    assert pool.view(1.0).endpoints[0].in_flight == 0


async def test_waiting_too_long_and_a_full_queue_are_told_apart(harness: Harness) -> None:
    pool = busy_pool(timeout=0.0)
    use_pool(harness, pool)
    pool.pick(PickRequest(), 1.0)
    *_, reply = await harness.exchange(request_headers(), request_body(CHAT))
    assert json.loads(reply.immediate_response.body)["error"]["code"] == "queue_timeout"
    assert reply.immediate_response.status.code == 503
    assert edits(reply.immediate_response.headers)["retry-after"] == b"1"
    one = SaturationLimits(in_flight=1)
    pool.configure(pool.policy, retry_count=0, stale_after=1.0, saturation=one, queue=QueueLimits(max_size=0))
    *_, reply = await harness.exchange(request_headers(), request_body(CHAT))
    assert json.loads(reply.immediate_response.body)["error"]["code"] == "queue_full"
    assert reply.immediate_response.status.code == 429
