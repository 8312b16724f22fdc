"""Long pieces of a guarded answer are looked at in a thread, while Envoy goes on sending."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import grpc
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub

from detectors.answers import AnswerReader
from detectors.guard import Guard
from detectors.policy import Policy
from extproc.exchange.endings import Ending
from extproc.exchange.values import BodyReply
from extproc.steps.live import Live
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable
from extproc.steps.watch import Result, Watch
from extproc.wire.session import INLINE
from tests.wire import conversation
from tests.wire.conversation import Picker, serving
from tests.wire.test_server import (
    CHAT,
    Harness,
    request_body,
    request_headers,
    response_body,
    response_headers,
    running,
)

SSE = {":status": "200", "content-type": "text/event-stream"}
DONE = b"data: [DONE]\n\n"


async def at_once(work: Callable[[], Result], _seconds: float) -> Result:
    return work()


def guard_answers(harness: Harness) -> None:
    """Has every answer looked at."""
    guard = Guard(Policy(), [])
    watch = Watch("p", guard, at_once, 1.0, reader=AnswerReader(guard))
    backend = Backend("provider/p", 1, is_provider=True, key=lambda: b"K", watches=(watch,))
    harness.service.live = Live(RouteTable({"api": HostRoutes("api", (RouteRule("r/0", (backend,)),))}))


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "1", "choices": [choice]}).encode() + b"\n\n"


async def test_an_answer_that_envoy_does_not_send_cannot_be_guarded(tmp_path: Path) -> None:
    picker = Picker()
    guard = Guard(Policy(), [])
    watch = Watch("p", guard, at_once, 1.0, reader=AnswerReader(guard))
    backend = Backend("pool/gpus", 1, pool=picker.pool, watches=(watch,))
    picker.service.live = Live(RouteTable({}, default=HostRoutes("*", (RouteRule("r/0", (backend,)),))))
    async with serving(picker, tmp_path) as channel:
        stream = channel.open()
        await stream.send(
            conversation.request_headers(modes=(conversation.DUPLEX, ProcessingMode.NONE)),
            conversation.request_body(conversation.CHAT),
        )
        reply = await stream.read()
        assert reply.immediate_response.status.code == 500
        await stream.end()
    assert picker.in_flight == {}


async def test_pieces_that_come_meanwhile_are_answered_in_order(tmp_path: Path) -> None:
    looking, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(work: Callable[[], BodyReply]) -> BodyReply:
        looking.set()
        await go_on.wait()
        return work()

    async with running(tmp_path) as harness, grpc.aio.insecure_channel(harness.address) as channel:
        guard_answers(harness)
        harness.service.beside = slowly
        call = ExternalProcessorStub(channel).Process()
        for message in (request_headers(), request_body(CHAT), response_headers(SSE)):
            await call.write(message)
            await call.read()
        long = "".join(event(f"word {number} ").decode() for number in range(100)).encode()
        assert len(long) > INLINE
        await call.write(response_body(long, end=False))
        await looking.wait()
        pieces = [long, event("last"), DONE]
        for number, piece in enumerate(pieces[1:], 1):
            await call.write(response_body(piece, end=number == 2))
        go_on.set()
        out = b""
        for piece in pieces:
            reply = (await call.read()).response_body.response
            out += reply.body_mutation.body if reply.HasField("body_mutation") else piece
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        record = await harness.settled.get()
    said = [json.loads(line[6:]) for line in out.decode().split("\n\n") if line.startswith("data: {")]
    texts = [choice["delta"].get("content", "") for each in said for choice in each["choices"]]
    assert "".join(texts) == "".join(f"word {number} " for number in range(100)) + "last"
    assert out.endswith(DONE)
    assert record.ending is Ending.COMPLETED
