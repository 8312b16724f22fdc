"""Event streams whose text passes through filters before anybody gets it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.guard.alike import AlikeEvents
from extproc.payload.guard.answer import guard_answer, guard_value, without_tokens
from extproc.payload.guard.endings import Head, head_of, last_events, refused_answer
from extproc.payload.guard.fields import (
    OpenFilter,
    Shape,
    TextChannel,
    Use,
    choice_of,
    kind_of_text,
    shape_of,
    use_of,
)
from extproc.payload.guard.frames import Frame, frame_of
from extproc.payload.guard.leaves import Edit, Leaf, Leaves, address_of, leaves_of, splice, string_at
from extproc.payload.guard.schema import ANSWER
from extproc.payload.guard.text import GuardedField, GuardedFields, blank_of, blanks_of
from extproc.payload.operations.operation import Dialect
from extproc.payload.sse import Fragment, SSESplitter
from extproc.payload.stream_usage import MAX_JSON, AnswerKind, kind_of

_encode = msgspec.json.encode


class GuardedStream:
    """Edits the chunks of one answer, uncompressed, cut anywhere; fits behind a `StreamEditor`.

    Each text (per choice, tool call and kind) has one filter of `open_filter`. What a filter releases takes the place
    of the string that came; all other bytes of the event stay, but for what repeats the text: log probabilities become
    null, comments lose their words. A whole value, such as the text of a `done` event or an error message, is filtered
    on its own. Text that a filter still holds when its choice ends goes out before that, in an event of its own.

    Where a filter denies, the stream ends at that point with `last_events`, and everything after it is swallowed. So it
    does (fail closed) for a frame over the splitter's limit, data that is no JSON object or has a key twice, text after
    the end of its choice, more than `MAX_TEXTS` texts, or a JSON answer over `max_json`. An unfinished frame at the end
    of the stream is withheld. An exception of a filter passes through, and nothing is released after it.
    """

    __slots__ = (
        "_alike",
        "_choices",
        "_closed",
        "_dialect",
        "_head",
        "_held",
        "_kind",
        "_max_json",
        "_open_filter",
        "_refusal",
        "_splitter",
        "_texts",
        "denied",
    )

    def __init__(
        self,
        open_filter: OpenFilter,
        *,
        refusal: str = "",
        dialect: Dialect = Dialect.CHAT,
        max_json: int = MAX_JSON,
    ) -> None:
        """`refusal` is what the client reads in place of a denied text; `dialect` says how to end an empty stream."""
        self._open_filter = open_filter
        self._refusal = refusal
        self._dialect = dialect
        self._max_json = max_json
        self._kind = AnswerKind.UNDECIDED
        self._held = bytearray()  # before the kind is known, and a JSON answer
        self._splitter = SSESplitter()
        self._texts = GuardedFields(open_filter)
        self._choices: set[int] = set()  # begun and not finished
        self._head: Head = {}
        self._alike = AlikeEvents()
        self._closed = False
        self.denied = False

    def __repr__(self) -> str:
        return f"GuardedStream({self._dialect.name}, denied={self.denied})"

    def feed(self, chunk: bytes, *, end: bool) -> bytes:
        """What goes out in place of this chunk."""
        if self._closed:
            return b""
        try:
            out = self._feed(chunk)
            return out + self._finish() if end and not self._closed else out
        except BaseException:
            self._closed = True
            raise

    def _feed(self, chunk: bytes) -> bytes:
        if self._kind is not AnswerKind.EVENTS:
            self._held += chunk
            if self._kind is AnswerKind.UNDECIDED:
                self._kind = kind_of(bytes(self._held))
            if self._kind is not AnswerKind.EVENTS:
                return self._refuse(0) if len(self._held) > self._max_json else b""
            chunk = bytes(self._held)
            self._held.clear()
        out = []
        for raw in self._splitter.feed(chunk):
            out.append(self._read_alike(raw) or self._frame(raw))
            if self._closed:
                break
        return b"".join(out)

    def _finish(self) -> bytes:
        if self._kind is not AnswerKind.EVENTS:
            return self._whole_answer()
        rest = self._splitter.flush()
        out = b""
        if rest:
            complete = type(rest) is Fragment or rest.endswith((b"\r\r", b"\n\r"))
            out = self._frame(rest if complete else rest + b"\n\n", unfinished=True)
        if not self._closed:
            out += self._flush(self._texts)
            self._closed = True
        return out

    def _whole_answer(self) -> bytes:
        self._closed = True
        body = bytes(self._held)
        self._held.clear()
        if not body.strip():
            return body
        answer = guard_answer(body, self._open_filter, refusal=self._refusal, dialect=self._dialect)
        self.denied = answer.denied
        return answer.body

    def _read_alike(self, raw: bytes) -> bytes | None:
        """The frame as it goes out where it is like an earlier one; None where it has to be parsed."""
        known = None if type(raw) is Fragment else self._alike.read(raw)
        if known is None:
            return None
        if known.field.copies:
            known.field.copy = raw[: known.start], raw[known.end :]
        piece = known.field.feed(known.text, end=False)
        if piece.text != known.text:
            raw = raw[: known.start] + _encode(piece.text) + raw[known.end :]
        return raw + self._refuse(known.field.choice) if piece.denied else raw

    def _frame(self, raw: bytes, *, unfinished: bool = False) -> bytes:
        """One frame as it goes out, with what has to go before it."""
        if type(raw) is Fragment:
            return self._refuse(0)
        frame = frame_of(raw)
        data = frame.data
        if data is None or not data.strip():
            return frame.whole(data)
        if data.strip() == b"[DONE]":
            out = self._flush(self._texts)
            if not self._closed:
                out += frame.whole(data)
                self._closed = True
            return out
        try:
            document = Document.parse(data, lone_surrogates=True)
            leaves = leaves_of(data, ANSWER, descend=True)
        except PayloadError:
            return b"" if unfinished else self._refuse(0)
        shape = shape_of(data, leaves)
        if not self._head or shape.type in ("response.created", "message_start"):
            self._head = head_of(document)
        if shape.dialect is not Dialect.OTHER:
            self._dialect = shape.dialect
        return self._event(frame, data, leaves, shape)

    def _event(self, frame: Frame, data: bytes, leaves: Leaves, shape: Shape) -> bytes:
        uses = [(leaf, use_of(shape, data, leaf)) for leaf in leaves.items]
        fields = {
            number: self._texts.field(shape, leaves, leaf) for number, (leaf, use) in enumerate(uses) if use is Use.PART
        }
        if self._texts.too_many:
            return self._refuse(0)
        finished = self._finished(shape, leaves, uses)
        ending = [text for text in self._texts if text.ends_with(shape, finished)]
        own = {id(text) for text in fields.values()}
        out = self._flush(text for text in ending if id(text) not in own)
        if self._closed:
            return out
        edits, denied = self._edits(data, shape, uses, fields, leaves, {id(text) for text in ending})
        if fields and denied is None and not self._remember(frame, data, uses, fields):
            return out + self._refuse(0)
        out += frame.whole(splice(data, edits) if edits else data)
        return out if denied is None else out + self._refuse(denied)

    def _edits(
        self,
        data: bytes,
        shape: Shape,
        uses: list[tuple[Leaf, Use]],
        fields: dict[int, GuardedField],
        leaves: Leaves,
        ending: set[int],
    ) -> tuple[list[Edit], int | None]:
        """What changes in an event, and the choice that was denied, if one was: no text and no ending follow it."""
        edits: list[Edit] = []
        for number, (leaf, use) in enumerate(uses):
            denied: int | None = None
            if use is Use.TOKENS:
                edits.append(without_tokens(data, leaf))
            elif use is Use.PART:
                text = fields[number]
                came = string_at(data, leaf)
                piece = text.feed(came, end=id(text) in ending)
                if piece.text != came:
                    edits.append((leaf.start, leaf.end, _encode(piece.text)))
                denied = text.choice if piece.denied else None
            elif use is Use.WHOLE:
                channel = TextChannel(kind_of_text(shape, leaf.path), choice_of(shape, address_of(leaves, leaf)))
                new = guard_value(data, leaf, self._open_filter(channel))
                if new is None:
                    edits.append((leaf.start, leaf.end, blank_of(data, leaf)))
                    denied = channel.choice
                elif new != data[leaf.start : leaf.end]:
                    edits.append((leaf.start, leaf.end, new))
            if denied is not None:
                endings = blanks_of(data, [each for each in uses[:number] if each[1] is Use.FINISH])
                return sorted([*edits, *endings, *blanks_of(data, uses[number + 1 :])]), denied
        return edits, None

    def _remember(
        self, frame: Frame, data: bytes, uses: list[tuple[Leaf, Use]], fields: dict[int, GuardedField]
    ) -> bool:
        """Keep what later frames are compared with, and what an event for text that is held looks like."""
        blanks = blanks_of(data, uses)
        if len(blanks) == 1 and frame.clean and sum(follows for _, follows in frame.pieces) == 1:
            number, text = next(iter(fields.items()))
            self._alike.learn(frame, data, uses, uses[number][0], text)
        return all(text.remember(frame, data, blanks, uses[number][0]) for number, text in fields.items())

    def _finished(self, shape: Shape, leaves: Leaves, uses: list[tuple[Leaf, Use]]) -> set[int]:
        """The choices that this event ends; the others that it names have begun."""
        finished = set()
        for leaf, use in uses:
            if leaf.path[0] in ("choices", "candidates"):
                choice = choice_of(shape, address_of(leaves, leaf))
                self._choices.add(choice)
                if use is Use.FINISH and leaf.end - leaf.start > 2:
                    finished.add(choice)
        self._choices -= finished
        return finished

    def _flush(self, texts: Iterable[GuardedField]) -> bytes:
        """Everything that these texts still hold; a refusal at the end where one is denied."""
        out = b""
        for text in texts:
            if text.ended:
                continue
            piece = text.feed("", end=True)
            if piece.text:
                out += text.event(piece.text, self._head)
            if piece.denied:
                return out + self._refuse(text.choice)
        return out

    def _refuse(self, choice: int) -> bytes:
        """End the stream."""
        self._closed = self.denied = True
        self._held.clear()
        self._texts.clear()
        if self._kind is AnswerKind.JSON:
            return refused_answer(self._dialect, None, self._refusal)
        return last_events(self._dialect, self._head, choice, self._choices, self._refusal)
