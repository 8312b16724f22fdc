"""The endpoint picker protocol, message by message: answers, other body modes, health."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import HttpTrailers, ProcessingRequest
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.exchange.endings import Ending
from extproc.wire.server import Server, TransportName
from tests.wire.conversation import (
    CHAT,
    DUPLEX,
    EVENT,
    JSON,
    LAST_EVENT,
    SSE,
    USAGE,
    Channel,
    Picker,
    Stream,
    destination,
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


async def test_a_picker_that_drains_is_alive_and_not_ready(tmp_path: Path, transport: TransportName) -> None:
    picker = Picker()
    server = Server(picker.service, transport=transport)
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
            pass
        assert await ready("liveness")
        await stream.send(response_headers({":status": "204"}, end=True))
        await stream.read()
        await drain
