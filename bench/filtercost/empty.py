"""Filters that do nothing: what carrying the messages alone costs, which Sluice is compared with.

`plain` is the server that the stubs lead to: generated servicer, asyncio's own loop, TCP. `own` uses what Sluice uses:
its HTTP/2 transport on uvloop, a Unix socket, return after the last message. Both ask for the phases that Sluice asks
for and answer every message with an empty reply. Run as `python -m bench.filtercost.empty plain|own ADDRESS`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import grpc
import uvloop
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    HeadersResponse,
    ProcessingResponse,
    TrailersResponse,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import (
    ExternalProcessorServicer,
    add_ExternalProcessorServicer_to_server,
)

from extproc.wire.http2.call import Call
from extproc.wire.http2.limits import Limits
from extproc.wire.http2.server import Server

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 1 << 20),
)
_EVENT_STREAM = b"text/event-stream"

_REQUEST_HEADERS = ProcessingResponse(
    request_headers=HeadersResponse(),
    mode_override=ProcessingMode(request_body_mode=ProcessingMode.BUFFERED, response_header_mode=ProcessingMode.SEND),
)
_REQUEST_BODY = ProcessingResponse(request_body=BodyResponse())
_BUFFER_RESPONSE = ProcessingResponse(
    response_headers=HeadersResponse(), mode_override=ProcessingMode(response_body_mode=ProcessingMode.BUFFERED)
)
_STREAM_RESPONSE = ProcessingResponse(
    response_headers=HeadersResponse(),
    mode_override=ProcessingMode(response_body_mode=ProcessingMode.STREAMED, response_trailer_mode=ProcessingMode.SEND),
)
_RESPONSE_BODY = ProcessingResponse(response_body=BodyResponse())
_RESPONSE_TRAILERS = ProcessingResponse(response_trailers=TrailersResponse())


class PlainFilter(ExternalProcessorServicer):  # type: ignore[misc]  # the stubs have no types
    """Answers message by message from the generated classes."""

    async def Process(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The stream of one exchange."""
        async for request in request_iterator:
            kind = request.WhichOneof("request")
            if kind == "request_headers":
                yield _REQUEST_HEADERS
            elif kind == "request_body":
                yield _REQUEST_BODY
            elif kind == "response_headers":
                yield _STREAM_RESPONSE if _is_event_stream(request.response_headers) else _BUFFER_RESPONSE
            elif kind == "response_body":
                yield _RESPONSE_BODY
            else:
                yield _RESPONSE_TRAILERS


def _is_event_stream(message: Any) -> bool:
    return any(line.key == "content-type" and line.raw_value == _EVENT_STREAM for line in message.headers.headers)


async def plain(address: str) -> None:
    """Serves until the process is ended."""
    server = grpc.aio.server(options=_OPTIONS)
    add_ExternalProcessorServicer_to_server(PlainFilter(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


_REPLIES = {
    0x12: _REQUEST_HEADERS.SerializeToString(),
    0x22: _REQUEST_BODY.SerializeToString(),
    0x2A: _RESPONSE_BODY.SerializeToString(),
    0x3A: _RESPONSE_TRAILERS.SerializeToString(),
}
"""By the message's first byte, which is the tag of its kind as Envoy writes fields in the order of their numbers."""
_RESPONSE_HEADERS_TAG, _RESPONSE_BODY_TAG = 0x1A, 0x2A
_BUFFER, _STREAM = _BUFFER_RESPONSE.SerializeToString(), _STREAM_RESPONSE.SerializeToString()


class _Replies:
    """One call."""

    __slots__ = ("_call", "_streamed")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._streamed = False

    def message(self, data: bytes) -> None:
        if data[0] == _RESPONSE_HEADERS_TAG:
            self._streamed = _EVENT_STREAM in data
            self._call.send(_STREAM if self._streamed else _BUFFER)
            return
        self._call.send(_REPLIES[data[0]])
        if data[0] == _RESPONSE_BODY_TAG and not self._streamed:
            self._call.end()

    def ended(self) -> None:
        self._call.end()

    def closed(self) -> None:
        """Nothing was taken."""


async def own(address: str) -> None:
    """Serves until the process is ended."""
    from extproc.commands.process import tune  # here, as the other filter need not load what Sluice does

    tune()
    server = Server(lambda _path: lambda call: call.serve(_Replies(call)), Limits(), monotonic)
    await server.start(address)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "own":
        uvloop.run(own(sys.argv[2]))
    else:
        asyncio.run(plain(sys.argv[2]))
