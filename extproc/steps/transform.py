"""What the destination gets instead of what the client wrote: path, model, stream, parameters, prompt, key."""

from __future__ import annotations

import msgspec

from extproc.exchange.endings import Ending
from extproc.exchange.values import LocalReply, names_in
from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.fields import Fields
from extproc.payload.operations.openai import CHAT
from extproc.payload.operations.operation import ModelIn, Streams
from extproc.payload.operations.table import OTHER, call_of, with_model
from extproc.payload.settings import add_system_prompt, cap, fill
from extproc.steps.forward import withheld, without_credentials
from extproc.steps.head import RequestHead
from extproc.steps.request import Request, refuse
from extproc.steps.routes import Backend, RouteRule

_encode = msgspec.json.encode


def transform(request: Request) -> LocalReply | None:
    """Fills `set_headers`, `remove_headers`, `new_body`, `stream`, `target_model` and `strip_usage`."""
    rule, backend = request.rule, request.backend
    if rule is None or backend is None:
        raise AssertionError("transform comes after route")
    if backend.is_provider and (refusal := _authenticate(request, rule, backend)) is not None:
        return refusal
    try:
        if request.document is not None:
            _edit_body(request, request.document, rule, backend)
        elif request.head.call.model:
            request.target_model = target_model(request, backend)
    except PayloadError as error:
        return refuse(Ending.INVALID_BODY, str(error), code=error.code, param=error.param)
    head = request.head
    path = _path(head, request.target_model, backend)
    if backend.is_provider or path != head.path:
        request.set_headers.append((":path", path.encode("latin-1")))
    if request.new_body is not None:
        request.set_headers.append(("content-length", b"%d" % len(request.new_body)))
    request.set_headers += rule.set_headers
    if rule.remove_headers:
        request.remove_headers += names_in(head.headers, rule.remove_headers)
    edits_answer = rule.restore_model or request.strip_usage or request.guarding is not None
    if edits_answer and "accept-encoding" in head.headers:
        request.remove_headers.append("accept-encoding")  # the answer has to be read and edited
    return None


def _authenticate(request: Request, rule: RouteRule, backend: Backend) -> LocalReply | None:
    written = {name for name, _ in rule.set_headers} | {backend.key_header}
    request.remove_headers += [name for name in withheld(request.head.headers) if name not in written]
    if backend.key is None or backend.key_header is None:
        return None
    key = backend.key()
    if key is None:
        return refuse(Ending.KEY_MISSING, f"No API key is configured for {backend.target}.")
    request.set_headers.append((backend.key_header, key))
    return None


def _edit_body(request: Request, document: Document, rule: RouteRule, backend: Backend) -> None:
    fields, operation = Fields(document), request.head.operation
    _edit_model(request, fields, backend)
    _edit_stream(request, document, fields, backend)
    model = request.target_model
    add_system_prompt(fields, operation, rule.prepend, rule.append)
    fill(fields, operation, rule.defaults, model)
    for name, most in rule.caps.items():
        cap(fields, operation, name, most, model)
    edited = fields.edited()
    if edited is not None:
        request.new_body = edited


def _edit_model(request: Request, fields: Fields, backend: Backend) -> None:
    request.target_model = target_model(request, backend)
    named = fields.get("model")
    if request.target_model == request.requested_model and named is not None:
        return
    known = request.head.operation.model is ModelIn.BODY and not request.head.call.model
    if backend.model is not None and (named is not None or known):
        fields.put("model", _encode(request.target_model))


def target_model(request: Request, backend: Backend) -> str:
    """What the destination is asked for."""
    asked = request.requested_model
    return asked if backend.model is None or (backend.fill_only and asked) else backend.model


def _edit_stream(request: Request, document: Document, fields: Fields, backend: Backend) -> None:
    """Settles whether the answer is streamed, and asks for its usage where only asking brings it."""
    operation = request.head.operation
    if operation.streams not in (Streams.FIELD, Streams.UNLESS_FIELD):
        request.stream = request.stream or fields.get("stream") == b"true"
        return
    asked = document.boolean("stream")
    usual = operation.streams is Streams.UNLESS_FIELD
    stream = usual if asked is None else asked
    configured = backend.stream
    if configured is not None and not (backend.fill_only and asked is not None):
        if configured != (stream if asked is None and usual else asked):
            fields.put("stream", b"true" if configured else b"false")
        stream = configured
    request.stream = stream
    options = fields.get("stream_options")
    if not stream:
        if options is not None and asked:
            fields.remove("stream_options")  # an error at destinations once the answer is not streamed
        return
    if not backend.include_usage or not operation.usage_option:
        return
    if options is None:
        fields.put("stream_options", b'{"include_usage":true}')
        request.strip_usage = True
        return
    if options[:1] != b"{":
        raise PayloadError("'stream_options' must be an object", "wrong_type", "stream_options")
    parsed = Document.parse(options)
    if parsed.boolean("include_usage") is not True:
        fields.put("stream_options", parsed.edit({"include_usage": b"true"}))
        request.strip_usage = True


def _path(head: RequestHead, model: str, backend: Backend) -> str:
    """The path that the destination is asked with, query included."""
    call, operation = head.call, head.operation
    query = head.path.partition("?")[2]
    if backend.is_provider:
        query = without_credentials(query)
    plain = head.plain_path
    if model and model != call.model and (renamed := with_model(call, model)) is not None:
        plain = renamed
    if operation is CHAT and call.operation is not CHAT:  # `curl provider-host -d …` means a chat
        plain = backend.path or f"/v1/{CHAT.own_path}"
    elif backend.path is not None:
        plain = _below(backend.path, plain, head)
    return f"{plain}?{query}" if query else plain


def _below(chat_path: str, plain: str, head: RequestHead) -> str:
    """`chat_path` is the destination's path of chat completions; other operations live beside it."""
    call, configured = head.call, call_of("POST", chat_path)
    base = configured.base
    if head.operation is CHAT and (not call.model or configured.model):
        return chat_path
    if call.own == configured.own and not call.model:
        return chat_path
    if base and plain.startswith(base + "/"):
        return plain
    if plain.startswith("/v1/"):
        return base + plain.removeprefix("/v1")
    if call.operation is not OTHER and call.operation.versioned and not call.base:
        return base + plain
    return plain
