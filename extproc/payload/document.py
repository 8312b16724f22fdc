"""One JSON object body, edited by splicing: every byte that nobody edits stays identical.

`msgspec` checks the whole text once and hands out the top level as undecoded slices. Their lengths give every offset,
so an edit costs one join and never depends on what is inside the values.
"""

import codecs
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Self

import msgspec

from extproc.payload.errors import PayloadError

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str | None).decode
_boolean = msgspec.json.Decoder(bool | None).decode
_integer = msgspec.json.Decoder(int | None).decode
_key_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode

_SPACE = rb"[ \t\n\r]*"
_MEMBER = re.compile(_SPACE + rb"[{,]" + _SPACE + rb'("[^"\\]*(?:\\.[^"\\]*)*")' + _SPACE + rb":" + _SPACE)
_END = re.compile(_SPACE + rb"\}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

_PIECE = 1 << 16  # bytes looked at in one step; stays in the processor's cache
_VIEW_FROM = 1 << 14  # from this size on, slicing a memoryview is cheaper than copying bytes twice

Span = tuple[int, int, int]
"""Offsets of one member in the body: start of the key's quote, start of the value, end of the value."""


class Document:
    """A JSON object whose top level is known and whose values are not decoded."""

    __slots__ = ("_spans", "_values", "body")

    def __init__(self, body: bytes, values: dict[str, msgspec.Raw], spans: dict[str, Span] | None) -> None:
        self.body = body
        self._values = values
        self._spans = spans

    @classmethod
    def parse(cls, body: bytes, *, lone_surrogates: bool = False) -> Self:
        r"""Check the whole text and index its top level.

        Raises PayloadError with code `empty_body`, `invalid_json`, `invalid_utf8`, `not_an_object`, `duplicate_key`
        (top level only) or `too_deep`. Unpaired `\ud83d` escapes are refused as providers do; `lone_surrogates` accepts
        them (a provider may cut an emoji in two between stream events), and then values read back hold `\ufffd` in
        place of every surrogate escape, while `body` and what `edit` returns keep the original bytes.
        """
        try:
            values = _members(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            masked = mask_surrogates(body) if lone_surrogates else body
            if masked == body:
                raise refusal(body, error) from None
            document = cls.parse(masked)
            document.body = body
            return document
        if not body.isascii():
            _check_utf8(body)
        # Whitespace, escapes or non-ASCII in keys, and repeated members can each only make the body longer than that.
        if sum(map(len, values)) + sum(map(len, values.values())) + 4 * len(values) + 1 == len(body):
            return cls(body, values, None)
        return cls(body, values, _walk(body, values))

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Document({len(self.body)} bytes, keys={list(self._values)!r})"

    def raw(self, key: str) -> msgspec.Raw | None:
        """The undecoded value as a view on the body, nothing copied; decodable by msgspec."""
        return self._values.get(key)

    def get(self, key: str) -> bytes | None:
        """A copy of the undecoded value."""
        raw = self._values.get(key)
        return None if raw is None else bytes(raw)

    def missing(self, key: str) -> bool:
        """Whether there is no value, or null, which providers take for none."""
        raw = self._values.get(key)
        return raw is None or (len(raw) == 4 and bytes(raw) == b"null")

    def span(self, key: str) -> Span | None:
        """Where the member lies in the body."""
        return self._layout().get(key)

    def text(self, key: str) -> str | None:
        """The string under `key`, None where absent or null. PayloadError `wrong_type` for anything else."""
        value: str | None = self._scalar(_text, key, "a string")
        return value

    def boolean(self, key: str) -> bool | None:
        """The boolean under `key`, None where absent or null. PayloadError `wrong_type` for anything else."""
        value: bool | None = self._scalar(_boolean, key, "a boolean")
        return value

    def integer(self, key: str) -> int | None:
        """The integer under `key`, None where absent or null. PayloadError `wrong_type` for anything else."""
        value: int | None = self._scalar(_integer, key, "an integer")
        return value

    def edit(self, set: Mapping[str, bytes], remove: Collection[str] = ()) -> bytes:  # noqa: A002 the word of the API
        """The body with `set` (key to encoded JSON) replaced in place or appended, and `remove` gone with its comma.

        Returns the very same bytes object where nothing changes. A key in both is removed.
        """
        values = self._values
        changed = {key: new for key, new in set.items() if key not in remove and not _is(values.get(key), new)}
        removed = {key for key in remove if key in values} if remove else ()
        if not changed and not removed:
            return self.body
        body = memoryview(self.body) if len(self.body) > _VIEW_FROM else self.body
        out: list[bytes | memoryview] = []
        copied = 0  # the body up to here is in `out` or dropped
        kept_end = 0  # end of the last member that stays
        for key, (start, value_start, end) in self._layout().items():
            if key in removed:
                # With a member before it, the comma in front goes too; otherwise the comma behind it does.
                out.append(body[copied : kept_end or start])
                copied = end if kept_end else self._next_start(end)
                continue
            new = changed.pop(key, None)
            if new is not None:
                out += (body[copied:value_start], new)
                copied = end
            kept_end = end
        if changed:
            at = max(kept_end, copied) or self.body.index(b"{") + 1
            out += (body[copied : kept_end or at], _append(changed, comma=kept_end > 0))
            copied = at
        out.append(body[copied:])
        return b"".join(out)

    def _scalar(self, decode: Any, key: str, expected: str) -> Any:
        raw = self._values.get(key)
        if raw is None:
            return None
        try:
            return decode(raw)
        except (msgspec.DecodeError, RecursionError):
            raise PayloadError(f"'{key}' must be {expected}", "wrong_type", key) from None

    def _layout(self) -> dict[str, Span]:
        spans = self._spans
        if spans is None:  # a body without whitespace: the offsets follow from the lengths
            spans = self._spans = {}
            start = 1
            for key, raw in self._values.items():
                value = start + len(key) + 3
                end = value + len(raw)
                spans[key] = (start, value, end)
                start = end + 1
        return spans

    def _next_start(self, end: int) -> int:
        """Start of the member behind the one that ends at `end`, or `end` where it is the last."""
        following = _MEMBER.match(self.body, end)
        return following.start(1) if following else end


def mask_surrogates(body: bytes) -> bytes:
    r"""Every surrogate escape replaced by `\ufffd`, which has the same length, so offsets stay valid."""
    return _SURROGATE.sub(rb"\\ufffd", body)


def refusal(body: bytes, error: Exception) -> PayloadError:
    """The error for a client out of what the decoder raised."""
    if isinstance(error, RecursionError):
        return PayloadError("the JSON is nested too deeply", "too_deep")
    if isinstance(error, UnicodeDecodeError):
        return PayloadError("the body is not valid UTF-8: invalid bytes in an object key", "invalid_utf8")
    if isinstance(error, msgspec.ValidationError):
        return PayloadError(f"the body must be a JSON object: {_lower(str(error))}", "not_an_object")
    if not body or body.isspace():
        return PayloadError("the body is empty", "empty_body")
    if body.startswith(codecs.BOM_UTF8):
        return PayloadError("the body is not valid JSON: it starts with a byte order mark", "invalid_json")
    if _only_surrogates_wrong(body):
        return PayloadError("the body is not valid JSON: a surrogate escape without its pair", "invalid_json")
    detail = str(error).removeprefix("JSON is malformed: ")
    if detail == "Input data was truncated":
        detail = f"it ends too early (byte {len(body)})"
    return PayloadError(f"the body is not valid JSON: {detail}", "invalid_json")


def _only_surrogates_wrong(body: bytes) -> bool:
    """The decoder reports an unpaired surrogate as a text that ends too early, which misleads."""
    masked = mask_surrogates(body)
    if masked == body:
        return False
    try:
        _members(masked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _check_utf8(body: bytes) -> None:
    """msgspec looks inside the strings that it decodes only; whatever reads the skipped ones later must not stumble."""
    at, size, view = 0, len(body), memoryview(body)
    try:
        while at < size:
            at += codecs.utf_8_decode(view[at : at + _PIECE], "strict", at + _PIECE >= size)[1]
    except UnicodeDecodeError as error:
        message = f"the body is not valid UTF-8: {error.reason} (byte {at + error.start})"
        raise PayloadError(message, "invalid_utf8") from None


def _walk(body: bytes, values: dict[str, msgspec.Raw]) -> dict[str, Span]:
    """Offsets of all members; raises `duplicate_key` exactly when a key appears twice.

    A value of the mapping that equals the bytes at its place is that place's value (JSON values are no prefixes of each
    other, except numbers, and behind a number a comma or brace is required). So the walk stays in step with the text
    until the first repeated key, whose value or whose surplus member breaks it.
    """
    spans: dict[str, Span] = {}
    at = 0
    for key, raw in values.items():
        found = _MEMBER.match(body, at)
        if found is None:
            raise _duplicate(body, spans, None)
        value = found.end()
        if not _at(body, value, raw):
            raise _duplicate(body, spans, found)
        at = value + len(raw)
        spans[key] = (found.start(1), value, at)
    if values and not _END.match(body, at):
        raise _duplicate(body, spans, _MEMBER.match(body, at))
    return spans


def _at(body: bytes, start: int, raw: msgspec.Raw) -> bool:
    if len(raw) <= _PIECE:
        return body.startswith(bytes(raw), start)
    view = memoryview(raw)
    return all(body.startswith(bytes(view[i : i + _PIECE]), start + i) for i in range(0, len(raw), _PIECE))


def _duplicate(body: bytes, spans: dict[str, Span], last: re.Match[bytes] | None) -> PayloadError:
    """Names the first repeated key among the members walked, otherwise the last: its value was overwritten later."""
    walked = [body[start:value].rstrip(b": \t\n\r") for start, value, _ in spans.values()]
    if last is not None:
        walked.append(last.group(1))
    seen: set[str] = set()
    name = ""
    for name in map(_key_text, walked):
        if name in seen:
            break
        seen.add(name)
    return PayloadError(f"the key {_encode(name[:64]).decode()} appears more than once", "duplicate_key", name[:64])


def _is(raw: msgspec.Raw | None, new: bytes) -> bool:
    return raw is not None and len(raw) == len(new) and bytes(raw) == new


def _append(members: Mapping[str, bytes], *, comma: bool) -> bytes:
    text = b",".join([_encode(key) + b":" + value for key, value in members.items()])
    return b"," + text if comma else text
