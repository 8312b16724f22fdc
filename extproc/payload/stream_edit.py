"""Answers that must be changed on the way back: the model's name restored, the extra usage event taken out."""

import msgspec

from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.operations.operation import UsageForm
from extproc.payload.sse import Fragment, SSESplitter, data_spans, event_data
from extproc.payload.stream_usage import MAX_JSON, USAGE_STATED, AnswerKind, StreamUsage
from extproc.payload.usage import Usage

_LONGEST_LEARNED = 4096  # bytes of a frame's beginning or end that are remembered
_any = msgspec.json.Decoder().decode
_OBJECT_STARTS = (b"data: {", b"data:{")


class StreamEditor:
    """Edits the chunks of one answer, uncompressed, cut anywhere; the joined output does not depend on the cuts.

    `model` goes wherever the provider states its own: the top-level `model` (`modelVersion` of Gemini), and `model`
    inside a top-level `response` (responses API) or `message` (Anthropic). With `strip_usage`, an event that states
    usage and no content disappears, whatever its `choices` look like: it exists only because usage was asked for on the
    client's behalf. What else it says goes on without the usage; a last content event with usage stays as it is. All
    other bytes stay, also of frames that are not JSON.

    Held back is at most the unfinished frame (1 MiB; a longer one passes unedited), or all of a JSON answer up to
    `max_json`, over which it passes unedited. Usage is read along the way from what the provider sent.
    """

    __slots__ = ("_events", "_held", "_line", "_max_json", "_meter", "_model", "_splitter", "_strip", "_template")

    def __init__(
        self,
        model: str | None,
        strip_usage: bool,
        max_json: int = MAX_JSON,
        form: UsageForm = UsageForm.USAGE,
        kind: AnswerKind = AnswerKind.UNDECIDED,
    ) -> None:
        """`form` and `kind` as `StreamUsage` takes them."""
        self._model = None if model is None else msgspec.json.encode(model)
        self._strip = strip_usage
        self._max_json = max_json
        self._meter = StreamUsage(max_json, form, kind)
        self._line = bytearray()  # the unfinished one of an answer in JSON lines
        self._splitter = SSESplitter()
        self._held: list[bytes] | None = []  # before the kind is known, and a JSON answer; None once it passes unedited
        self._template = _Template(b"", b"", b"", b"")
        self._events = False  # whether the answer is known to be an event stream

    def __repr__(self) -> str:
        return f"StreamEditor(model={self._model!r}, strip_usage={self._strip}, {self._meter!r})"

    @property
    def usage(self) -> Usage | None:
        return self._meter.usage

    @property
    def kind(self) -> AnswerKind:
        return self._meter.kind

    @property
    def events(self) -> int:
        return self._meter.events

    @property
    def completion_bytes(self) -> int:
        """Bytes the provider sent so far, as `StreamUsage` counts them."""
        return self._meter.completion_bytes

    def feed(self, chunk: bytes) -> bytes | None:
        """None where the chunk passes unchanged and nothing is held, otherwise what goes out in its place."""
        self._meter.feed(chunk)
        if self._meter.kind is AnswerKind.LINES:
            return self._edit_lines(chunk)
        if self._meter.kind is AnswerKind.FRAMES:
            return None
        if self._held is not None:
            return self._feed_head(chunk, self._held)
        return self._edit_events(chunk) if self._events else None

    def finish(self) -> bytes:
        """What is still held, edited. The stream has ended, complete or not."""
        self._meter.finish()
        if self._meter.kind is AnswerKind.LINES:
            rest = bytes(self._line)
            self._line.clear()
            return rest if self._model is None else _edit_answer(rest, self._model)
        if self._held is not None:
            body = self._let_go()
            return body if self._model is None else _edit_answer(body, self._model)
        rest = self._splitter.flush()
        return self._edit(rest) if rest else rest

    def _feed_head(self, chunk: bytes, held: list[bytes]) -> bytes | None:
        held.append(chunk)
        meter = self._meter
        if meter.kind is AnswerKind.UNDECIDED:
            return b""
        if meter.kind is AnswerKind.JSON and self._model is not None and meter.completion_bytes <= self._max_json:
            return b""
        self._events = meter.kind is AnswerKind.EVENTS
        whole = self._let_go()
        out = self._edit_events(whole) if self._events else None
        return whole if out is None and whole != chunk else out

    def _let_go(self) -> bytes:
        whole = b"".join(self._held or ())
        self._held = None
        return whole

    def _edit_lines(self, chunk: bytes) -> bytes | None:
        if self._model is None:
            return None
        self._line += chunk
        end = self._line.rfind(b"\n") + 1
        if not end and len(self._line) <= self._max_json:
            return b""
        whole = bytes(self._line[: end or len(self._line)])
        del self._line[: len(whole)]
        model = self._model
        return b"".join([_edit_answer(line, model) for line in whole.splitlines(keepends=True)])

    def _edit_events(self, chunk: bytes) -> bytes | None:
        splitter = self._splitter
        passing = splitter.idle
        frames = splitter.feed(chunk)
        if passing and len(frames) == 1 and frames[0] is chunk:
            new = self._edit(chunk)
            return None if new == chunk else new
        edited = [self._edit(frame) for frame in frames]
        if passing and splitter.idle and edited == frames:
            return None
        return b"".join(edited)

    def _edit(self, frame: bytes) -> bytes:
        """The frame as it goes out, b"" where it is taken out."""
        if type(frame) is Fragment:
            return frame
        if self._strip and b'"usage"' in frame and USAGE_STATED.search(frame):
            frame = _without_usage(frame)
        if self._model is None or b'"model' not in frame:
            return frame
        return self._template.apply(frame) or self._edit_exactly(frame)

    def _edit_exactly(self, frame: bytes) -> bytes:
        spans = data_spans(frame)
        if not spans or self._model is None:
            return frame
        lines = [frame[start:end] for start, end in spans]
        try:
            document = Document.parse(b"\n".join(lines), lone_surrogates=True)
            edited = _restore(document, self._model)
        except PayloadError:
            return frame
        if len(spans) == 1:
            start, end = spans[0]
            self._template = _learn(frame, start, document, self._model) or self._template
            return frame[:start] + edited + frame[end:]
        # A string holds no bare line feed, so the edit keeps the number of lines.
        pieces: list[bytes] = []
        at = 0
        for (start, end), line in zip(spans, edited.split(b"\n"), strict=True):
            pieces += (frame[at:start], line)
            at = end
        return b"".join((*pieces, frame[at:]))


class _Template(msgspec.Struct, frozen=True, gc=False):
    """How a provider's frames begin up to the model's name, and end from it on, each with its replacement.

    The events of one answer repeat either the one or the other. A frame that begins or ends so has its top-level model
    there: everything before (or behind) it is known, and a quote cannot be part of a string without a backslash.
    """

    head: bytes
    new_head: bytes
    tail: bytes
    new_tail: bytes

    def apply(self, frame: bytes) -> bytes | None:
        """The edited frame, None where the template does not fit or where the frame names a second model."""
        head = self.head
        if head and frame.startswith(head):
            if frame.find(b'"model"', len(head)) < 0:
                return self.new_head + frame[len(head) :]
            return None
        tail = self.tail
        if (
            tail
            and frame.endswith(tail)
            and frame.startswith(_OBJECT_STARTS)
            and frame.find(b"\n") == len(frame) - 2
            and frame.find(b'"model"', 0, len(frame) - len(tail)) < 0
        ):
            return frame[: -len(tail)] + self.new_tail
        return None


def _learn(frame: bytes, data_start: int, document: Document, model: bytes) -> _Template | None:
    span = document.span("model")
    raw = document.get("model")
    if span is None or raw is None or raw[:1] != b'"' or frame.count(b'"model"') != 1:
        return None
    key, start, end = (data_start + offset for offset in span)
    head, new_head = frame[:end], frame[:start] + model
    tail, new_tail = frame[key - 1 :], frame[key - 1 : start] + model + frame[end:]
    if len(head) > _LONGEST_LEARNED:
        head = b""
    if len(tail) > _LONGEST_LEARNED:
        tail = b""
    return _Template(head, new_head, tail, new_tail)


def _restore(document: Document, model: bytes) -> bytes:
    """The document with every name of the provider's model replaced. Only strings are."""
    changes: dict[str, bytes] = {}
    for key in ("model", "modelVersion"):
        named = document.get(key)
        if named is not None and named[:1] == b'"':
            changes[key] = model
    for key in ("response", "message"):
        span = document.span(key)
        if span is None or document.body[span[1] : span[1] + 1] != b"{":
            continue
        nested = Document.parse(document.body[span[1] : span[2]], lone_surrogates=True)
        inner = nested.get("model")
        if inner is not None and inner[:1] == b'"':
            changes[key] = nested.edit({"model": model})
    return document.edit(changes)


_HEAD = frozenset(
    [
        *("id", "object", "created", "model", "system_fingerprint", "service_tier", "choices", "usage", "x_groq"),
        *("provider", "obfuscation", "nonce"),
    ]
)
"""Fields that every event of an answer has, which alone say nothing."""
_NOTHING = (b"null", b"[]", b"{}", b'""')


def _without_usage(frame: bytes) -> bytes:
    """The event without its usage, b"" where nothing is left to say; with content, as it is."""
    spans = data_spans(frame)
    data = event_data(frame)
    if data is None:
        return frame
    try:
        document = Document.parse(data, lone_surrogates=True)
    except PayloadError:
        return frame
    if (document.get("usage") or b"")[:1] != b"{" or _says_something(document.get("choices")):
        return frame
    if "choices" not in document and "object" not in document:  # an event of another API
        return frame
    if all(key in _HEAD or document.get(key) in _NOTHING for key in document):
        return b""
    start, end = spans[0][0], spans[-1][1]
    edited = document.edit({}, ["usage"]) if len(spans) == 1 else b"".join(document.edit({}, ["usage"]).split(b"\n"))
    return frame[:start] + edited + frame[end:]


def _says_something(choices: bytes | None) -> bool:
    """Whether one of the choices has content, or has come to its end."""
    if choices is None or choices[:1] != b"[":
        return False
    try:
        found = _any(choices)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return any(_has_content(choice) for choice in found)


def _has_content(value: object) -> bool:
    """Whether there is anything in it beside numbers, the speaker and what is empty."""
    if isinstance(value, dict):
        return any(_has_content(each) for name, each in value.items() if name not in ("role", "usage"))
    if isinstance(value, list):
        return any(map(_has_content, value))
    return isinstance(value, str) and value != ""


def edit_json_answer(body: bytes, model: str | None) -> bytes:
    """A JSON answer with the model's name restored as `StreamEditor` does; anything else comes back as it is."""
    return body if model is None else _edit_answer(body, msgspec.json.encode(model))


def _edit_answer(body: bytes, model: bytes) -> bytes:
    if b'"model' not in body:
        return body
    try:
        return _restore(Document.parse(body, lone_surrogates=True), model)
    except PayloadError:
        return body
