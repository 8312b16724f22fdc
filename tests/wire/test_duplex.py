"""The endpoint picker protocol, message by message: requests, refusals, waiting and the subset hint."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import HttpTrailers, ProcessingRequest, ProcessingResponse
from hypothesis import given
from hypothesis import strategies as st

from extproc.exchange.endings import Ending
from extproc.pool.policy import PickRequest
from extproc.pool.waiting import SaturationLimits
from extproc.wire.server import TransportName
from extproc.wire.session import Session
from tests.wire.conversation import (
    CHAT,
    EVENT,
    LAST_EVENT,
    SSE,
    A,
    B,
    C,
    Channel,
    Picker,
    destination,
    edits,
    kind,
    refusal,
    request_body,
    request_headers,
    response_body,
    response_headers,
    serving,
    steered,
    streamed,
)


@pytest.fixture
async def channel(tmp_path: Path, transport: TransportName) -> AsyncIterator[Channel]:
    async with serving(Picker(), tmp_path, transport) as found:
        yield found


@pytest.fixture
async def busy(tmp_path: Path, transport: TransportName) -> AsyncIterator[Channel]:
    """One endpoint that takes one request at a time, and room for one to wait."""
    async with serving(Picker([A], saturation=SaturationLimits(in_flight=1)), tmp_path, transport) as found:
        yield found


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
        chunks = [CHAT[start:end] for start, end in pairwise(edges)] + [b""] * last_is_empty
        messages = [request_headers(), *(request_body(chunk, end=False) for chunk in chunks)]
        messages[-1].request_body.end_of_stream = True
        for message in messages[:-1]:
            assert list(session.handle(message.SerializeToString())) == []
        head, *pieces = map(ProcessingResponse.FromString, session.handle(messages[-1].SerializeToString()))
        assert destination(head) == [A]
        assert b"".join(streamed(piece, "request_body").body for piece in pieces) == CHAT
        ends = [streamed(piece, "request_body").end_of_stream for piece in pieces]
        assert ends == [False] * (len(pieces) - 1) + [True]
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
            [request_headers(), request_body(CHAT), ProcessingRequest(request_trailers=HttpTrailers())],
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
        await busy.picker.steering.wait()
        assert busy.picker.pool.waiting == 1
        held.lease.release(1.0)
        assert destination(await stream.read()) == [A]
        assert streamed(await stream.read(), "request_body").body == CHAT
        assert kind(await stream.read()) == "request_trailers"

    async def test_a_client_that_leaves_frees_its_place(self, busy: Channel) -> None:
        held = busy.picker.pool.pick(PickRequest(), 1.0)
        stream = busy.open()
        await stream.send(request_headers(end=True, headers={":method": "GET", ":path": "/health"}))
        await busy.picker.steering.wait()
        assert busy.picker.pool.waiting == 1
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
