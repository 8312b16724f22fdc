"""Protocol buffers to values and back. Nothing outside this room sees a protobuf object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HttpHeaders,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
    TrailersResponse,
)
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.protobuf.struct_pb2 import Struct, Value

from extproc.exchange.values import (
    Answer,
    BodyMode,
    BodyReply,
    Decision,
    HeaderList,
    Headers,
    HeadersReply,
    Metadata,
)

JWT_NAMESPACE = "envoy.filters.http.jwt_authn"
_DESTINATION_NAMESPACE = "envoy.lb"
_SERVED_BY = "served-by"
"""Where Envoy's configuration has it say which pool endpoint it used last."""
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
    """The kind of a message (a `ProcessingRequest` field name, empty if none is set) and the message.

    Raises google.protobuf.message.DecodeError for bytes that are no message.
    """
    message = ProcessingRequest.FromString(data)
    return message.WhichOneof("request") or "", message


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
    found = message.metadata_context.filter_metadata
    return {name: _plain(value) for name, value in found[namespace].fields.items()} if namespace in found else {}


def served_by(message: ProcessingRequest) -> str:
    """The pool endpoint, `IP:PORT`, that the answer comes from; empty where Envoy names none."""
    found = message.metadata_context.filter_metadata
    if _DESTINATION_NAMESPACE not in found:
        return ""
    address: str = found[_DESTINATION_NAMESPACE].fields[_SERVED_BY].string_value
    return address


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


def _struct(namespaces: Metadata) -> Struct:
    outer = Struct()
    for namespace, values in namespaces.items():
        fields = outer.fields[namespace].struct_value.fields
        for name, value in values.items():
            if isinstance(value, str):
                fields[name].string_value = value
            elif isinstance(value, bool):
                fields[name].bool_value = value
            else:
                fields[name].number_value = value
    return outer


_WHOLE_EXCHANGE = ProcessingMode(request_body_mode=ProcessingMode.BUFFERED, response_header_mode=ProcessingMode.SEND)
"""Envoy's configuration leaves the response out, so that its replies to requests that the filter never saw do not wait
for the filter; the first reply of every exchange asks for it."""

_WITHOUT_REQUEST_BODY = ProcessingMode(response_header_mode=ProcessingMode.SEND)
"""What a WebSocket client sends after its headers is no body, and flows past the filter."""

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
    common = CommonResponse(
        header_mutation=_mutation(decision.set_headers, decision.remove_headers), clear_route_cache=True
    )
    if decision.body is not None:
        common.body_mutation.body = decision.body
    metadata = _struct(decision.metadata)
    if with_body:
        reply = ProcessingResponse(request_body=BodyResponse(response=common), dynamic_metadata=metadata)
    else:
        reply = ProcessingResponse(
            request_headers=HeadersResponse(response=common),
            dynamic_metadata=metadata,
            mode_override=_WITHOUT_REQUEST_BODY,
        )
    return _bytes(reply)


def encode_hold(seconds: float) -> bytes:
    """Tells Envoy to wait longer for the reply to the message that it sent last. Works once for each message."""
    reply = ProcessingResponse()
    reply.override_message_timeout.FromMilliseconds(round(seconds * 1000))
    return _bytes(reply)


def encode_answer(answer: Answer, metadata: Metadata) -> bytes:
    """Envoy answers the client with this and asks nothing further."""
    return _bytes(
        ProcessingResponse(
            immediate_response=ImmediateResponse(
                status=HttpStatus(code=answer.status),
                headers=_mutation(answer.headers),
                body=answer.body,
                details=f"sluice_{answer.ending.value}",
            ),
            dynamic_metadata=_struct(metadata),
        )
    )


@lru_cache(maxsize=1024)
def encode_headers_reply(reply: HeadersReply, endpoint: str = "") -> bytes:
    """Reply to the response's headers. There are few different ones, so they are kept.

    `endpoint` tells the access log which endpoint served the request, where it is not the one first chosen.
    """
    common = CommonResponse(header_mutation=_mutation(reply.set_headers, reply.remove_headers))
    return _bytes(
        ProcessingResponse(
            response_headers=HeadersResponse(response=common),
            mode_override=_MODES[reply.mode],
            dynamic_metadata=_struct({"sluice": {"endpoint": endpoint}}) if endpoint else None,
        )
    )


def encode_body_reply(reply: BodyReply, metadata: Metadata | None = None) -> bytes:
    """Reply to a piece of the response's body; `metadata` goes to the access log."""
    if reply.body is None and metadata is None:
        return PASS_CHUNK
    common = CommonResponse()
    if reply.body is not None:
        common.body_mutation.body = reply.body
    if reply.set_headers:
        common.header_mutation.CopyFrom(_mutation(reply.set_headers))
    return _bytes(
        ProcessingResponse(
            response_body=BodyResponse(response=common), dynamic_metadata=_struct(metadata) if metadata else None
        )
    )
