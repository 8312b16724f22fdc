"""What the destination gets instead of what the client wrote: path, model, stream, parameters, prompt, key."""

from __future__ import annotations

import msgspec

from extproc.exchange.endings import Ending
from extproc.exchange.values import LocalReply, names_in
from extproc.payload.chat import Operation, with_system_prompt
from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.steps.head import CLIENT_CREDENTIALS
from extproc.steps.request import Request, refuse
from extproc.steps.routes import Backend, RouteRule

CHAT_PATH = "/v1/chat/completions"
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Names that one limit goes by, depending on API and age; a cap on any of them holds for all."""
_STREAMS = frozenset(
    (Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES, Operation.OTHER)
)
"""Operations that know `stream`; a provider's setting is not written into others, such as embeddings."""
_USAGE_STREAMS = (Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS)
_encode = msgspec.json.encode


def transform(request: Request) -> LocalReply | None:
    """Fills `set_headers`, `remove_headers`, `new_body`, `stream`, `target_model` and `strip_usage`."""
    rule, backend = request.rule, request.backend
    if rule is None or backend is None:
        raise AssertionError("transform comes after route")
    if backend.is_provider and (refusal := _authenticate(request, backend)) is not None:
        return refusal
    try:
        if request.document is not None:
            _edit_body(request, request.document, rule, backend)
    except PayloadError as error:
        return refuse(Ending.INVALID_BODY, str(error), code=error.code, param=error.param)
    head = request.head
    if backend.path is not None or (head.is_bare and head.operation is Operation.CHAT_COMPLETIONS):
        path = _destination_path(head.path, head.operation, backend.path or CHAT_PATH)
        request.set_headers.append((":path", path.encode()))
    elif backend.is_provider:
        request.set_headers.append((":path", head.path.encode("latin-1")))
    if request.new_body is not None:
        request.set_headers.append(("content-length", b"%d" % len(request.new_body)))
    request.set_headers += rule.set_headers
    if rule.remove_headers:
        request.remove_headers += names_in(head.headers, rule.remove_headers)
    edits_answer = rule.restore_model or request.strip_usage or request.guarding is not None
    if edits_answer and "accept-encoding" in head.headers:
        request.remove_headers.append("accept-encoding")  # the answer has to be read and edited
    return None


def _authenticate(request: Request, backend: Backend) -> LocalReply | None:
    present = request.head.headers
    request.remove_headers += [name for name in CLIENT_CREDENTIALS if name in present and name != backend.key_header]
    if backend.key is None or backend.key_header is None:
        return None
    key = backend.key()
    if key is None:
        return refuse(Ending.KEY_MISSING, f"No API key is configured for {backend.target}.")
    request.set_headers.append((backend.key_header, key))
    return None


def _edit_body(request: Request, document: Document, rule: RouteRule, backend: Backend) -> None:
    edits: dict[str, bytes] = {}
    removals: list[str] = []
    model = request.requested_model
    if backend.model is not None and not (backend.fill_only and model):
        if backend.model != model:
            edits["model"] = _encode(backend.model)
        model = backend.model
    request.target_model = model
    _edit_stream(request, document, backend, edits, removals)
    operation = request.head.operation
    if operation is Operation.CHAT_COMPLETIONS and (rule.prepend or rule.append):
        messages = document.get("messages")
        if messages is not None:
            edits["messages"] = with_system_prompt(messages, rule.prepend, rule.append)
    edits.update((name, value) for name, value in rule.defaults.items() if document.get(name) is None)
    for name, cap in rule.caps.items():
        _cap(document, operation, name, cap, edits)
    if edits or removals:
        request.new_body = document.edit(edits, removals)


def _edit_stream(
    request: Request, document: Document, backend: Backend, edits: dict[str, bytes], removals: list[str]
) -> None:
    """Settles whether the answer is streamed, and asks for its usage where only asking brings it."""
    asked = document.boolean("stream")
    stream = bool(asked)
    configured = backend.stream if request.head.operation in _STREAMS else None
    if configured is not None and not (backend.fill_only and asked is not None):
        stream = configured
        if stream != asked:
            edits["stream"] = b"true" if stream else b"false"
    request.stream = stream
    options = document.get("stream_options")
    if options == b"null":
        options = None
    if not stream:
        if options is not None and asked:
            removals.append("stream_options")  # an error at destinations once the answer is not streamed
        return
    if not backend.include_usage or request.head.operation not in _USAGE_STREAMS:
        return
    if options is None:
        edits["stream_options"] = b'{"include_usage":true}'
        request.strip_usage = True
        return
    if options[:1] != b"{":
        raise PayloadError("'stream_options' must be an object", "wrong_type", "stream_options")
    parsed = Document.parse(options)
    if parsed.boolean("include_usage") is not True:
        edits["stream_options"] = parsed.edit({"include_usage": b"true"})
        request.strip_usage = True


def _cap(document: Document, operation: Operation, name: str, cap: float, edits: dict[str, bytes]) -> None:
    names = _OUTPUT_LIMITS if name in _OUTPUT_LIMITS else (name,)
    limit = _encode(int(cap) if cap.is_integer() else cap)
    found = False
    for alias in names:
        raw = edits.get(alias) or document.get(alias)
        if raw is None or raw == b"null":
            continue
        found = True
        try:
            value = msgspec.json.decode(raw, type=float)
        except msgspec.ValidationError:
            raise PayloadError(f"`{alias}` must be a number.", "wrong_type", alias) from None
        if value > cap:
            edits[alias] = limit
    if not found:
        if name in _OUTPUT_LIMITS:
            name = "max_output_tokens" if operation is Operation.RESPONSES else name
            if operation is Operation.EMBEDDINGS:
                return
        edits[name] = limit


def _destination_path(path: str, operation: Operation, chat_path: str) -> str:
    """`chat_path` is the destination's path of chat completions; other operations live beside it."""
    plain, question, query = path.partition("?")
    base = chat_path.removesuffix("/chat/completions")
    if plain in ("", "/") or operation is Operation.CHAT_COMPLETIONS or base == chat_path:
        plain = chat_path
    elif base and plain.startswith(base + "/"):
        pass
    elif plain.startswith("/v1/"):
        plain = base + plain.removeprefix("/v1")
    return plain + question + query
