"""The endpoint picker protocol, message by message: streams as a conformant gateway's Envoy sends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue, Metadata
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.pool.policy import LeastRequests, PickRequest, ScoredPolicy
from extproc.pool.pool import Pool
from extproc.pool.waiting import QueueLimits, SaturationLimits
from extproc.steps.live import Live
from extproc.steps.routes import Backend, HostRoutes, RouteTable, Rule
from extproc.telemetry.metrics import Metrics
from extproc.wire.server import Server
from extproc.wire.session import Service, Session

A, B, C = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"
DESTINATION = "x-gateway-destination-endpoint"
SUBSET = "x-gateway-destination-endpoint-subset"
CHAT = b'{"messages":[{"role":"user","content":"hi"}],"model":"m"}'
JSON = {":status": "200", "content-type": "application/json"}
SSE = {":status": "200", "content-type": "text/event-stream"}
USAGE = b'{"model":"ours","usage":{"prompt_tokens":4,"completion_tokens":6}}'
EVENT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
LAST_EVENT = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\ndata: [DONE]\n\n'
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
        self.service = Service(self.live(), self._settle, lambda _model, size: size // 4, Metrics(), lambda: 1.0)

    def live(self, *, body_limit: int = 1 << 20, restore: bool = False, model: str | None = None) -> Live:
        backend = Backend("pool/gpus", 1, pool=self.pool, model=model, sheddable=frozenset(["batch"]))
        rule = Rule("r/0", (backend,), restore_model=restore)
        return Live(RouteTable({}, default=HostRoutes("*", (rule,))), body_limit=body_limit)

    @property
    def in_flight(self) -> dict[str, int]:
        return {one.address: one.in_flight for one in self.pool.view(1.0).endpoints if one.in_flight}

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
        replies = []
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

    async def picked(self, **hint: object) -> ProcessingResponse:
        """The first reply to a request that has no body, alone on its stream."""
        stream = self.open()
        await stream.send(request_headers({":method": "GET", ":path": "/health"}, end=True, **hint))
        reply = await stream.read()
        await stream.end()
        return reply


@asynccontextmanager
async def serving(picker: Picker, directory: Path) -> AsyncIterator[Channel]:
    server = Server(picker.service)
    address = f"unix:{directory / 'picker.sock'}"
    await server.start(address)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Channel(picker, ExternalProcessorStub(channel), channel)
    finally:
        await server.drain(0)


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[Channel]:
    async with serving(Picker(), tmp_path) as found:
        yield found


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Channel]:
    """One endpoint that takes one request at a time, and room for one to wait."""
    async with serving(Picker([A], saturation=SaturationLimits(in_flight=1)), tmp_path) as found:
        yield found


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
    **hint: object,
) -> ProcessingRequest:
    """The first message of a stream, which tells the modes. `subset` in `hint` is the subset hint."""
    pairs = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "any.example", **headers}
    message = ProcessingRequest(
        request_headers=HttpHeaders(headers=header_map(pairs), end_of_stream=end),
        protocol_config=ProtocolConfiguration(request_body_mode=modes[0], response_body_mode=modes[1]),
    )
    if "subset" in hint:
        message.metadata_context.CopyFrom(metadata("envoy.lb.subset_hint", {SUBSET: hint["subset"]}))
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


class TestRequest:
    async def test_the_whole_conversation(self, channel: Channel) -> None:
        stream = channel.open()
        await stream.send(request_headers(), request_body(CHAT[:20], end=False), request_body(CHAT[20:], end=False))
        await stream.send(request_body(b""))
        assert sorted(destination(await stream.read())) == [A, B]
        body, _ = await stream.body("request_body")
        assert body == CHAT
        await stream.send(response_headers(SSE))
        opened = await stream.read()
        assert kind(opened) == "response_headers"
        assert not opened.HasField("mode_override")
        for chunk in (EVENT, LAST_EVENT[:9], LAST_EVENT[9:]):
            await stream.send(response_body(chunk))
            piece = streamed(await stream.read(), "response_body")
            assert (piece.body, piece.end_of_stream) == (chunk, False)
        await stream.send(response_body(b"", end=True))
        ended = await stream.read()
        assert streamed(ended, "response_body").end_of_stream
        assert ended.dynamic_metadata["sluice"]["completion_tokens"] == 5
        assert await stream.end() == []
        (record,) = channel.picker.records
        assert (record.ending, record.status, record.stream) == (Ending.COMPLETED, 200, False)
        assert channel.picker.in_flight == {}

    async def test_a_request_without_a_body_is_answered_at_once(self, channel: Channel) -> None:
        assert sorted(destination(await channel.picked())) == [A, B]

    async def test_trailers_end_a_body(self, channel: Channel) -> None:
        stream = channel.open()
        await stream.send(request_headers(), request_body(CHAT, end=False))
        await stream.send(ProcessingRequest(request_trailers=HttpTrailers()))
        destination(await stream.read())
        piece = streamed(await stream.read(), "request_body")
        assert (piece.body, piece.end_of_stream) == (CHAT, False)
        assert kind(await stream.read()) == "request_trailers"
        assert await stream.end() == []

    async def test_a_big_body_comes_back_in_pieces_of_bounded_size(self, channel: Channel) -> None:
        big = CHAT.replace(b"hi", b"x" * 500_000)
        stream = channel.open()
        await stream.send(request_headers(), request_body(big[:300_000], end=False), request_body(big[300_000:]))
        destination(await stream.read())
        body, pieces = await stream.body("request_body")
        assert body == big
        assert max(len(streamed(piece, "request_body").body) for piece in pieces) < 64 * 1024

    async def test_an_edited_body_is_sent_with_its_length(self, channel: Channel) -> None:
        channel.picker.service.live = channel.picker.live(model="another")
        stream = channel.open()
        await stream.send(request_headers(), request_body(CHAT))
        head = await stream.read()
        body, _ = await stream.body("request_body")
        assert json.loads(body) == json.loads(CHAT) | {"model": "another"}
        assert int(edits(head.request_headers.response.header_mutation)["content-length"]) == len(body)

    @given(cuts=st.lists(st.integers(0, len(CHAT)), max_size=6), last_is_empty=st.booleans())
    def test_however_a_body_is_cut_the_reply_comes_with_its_end(self, cuts: list[int], last_is_empty: bool) -> None:
        picker = Picker([A])
        session = Session(picker.service)
        edges = [0, *sorted(cuts), len(CHAT)]
        chunks = [CHAT[start:end] for start, end in zip(edges, edges[1:], strict=False)] + [b""] * last_is_empty
        messages = [request_headers(), *(request_body(chunk, end=False) for chunk in chunks)]
        messages[-1].request_body.end_of_stream = True
        for message in messages[:-1]:
            assert list(session.handle(message.SerializeToString())) == []
        head, *pieces = map(ProcessingResponse.FromString, session.handle(messages[-1].SerializeToString()))
        assert destination(head) == [A]
        assert b"".join(streamed(piece, "request_body").body for piece in pieces) == CHAT
        assert [streamed(piece, "request_body").end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        session.close()
        assert picker.in_flight == {}


class TestRefusal:
    async def test_a_body_beyond_the_limit_is_not_kept(self, channel: Channel) -> None:
        channel.picker.service.live = channel.picker.live(body_limit=100)
        stream = channel.open()
        await stream.send(request_headers(), request_body(b"x" * 60, end=False), request_body(b"x" * 60, end=False))
        assert refusal(await stream.read()) == (413, "body_too_large")
        assert await stream.end() == []

    @pytest.mark.parametrize(("body", "code"), [(b"{", "invalid_json"), (b"", "empty_body")])
    async def test_a_bad_body_is_refused_once_it_is_complete(self, channel: Channel, body: bytes, code: str) -> None:
        stream = channel.open()
        await stream.send(request_headers(), request_body(body, end=False), request_body(b""))
        assert refusal(await stream.read()) == (400, code)
        assert await stream.end() == []
        assert len(channel.picker.records) == 1

    async def test_no_endpoint_is_a_503(self, tmp_path: Path) -> None:
        async with serving(Picker([]), tmp_path) as channel:
            assert refusal(await channel.picked()) == (503, "no_endpoints")

    async def test_a_full_queue_and_a_sheddable_request_are_a_429(self, busy: Channel) -> None:
        pool = busy.picker.pool
        shed = busy.open()
        assert await steered(shed, headers={"x-gateway-inference-objective": "batch"}) == [A], "while there is room"
        await shed.send(request_headers({"x-gateway-inference-objective": "batch"}))
        batch = busy.open()
        await batch.send(request_headers({"x-gateway-inference-objective": "batch"}), request_body(CHAT))
        assert refusal(await batch.read()) == (429, "shed")
        assert pool.waiting == 0
        pool._queue.enter(PickRequest(), 1.0)
        third = busy.open()
        await third.send(request_headers({"x-gateway-inference-objective": "chat"}), request_body(CHAT))
        assert refusal(await third.read()) == (429, "queue_full")

    @pytest.mark.parametrize(
        "messages",
        [
            [request_body(CHAT)],
            [ProcessingRequest(request_trailers=HttpTrailers())],
            [request_headers(), request_headers()],
            [request_headers(), request_body(CHAT), request_body(CHAT)],
            [request_headers(end=False), response_body(b"x")],
        ],
    )
    async def test_a_message_out_of_order_ends_the_stream(
        self, channel: Channel, messages: list[ProcessingRequest]
    ) -> None:
        stream = channel.open()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.send(*messages)
            while await stream.call.read() is not grpc.aio.EOF:
                pass
            raise AssertionError("the stream ended well")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await channel.picker.settled.get()
        assert channel.picker.in_flight == {}


class TestWaiting:
    async def test_a_request_waits_without_a_word(self, busy: Channel) -> None:
        held = busy.picker.pool.pick(PickRequest(), 1.0)
        stream = busy.open()
        await stream.send(request_headers(), request_body(CHAT[:9], end=False), request_body(CHAT[9:], end=False))
        await stream.send(ProcessingRequest(request_trailers=HttpTrailers()))
        while not busy.picker.pool.waiting:
            await asyncio.sleep(0)
        held.lease.release(1.0)
        assert destination(await stream.read()) == [A]
        assert streamed(await stream.read(), "request_body").body == CHAT
        assert kind(await stream.read()) == "request_trailers"

    async def test_a_client_that_leaves_frees_its_place(self, busy: Channel) -> None:
        held = busy.picker.pool.pick(PickRequest(), 1.0)
        stream = busy.open()
        await stream.send(request_headers(end=True, headers={":method": "GET", ":path": "/health"}))
        while not busy.picker.pool.waiting:
            await asyncio.sleep(0)
        stream.call.cancel()
        assert (await busy.picker.settled.get()).ending is Ending.CLIENT_GONE
        assert busy.picker.pool.waiting == 0
        held.lease.release(1.0)
        assert busy.picker.in_flight == {}


class TestSubset:
    @pytest.mark.parametrize("hint", [[B], [f"{B}", "10.9.9.9:1"], B, f" {B} , 10.9.9.9:1", [f"{B},10.9.9.9:1", 7]])
    async def test_only_named_endpoints_are_chosen(self, channel: Channel, hint: object) -> None:
        for _ in range(8):
            assert destination(await channel.picked(subset=hint)) == [B]

    async def test_retries_stay_within_the_subset_too(self, tmp_path: Path) -> None:
        async with serving(Picker([A, B, C]), tmp_path) as channel:
            for _ in range(8):
                assert sorted(destination(await channel.picked(subset=[A, C]))) == [A, C]

    @pytest.mark.parametrize("hint", [[], "", ["10.9.9.9:1"], "10.9.9.9:1", 7, True])
    async def test_a_hint_that_fits_nothing_is_a_503_and_logged_once(
        self, channel: Channel, hint: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(3):
            assert refusal(await channel.picked(subset=hint)) == (503, "no_endpoints")
        assert [record.message.partition("(")[0] for record in caplog.records] == [
            "the gateway's subset hint names no endpoint of pool 'gpus' "
        ]

    async def test_a_hint_of_unreachable_endpoints_is_no_fault_of_the_gateway(
        self, channel: Channel, caplog: pytest.LogCaptureFixture
    ) -> None:
        channel.picker.pool.unreachable(B, "gone", 1.0)
        assert refusal(await channel.picked(subset=[B])) == (503, "no_endpoints")
        assert not caplog.records

    async def test_a_null_hint_is_none(self, channel: Channel) -> None:
        assert sorted(destination(await channel.picked(subset=None))) == [A, B]


class TestResponse:
    async def test_the_load_follows_the_endpoint_that_served(self, channel: Channel) -> None:
        stream = channel.open()
        first, second = await steered(stream)
        assert channel.picker.in_flight == {first: 1}
        await stream.send(response_headers(JSON, served=second))
        await stream.read()
        assert channel.picker.in_flight == {second: 1}
        await stream.send(response_body(USAGE, end=True))
        await stream.read()
        assert await stream.end() == []
        assert channel.picker.in_flight == {}
        assert channel.picker.records[0].endpoint == second

    async def test_an_edited_answer_is_sent_when_it_is_complete(self, channel: Channel) -> None:
        channel.picker.service.live = channel.picker.live(model="ours", restore=True)
        stream = channel.open()
        await stream.send(request_headers(), request_body(CHAT))
        await stream.read()
        await stream.body("request_body")
        await stream.send(response_headers({**JSON, "content-length": str(len(USAGE))}))
        assert "content-length" in (await stream.read()).response_headers.response.header_mutation.remove_headers
        await stream.send(response_body(USAGE[:10]), response_body(USAGE[10:], end=True))
        body, pieces = await stream.body("response_body")
        assert json.loads(body) == json.loads(USAGE) | {"model": "m"}
        assert len(pieces) == 1, "nothing is said until all is known"
        assert await stream.end() == []

    async def test_what_was_held_back_precedes_the_trailers(self, channel: Channel) -> None:
        channel.picker.service.live = channel.picker.live(model="ours", restore=True)
        stream = channel.open()
        await stream.send(request_headers(), request_body(CHAT))
        await stream.read()
        await stream.body("request_body")
        await stream.send(response_headers(JSON), response_body(USAGE))
        await stream.send(ProcessingRequest(response_trailers=HttpTrailers()))
        await stream.read()
        piece = streamed(await stream.read(), "response_body")
        assert json.loads(piece.body)["model"] == "m"
        assert not piece.end_of_stream
        assert kind(await stream.read()) == "response_trailers"
        assert await stream.end() == []
        assert channel.picker.records[0].ending is Ending.COMPLETED

    @pytest.mark.parametrize(
        "headers",
        [{":status": "500", "content-type": "text/plain"}, {":status": "200", "content-type": "audio/mpeg"}],
    )
    async def test_an_answer_of_no_interest_comes_back_too(self, channel: Channel, headers: dict[str, str]) -> None:
        stream = channel.open()
        await steered(stream)
        await stream.send(response_headers(headers), response_body(b"one"), response_body(b"two", end=True))
        await stream.read()
        assert (await stream.body("response_body"))[0] == b"onetwo"
        assert await stream.end() == []
        record = channel.picker.records[0]
        assert (record.ending, record.status) == (Ending.COMPLETED, int(headers[":status"]))
        assert record.first_token is None

    async def test_an_answer_without_a_body_ends_with_its_headers(self, channel: Channel) -> None:
        stream = channel.open()
        await steered(stream)
        await stream.send(response_headers({":status": "204"}, end=True))
        assert kind(await stream.read()) == "response_headers"
        assert await stream.end() == []
        assert channel.picker.in_flight == {}

    async def test_a_reply_by_the_gateway_itself_passes(self, channel: Channel) -> None:
        """Such as a timeout while the body still comes in."""
        stream = channel.open()
        await stream.send(request_headers(), request_body(CHAT[:9], end=False))
        await stream.send(response_headers({":status": "408"}), response_body(b"late", end=True))
        assert kind(await stream.read()) == "response_headers"
        assert (await stream.body("response_body"))[0] == b"late"
        assert await stream.end() == []
        assert channel.picker.records[0].ending is Ending.REPLIED_BY_ENVOY

    async def test_a_corrupt_answer_that_must_be_edited_breaks_off(self, channel: Channel) -> None:
        channel.picker.service.live = channel.picker.live(model="ours", restore=True)
        stream = channel.open()
        await stream.send(request_headers(), request_body(CHAT))
        await stream.read()
        await stream.body("request_body")
        await stream.send(response_headers({**JSON, "content-encoding": "gzip"}), response_body(b"no gzip"))
        await stream.send(ProcessingRequest(response_trailers=HttpTrailers()))
        await stream.read()
        assert refusal(await stream.read()) == (502, "unreadable_answer")
        assert await stream.end() == []

    async def test_a_client_that_leaves_gives_everything_back(self, channel: Channel) -> None:
        stream = channel.open()
        await steered(stream)
        await stream.send(response_headers(SSE), response_body(EVENT))
        await stream.read()
        await stream.read()
        stream.call.cancel()
        assert (await channel.picker.settled.get()).ending is Ending.CLIENT_GONE
        assert channel.picker.in_flight == {}


class TestOtherModes:
    """What a gateway may be set to besides: each direction is framed as it is sent."""

    async def test_answers_that_are_not_sent(self, channel: Channel) -> None:
        stream = channel.open()
        await stream.send(request_headers(modes=(DUPLEX, ProcessingMode.NONE)), request_body(CHAT))
        destination(await stream.read())
        await stream.body("request_body")
        await stream.send(response_headers(JSON))
        assert not (await stream.read()).HasField("mode_override")
        assert await stream.end() == []
        assert channel.picker.records[0].ending is Ending.COMPLETED

    async def test_answers_one_for_one(self, channel: Channel) -> None:
        stream = channel.open()
        await stream.send(request_headers(modes=(DUPLEX, ProcessingMode.STREAMED)), request_body(CHAT))
        destination(await stream.read())
        await stream.body("request_body")
        await stream.send(response_headers(SSE), response_body(EVENT), response_body(LAST_EVENT, end=True))
        kinds = [await stream.read() for _ in range(3)]
        assert [kind(reply) for reply in kinds] == ["response_headers", "response_body", "response_body"]
        assert not any(reply.response_body.response.HasField("body_mutation") for reply in kinds)
        assert await stream.end() == []

    async def test_requests_that_cannot_be_steered(self, channel: Channel) -> None:
        stream = channel.open()
        await stream.send(request_headers(modes=(ProcessingMode.STREAMED, DUPLEX)))
        await stream.read()
        await stream.send(request_body(CHAT[:9], end=False))
        assert refusal(await stream.read()) == (500, "internal_error")
        assert await stream.end() == []


async def test_a_picker_that_drains_is_alive_and_not_ready(tmp_path: Path) -> None:
    picker = Picker()
    server = Server(picker.service)
    address = f"unix:{tmp_path / 'picker.sock'}"
    await server.start(address)
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check

        async def ready(name: str) -> bool:
            reply = await check(health_pb2.HealthCheckRequest(service=name))
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

        assert [await ready(name) for name in ("liveness", "readiness")] == [True, True]
        stream = Stream(ExternalProcessorStub(channel).Process())
        await steered(stream)
        drain = asyncio.create_task(server.drain(20))
        while await ready("readiness"):
            await asyncio.sleep(0)
        assert await ready("liveness")
        await stream.send(response_headers({":status": "204"}, end=True))
        await stream.read()
        await drain
