"""What a request says: its required fields, its prompt and the size of it."""

import re

import msgspec

from extproc.payload.document import Document, refusal
from extproc.payload.errors import PayloadError
from extproc.payload.operations.operation import Dialect, Operation


class _ChatMessage(msgspec.Struct, gc=False):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Role(msgspec.Struct, gc=False):
    role: str


_messages = msgspec.json.Decoder(list[_ChatMessage]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_roles = msgspec.json.Decoder(list[_Role]).decode
_encode = msgspec.json.encode

_PARTS = ord("[")
_CONTENT_KINDS = frozenset(b'"[n')
_ARRAY_START = re.compile(rb"[ \t\n\r]*\[[ \t\n\r]*")
_NEXT_ELEMENT = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_AT = re.compile(r" - at `\$(?:\[(\d+)\])?(?:\.(\w+))?")

_WITHOUT_MEDIA = frozenset((Dialect.COMPLETIONS, Dialect.RERANK, Dialect.SPEECH))
_MEDIA = re.compile(rb':|"[ \t\n\r]*:[ \t\n\r]*"')  # what follows `"data` in a data URL, and in a field of that name
_LONG_DATA = 256  # bytes; a shorter `data` value counts as text
_MOST_DATA = 4096  # `data` strings looked at per field; further ones count as text, which bounds the work
_PART_BREAK = "\n\n"


def check_request(operation: Operation, document: Document) -> bool:
    """Refuse a body that lacks what the operation needs; gives whether the body may hold media.

    Raises PayloadError with code `missing_field` or `wrong_type` and the field in `param`.
    """
    if operation.dialect is Dialect.CHAT and operation.required:
        return _check_messages(document)
    required = operation.required
    if required and all(document.missing(key) for key in required):
        others = "".join(f" or '{key}'" for key in required[1:])
        raise PayloadError(f"'{required[0]}'{others} is required", "missing_field", required[0])
    return operation.consumes and operation.dialect not in _WITHOUT_MEDIA


def _check_messages(document: Document) -> bool:
    raw = document.raw("messages")
    if raw is None:
        raise PayloadError("'messages' is required", "missing_field", "messages")
    try:
        messages = _messages(raw)
    except msgspec.ValidationError as error:
        raise _wrong_message(str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise refusal(document.body, error) from None
    if not messages:
        raise PayloadError("'messages' must not be empty", "missing_field", "messages")
    kinds = [memoryview(message.content)[0] for message in messages]  # a value's first byte tells its type
    for index, kind in enumerate(kinds):
        if kind not in _CONTENT_KINDS:
            param = f"messages[{index}].content"
            raise PayloadError(f"'{param}' must be a string, an array of parts or null", "wrong_type", param)
    return _PARTS in kinds


def _wrong_message(text: str) -> PayloadError:
    """msgspec says "Expected `str`, got `int` - at `$[2].role`"; the client reads `messages[2].role`."""
    index, field = found.groups() if (found := _AT.search(text)) else (None, None)
    if index is None:
        return PayloadError("'messages' must be an array of objects", "wrong_type", "messages")
    if field is None:
        if "missing required field" in text:
            param = f"messages[{index}].role"
            return PayloadError(f"'{param}' is required", "missing_field", param)
        param = f"messages[{index}]"
        return PayloadError(f"'{param}' must be an object", "wrong_type", param)
    param = f"messages[{index}].{field}"
    return PayloadError(f"'{param}' must be a string", "wrong_type", param)


def with_system_prompt(messages_raw: bytes, prepend: str | None, append: str | None) -> bytes:
    """The messages array with text put before and after the content of its first system or developer message.

    Without such a message a new system message comes first. The texts and the content are parted by an empty line. All
    other bytes stay. Raises PayloadError where the array or that message is not what `check_request` accepts.
    """
    if not prepend and not append:
        return messages_raw
    try:
        roles = [message.role for message in _roles(messages_raw)]
        index = next((i for i, role in enumerate(roles) if role in ("system", "developer")), None)
        elements = [] if index is None else _elements(messages_raw)
    except msgspec.ValidationError as error:
        raise _wrong_message(str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise refusal(messages_raw, error) from None
    opening = _ARRAY_START.match(messages_raw)
    at = opening.end() if opening else 0
    if index is None:
        message = b'{"role":"system","content":' + with_text_around(None, prepend, append) + b"}"
        return messages_raw[:at] + message + (b"," if roles else b"") + messages_raw[at:]
    for raw in elements[:index]:
        comma = _NEXT_ELEMENT.match(messages_raw, at + len(raw))
        at = comma.end() if comma else at
    message = bytes(elements[index])
    document = Document.parse(message)
    edited = document.edit({"content": with_text_around(document.get("content"), prepend, append)})
    return messages_raw[:at] + edited + messages_raw[at + len(message) :]


def with_text_around(content_raw: bytes | None, prepend: str | None, append: str | None) -> bytes:
    """Encoded content (a string, an array of parts, null or absent) with text before and after it.

    Also fits Anthropic's `system` and the `instructions` of the responses API. The bytes of the content itself stay.
    Raises PayloadError `wrong_type` for anything else.
    """
    kind = content_raw[:1] if content_raw else b"n"
    if kind == b"n" or content_raw is None or content_raw == b'""':
        return _encode(_PART_BREAK.join(filter(None, (prepend, append))))
    if kind == b'"':
        before = _encode(prepend + _PART_BREAK)[1:-1] if prepend else b""
        after = _encode(_PART_BREAK + append)[1:-1] if append else b""
        return b'"' + before + content_raw[1:-1] + after + b'"'
    if kind != b"[":
        raise PayloadError("the system message's content must be a string or an array", "wrong_type", "messages")
    inner = content_raw[1:-1]
    parts = (_text_part(prepend), b"" if inner.isspace() else inner, _text_part(append))
    return b"[" + b",".join(filter(None, parts)) + b"]"


def _text_part(text: str | None) -> bytes:
    return b'{"type":"text","text":' + _encode(text) + b"}" if text else b""


def prompt_size(operation: Operation, document: Document, *, may_hold_media: bool = True) -> int:
    """Bytes of encoded JSON that will be tokenised: messages, prompt, input, tools, instructions.

    Base64 media (`"data:…"` URLs and `"data"` fields) does not count, as its tokens have nothing to do with its bytes.
    """
    if not operation.consumes:
        return 0
    raws = {key: raw for key in operation.prompt if (raw := document.raw(key)) is not None}
    size = sum(map(len, raws.values()))
    if may_hold_media and b'"data' in document.body:
        size -= sum(_media_size(document, key) for key, raw in raws.items() if len(raw) > _LONG_DATA)
    return size


def _media_size(document: Document, key: str) -> int:
    body = document.body
    span = document.span(key)
    if span is None:
        return 0
    _, at, end = span
    size = 0
    for _ in range(_MOST_DATA):
        at = body.find(b'"data', at, end)
        if at < 0:
            break
        start = at + 5
        if opening := _MEDIA.match(body, start):
            start = opening.end()
            stop = body.find(b'"', start, end)
            # Base64 holds no blank; text that only pretends to be media is counted.
            if stop - start >= _LONG_DATA and body.find(b" ", start, stop) < 0:
                size += stop - start
                start = stop + 1
        at = start
    return size
