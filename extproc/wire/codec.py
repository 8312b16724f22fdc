"""Protocol buffers to values and back. Nothing outside this room sees a protobuf object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HttpHeaders,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
    StreamedBodyResponse,
    TrailersResponse,
)
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.protobuf.struct_pb2 import Value

from extproc.exchange.values import (
    BodyMode,
    BodyReply,
    Decision,
    HeaderList,
    Headers,
    HeadersReply,
    LocalReply,
    Metadata,
)
from extproc.payload.usage import Usage
from extproc.wire import bodies, parts
from extproc.wire.envoy_usage import read_usage
from extproc.wire.facts import Facts

JWT_NAMESPACE = "envoy.filters.http.jwt_authn"
_DESTINATION_NAMESPACE = "envoy.lb"
_SERVED_BY = "x-gateway-destination-endpoint-served"
_SUBSET_NAMESPACE = "envoy.lb.subset_hint"
_USAGE_NAMESPACE = "envoy.ai.token_usage"
_SUBSET = "x-gateway-destination-endpoint-subset"
_PIECE = 60_000
"""Bytes of a body in one message of full duplex. Some data planes take no more than 64 KiB in one."""
_OF_BODIES = frozenset(("content-length", "content-encoding"))
_PIECES = frozenset(bodies.KINDS.values())
_OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_MODES = {
    # Envoy closes the stream once nothing is left to be sent on it. Asking for trailers, which hardly ever come, keeps
    # it open, so that its end tells the end of the answer.
    BodyMode.NONE: ProcessingMode(response_trailer_mode=ProcessingMode.SEND),
    # Envoy lets a body reply set `content-length` only where the mode asks for the headers as well.
    BodyMode.BUFFERED: ProcessingMode(
        response_header_mode=ProcessingMode.SEND, response_body_mode=ProcessingMode.BUFFERED
    ),
    BodyMode.STREAMED: ProcessingMode(
        response_body_mode=ProcessingMode.STREAMED, response_trailer_mode=ProcessingMode.SEND
    ),
}


def decode(data: bytes) -> tuple[str, Any]:
    """The kind of a message (a `ProcessingRequest` field name, empty if none is set) and the message; of a piece of a
    body, that piece.

    Raises google.protobuf.message.DecodeError for bytes that are no message.
    """
    body = bodies.KINDS.get(data[0]) if data else None
    if body is not None and (piece := bodies.read_piece(data)) is not None:
        return body, piece
    message = ProcessingRequest.FromString(data)
    kind = message.WhichOneof("request") or ""
    return kind, getattr(message, kind) if kind in _PIECES else message


def headers_of(message: HttpHeaders) -> Headers:
    """Name to value; several lines of one name are joined with a comma, as HTTP defines them."""
    lines = message.headers.headers
    headers = {line.key: line.raw_value for line in lines}
    if len(headers) != len(lines):
        headers = {}
        for line in lines:
            earlier = headers.get(line.key)
            headers[line.key] = line.raw_value if earlier is None else earlier + b"," + line.raw_value
    return headers


def metadata_of(message: ProcessingRequest, namespace: str) -> Mapping[str, object]:
    """Dynamic metadata that Envoy forwarded, as plain values; empty where there is none."""
    if not message.HasField("metadata_context"):
        return {}
    found = message.metadata_context.filter_metadata
    return {name: _plain(value) for name, value in found[namespace].fields.items()} if namespace in found else {}


def served_by(message: ProcessingRequest) -> str:
    """The pool endpoint, `IP:PORT`, that the answer comes from; empty where Envoy names none."""
    found = message.metadata_context.filter_metadata
    if _DESTINATION_NAMESPACE not in found:
        return ""
    address: str = found[_DESTINATION_NAMESPACE].fields[_SERVED_BY].string_value
    return address


def usage_of(message: ProcessingRequest) -> Usage | None:
    """What Envoy has counted in an answer; None where it could not."""
    found = message.metadata_context.typed_filter_metadata
    return read_usage(found[_USAGE_NAMESPACE].value) if _USAGE_NAMESPACE in found else None


def subset_of(message: ProcessingRequest) -> frozenset[str] | None:
    """The endpoints, `IP:PORT`, to which the gateway limits the choice: a list, or one string with commas; None where
    it says nothing. What is no address stays out, so that a hint that cannot be understood allows nothing."""
    hint = metadata_of(message, _SUBSET_NAMESPACE).get(_SUBSET)
    if hint is None:
        return None
    entries = hint if isinstance(hint, list) else [hint]
    names = (name.strip() for entry in entries if isinstance(entry, str) for name in entry.split(","))
    return frozenset(name for name in names if name)


def body_modes(message: ProcessingRequest) -> tuple[int, int]:
    """How Envoy is configured to send the bodies of requests and of answers, which it says with its first message."""
    config = message.protocol_config
    return config.request_body_mode, config.response_body_mode


def _plain(value: Value) -> object:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _plain(item) for name, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def _bytes(response: Any) -> bytes:
    serialized: bytes = response.SerializeToString()
    return serialized


def _mutation(set_headers: HeaderList, remove_headers: Iterable[str] = ()) -> HeaderMutation:
    return HeaderMutation(
        set_headers=[
            HeaderValueOption(header=HeaderValue(key=name, raw_value=value), append_action=_OVERWRITE)
            for name, value in set_headers
        ],
        remove_headers=remove_headers,
    )


_WHOLE_EXCHANGE = ProcessingMode(request_body_mode=ProcessingMode.BUFFERED, response_header_mode=ProcessingMode.SEND)
"""Envoy's configuration leaves the response out, so that its replies to requests that the filter never saw do not wait
for the filter; the first reply of every exchange asks for it."""

_WITHOUT_REQUEST_BODY = ProcessingMode(response_header_mode=ProcessingMode.SEND)
"""What a WebSocket client sends after its headers is no body, and flows past the filter."""

_HEADERS_ONLY = _bytes(ProcessingResponse(mode_override=_WITHOUT_REQUEST_BODY))

CONTINUE_REQUEST = _bytes(ProcessingResponse(request_headers=HeadersResponse(), mode_override=_WHOLE_EXCHANGE))
"""Reply to request headers whose body follows."""
CONTINUE_TRAILERS = _bytes(ProcessingResponse(response_trailers=TrailersResponse()))
CONTINUE_REQUEST_TRAILERS = _bytes(ProcessingResponse(request_trailers=TrailersResponse()))
PASS_CHUNK = _bytes(ProcessingResponse(response_body=BodyResponse()))
"""Reply to a piece of a response body that goes on as it came."""


def encode_decision(decision: Decision, *, with_body: bool) -> bytes:
    """Reply to the request's body, or to its headers if it has none.

    The route is looked up again, as metadata now names the destination; Envoy does so only together with a header
    mutation, which every decision has.
    """
    phase: parts.Phase = "request_body" if with_body else "request_headers"
    pieces = [parts.CLEAR_ROUTE_CACHE[phase]]
    pieces += [parts.set_header(phase, name, value) for name, value in decision.set_headers]
    pieces += [parts.remove_header(phase, name) for name in decision.remove_headers]
    pieces.append(parts.metadata(decision.metadata))
    if not with_body:
        pieces.append(_HEADERS_ONLY)
    elif decision.body is not None:
        pieces += parts.new_body(decision.body)
    return b"".join(pieces)


def encode_duplex_decision(decision: Decision) -> bytes:
    """Reply to the request's headers where the body follows in messages of its own, or there is none."""
    common = CommonResponse(
        header_mutation=_mutation(decision.set_headers, decision.remove_headers), clear_route_cache=True
    )
    return _bytes(
        ProcessingResponse(
            request_headers=HeadersResponse(response=common), dynamic_metadata=parts.struct(decision.metadata)
        )
    )


def encode_pieces(
    field: Literal["request_body", "response_body"], body: bytes, *, end: bool, facts: Facts | None = None
) -> list[bytes]:
    """A body, or some of it, for full duplex; `end` and `facts` go with the last message. None for no bytes that are
    not the end."""
    starts = range(0, len(body), _PIECE) or range(1 if end or facts else 0)
    replies = []
    for start in starts:
        last = start + _PIECE >= len(body)
        piece = StreamedBodyResponse(body=body[start : start + _PIECE], end_of_stream=end and last)
        reply = BodyResponse(response=CommonResponse(body_mutation=BodyMutation(streamed_response=piece)))
        told = parts.number_metadata("sluice", facts) if facts and last else b""
        replies.append(_bytes(ProcessingResponse(**{field: reply})) + told)
    return replies


def encode_hold(seconds: float) -> bytes:
    """Tells Envoy to wait longer for the reply to the message that it sent last. Works once for each message."""
    reply = ProcessingResponse()
    reply.override_message_timeout.FromMilliseconds(round(seconds * 1000))
    return _bytes(reply)


def encode_answer(answer: LocalReply, metadata: Metadata) -> bytes:
    """Envoy answers the client with this and asks nothing further."""
    return _bytes(
        ProcessingResponse(
            immediate_response=ImmediateResponse(
                status=HttpStatus(code=answer.status),
                headers=_mutation(answer.headers),
                body=answer.body,
                details=f"sluice_{answer.ending.value}",
            ),
            dynamic_metadata=parts.struct(metadata),
        )
    )


def encode_headers_reply(reply: HeadersReply, endpoint: str = "", *, override: bool = True) -> bytes:
    """Reply to the response's headers. There are few different ones, so they are kept, but for those that name a header
    of a destination's own: it could send another one every time.

    `endpoint` tells the access log which endpoint served the request, where it is not the one first chosen.
    `override`: whether Envoy is asked for the body as the exchange wants it.
    """
    if _OF_BODIES.issuperset(reply.remove_headers):
        return _kept_headers_reply(reply, endpoint, override)
    return _headers_reply(reply, endpoint, override)


def _headers_reply(reply: HeadersReply, endpoint: str, override: bool) -> bytes:
    common = CommonResponse(header_mutation=_mutation(reply.set_headers, reply.remove_headers))
    return _bytes(
        ProcessingResponse(
            response_headers=HeadersResponse(response=common),
            mode_override=_MODES[reply.mode] if override else None,
            dynamic_metadata=parts.struct({"sluice": {"endpoint": endpoint}}) if endpoint else None,
        )
    )


_kept_headers_reply = lru_cache(maxsize=1024)(_headers_reply)


def encode_body_reply(reply: BodyReply, facts: Facts | None = None) -> bytes:
    """Reply to a piece of the response's body; `facts` go to the access log."""
    told = parts.number_metadata("sluice", facts) if facts else b""
    if reply.body is None:
        return PASS_CHUNK + told
    common = CommonResponse()
    common.body_mutation.body = reply.body
    if reply.set_headers:
        common.header_mutation.CopyFrom(_mutation(reply.set_headers))
    return _bytes(ProcessingResponse(response_body=BodyResponse(response=common))) + told


def encode_trailers_reply(facts: Facts | None) -> bytes:
    """Reply to the trailers of an answer; `facts` go to the access log."""
    return CONTINUE_TRAILERS + parts.number_metadata("sluice", facts) if facts else CONTINUE_TRAILERS
