"""First look at a request's body: decode its content encoding, find its top-level fields, refuse what is malformed."""

from __future__ import annotations

from extproc.exchange.endings import Ending
from extproc.exchange.values import LocalReply
from extproc.payload.chat import check_request, prompt_size
from extproc.payload.document import Document
from extproc.payload.encodings import decode_body
from extproc.payload.errors import PayloadError
from extproc.payload.operations.operation import Body
from extproc.steps.head import RequestHead
from extproc.steps.request import JSON_TYPE, Request, refuse

_LONGEST_MODEL = 256
_NO_BODY_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))
_ENDINGS = {
    "unsupported_encoding": Ending.UNSUPPORTED_ENCODING,
    "body_too_large": Ending.BODY_TOO_LARGE,
}


def refuse_announced(head: RequestHead, limit: int) -> LocalReply | None:
    """A body that says beforehand that it is too large need not be sent at all."""
    length = head.headers.get("content-length", b"")
    return _too_large(limit) if length.isdigit() and int(length) > limit else None


def parse(request: Request) -> LocalReply | None:
    """Fills `body`, `document`, `requested_model` and `prompt_bytes`."""
    if len(request.raw) > request.body_limit:  # Envoy stops a body soon after its limit, but not at it
        return _too_large(request.body_limit)
    head = request.head
    request.stream = head.asks_stream
    request.requested_model = head.call.model
    if not request.raw:
        if head.method in _NO_BODY_METHODS or head.operation.body in (Body.NONE, Body.OPTIONAL):
            return None
        return refuse(Ending.INVALID_BODY, "The request has no body: send a JSON object.", code="empty_body")
    try:
        return _parse(request)
    except PayloadError as error:
        ending = _ENDINGS.get(error.code, Ending.INVALID_BODY)
        return refuse(ending, str(error), code=error.code, param=error.param)


def _parse(request: Request) -> LocalReply | None:
    headers = request.head.headers
    content_type = headers.get("content-type", b"application/json").lower()
    encoding = headers.get("content-encoding", b"").decode("latin-1").strip().lower()
    if not _may_be_json(content_type):
        if any(rule.pass_non_json for rule in request.candidates):
            return None
        kind = content_type.partition(b";")[0].decode("latin-1")
        return refuse(Ending.NOT_JSON, f"This route takes JSON bodies, not {kind!r}.")
    if encoding and encoding != "identity":
        request.body = decode_body(request.raw, encoding, request.body_limit)
        request.new_body = request.body
        request.remove_headers.append("content-encoding")
    else:
        request.body = request.raw
    document = Document.parse(request.body)
    operation = request.head.operation
    may_hold_media = check_request(operation, document)
    request.document = document
    request.requested_model = request.head.call.model or _model(document)
    request.prompt_bytes = prompt_size(operation, document, may_hold_media=may_hold_media)
    if b"json" not in content_type:  # `curl -d` calls JSON a form; destinations do not all take that
        request.set_headers.append(JSON_TYPE)
    return None


def _model(document: Document) -> str:
    """The name goes into logs and error messages, so it must not be as long as a body may be."""
    model = document.text("model") or ""
    if len(model) > _LONGEST_MODEL:
        raise PayloadError(f"'model' is longer than {_LONGEST_MODEL} characters", "invalid_value", "model")
    return model


def _too_large(limit: int) -> LocalReply:
    return refuse(Ending.BODY_TOO_LARGE, f"The request body is larger than the gateway's limit of {limit} bytes.")


def _may_be_json(content_type: bytes) -> bool:
    """Clients that name no type, or a form as `curl -d` does, mean JSON; files and binary data do not."""
    return b"json" in content_type or content_type.startswith((b"application/x-www-form-urlencoded", b"text/"))
