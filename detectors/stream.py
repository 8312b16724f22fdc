"""Guarding a text that comes in pieces: what may still become a finding waits, the rest goes on at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from detectors.findings import Finding
from detectors.masking import cover
from detectors.source import UNFINISHED, Quoting, quoted, values_in
from detectors.text import Text

Action = Literal["pass", "report", "mask", "deny"]
Find = Callable[[str], list[Finding]]
OpenFrom = Callable[[str, int], int]
"""`(window, since)`: the smallest offset from which the window's end may still become part of a finding. An earlier
call said `since` for less text, so what stands before is decided and need not be looked at."""

OVERLAP = 256
LONGEST = 8192
LONGEST_SENTENCE = 400
SHORTEST_SENTENCE = 24

_CHECKPOINT = 1024  # characters; decisions that depend on how much is held are taken at multiples of it only
_EAGER = 256  # characters held up to which every piece is looked at; with more, a piece must be a sixteenth of them
_ENDS = re.compile(r"[。！？!?\n]|\.[ \n]")
_LONGEST_ESCAPE = 12  # characters of a pair of escapes with one backslash each
_SOFT_ENDS = re.compile(r"[\s，,、;；：:]")


class Released(msgspec.Struct, frozen=True, gc=False):
    """What one piece brought: text that may go on, and what was decided with it."""

    text: str
    findings: tuple[Finding, ...] = ()
    """In characters of the whole text so far, as it came."""
    denied: bool = False
    """The text must end here. Nothing is released any more."""


class StreamGuard:
    """One text (a choice's content, the arguments of one tool call) that comes in pieces and leaves checked.

    `find` reports findings in a window of the text, `open_from` where its end is still open. `action` says what a
    finding means; for `mask` the text becomes `replace(finding, value)`. The window is what is held, with `overlap`
    characters before it that were released already.

    Where both are local, the joined output does not depend on the cuts: a finding that starts before `open_from` stays
    what it is whatever follows, and more than `overlap` characters before a finding do not matter to it. A finding that
    reaches back into released text all the same is handled from the border on.

    `sentences` is called once for each sentence (up to `longest_sentence` characters, with the overlap before it, at
    places that depend on the text alone) and its text waits for that; what it finds starts in that sentence at the
    earliest. Nothing is called for a sentence without a letter or digit.

    Denied: everything from the start of the finding on is withheld, for good. More than about `longest` characters that
    stay open become a finding `UNCHECKED` and end the text, or go on unchecked where `overlong` is "report".
    """

    __slots__ = (
        "_action",
        "_at",
        "_base",
        "_buffer",
        "_find",
        "_judged",
        "_longest",
        "_longest_sentence",
        "_marks",
        "_next",
        "_open",
        "_open_from",
        "_overlap",
        "_overlong",
        "_quoting",
        "_replace",
        "_sentences",
        "denied",
    )

    def __init__(
        self,
        find: Find,
        open_from: OpenFrom,
        *,
        action: Callable[[Finding], Action],
        replace: Callable[[Finding, str], str] | None = None,
        sentences: Find | None = None,
        overlap: int = OVERLAP,
        longest: int = LONGEST,
        overlong: Literal["deny", "report"] = "deny",
        longest_sentence: int = LONGEST_SENTENCE,
    ) -> None:
        self._find = find
        self._open_from = open_from
        self._action = action
        self._replace = replace or bracketed
        self._quoting = Quoting()
        self._sentences = sentences
        self._overlap = overlap
        self._longest = longest
        self._overlong = overlong
        self._longest_sentence = longest_sentence
        self._buffer = ""
        # Absolute offsets: of the buffer, of what is released, of what `sentences` has seen, of the next look.
        self._base = self._at = self._judged = self._next = 0
        self._open = 0  # the latest answer of `open_from`, absolute
        self._marks: list[Finding] = []  # by `sentences`, absolute, not released yet
        self.denied = False

    def __repr__(self) -> str:
        return f"<StreamGuard at {self._at}, holding {self.held} characters, denied={self.denied}>"

    @property
    def held(self) -> int:
        """Characters that wait."""
        return self._base + len(self._buffer) - self._at

    @property
    def released(self) -> int:
        """Characters of the text as it came that are decided."""
        return self._at

    def feed(self, text: str, *, end: bool = False) -> Released:
        """Take the next piece; with `end` it is the last and everything is decided."""
        out: list[str] = []
        found: list[Finding] = []
        at = 0
        while not self.denied:
            seen = self._base + len(self._buffer)
            room = _CHECKPOINT - seen % _CHECKPOINT
            self._buffer += text[at : at + room]
            if len(text) - at < room:
                break
            at += room
            self._advance(out, found, end=False)
            if self.held > self._longest and not self.denied:
                self._give_up(out, found)
        if not self.denied and (end or self._base + len(self._buffer) >= self._next):
            self._advance(out, found, end=end)
        return Released("".join(out), tuple(found), self.denied)

    def _advance(self, out: list[str], found: list[Finding], *, end: bool) -> None:
        """Decide as much of the buffer as can be."""
        buffer = self._buffer
        start = self._at - self._base
        bound = len(buffer)
        if not end:
            since = max(start, self._open - self._base)
            bound = max(since, min(self._open_from(buffer, since), bound))
            self._open = self._base + bound
        if self._sentences is not None:
            self._judge(self._sentences, end=end)
            bound = min(bound, self._judged - self._base)
        if bound > start:
            marks = [_moved(mark, -self._base) for mark in self._marks]
            findings = [each for each in (*self._find(buffer), *marks) if each.end > start]
            taken = [(each, what) for each in findings if (what := self._action(each)) != "pass"]
            bound = max(start, _uncut([each for each, _ in taken], bound))
            self._release(taken, start, bound, out, found)
        if self.denied:
            return
        held = self.held
        self._next = self._base + len(buffer) + (held // 16 if held > _EAGER else 0)
        surplus = min(self._at, self._judged if self._sentences else self._at) - self._overlap - self._base
        if surplus > 0:
            self._buffer = buffer[surplus:]
            self._base += surplus

    def _release(
        self, taken: Sequence[tuple[Finding, Action]], start: int, bound: int, out: list[str], found: list[Finding]
    ) -> None:
        """Write the buffer from `start` to `bound`, which cuts no finding."""
        taken = [(each, what) for each, what in taken if each.end <= bound]
        denials = [each for each, what in taken if what == "deny"]
        at = start
        stop = bound
        for span in cover(each for each, what in taken if what != "report"):
            first = max(span.start, at)
            self._pass(out, at, first)
            if any(span.start <= denial.start < span.end for denial in denials):
                self.denied = True
                stop = first
                break
            at = max(span.end, self._put(out, span, first, bound))
        if self.denied:
            last = min(denial.start for denial in denials)
            found += [_moved(each, self._base) for each, _ in sorted(taken) if each.start <= max(last, stop)]
            self._withhold()
            return
        self._pass(out, at, bound)
        found += [_moved(each, self._base) for each, _ in sorted(taken)]
        self._at = self._base + bound
        self._marks = [mark for mark in self._marks if mark.end > self._at]

    def _pass(self, out: list[str], start: int, end: int) -> None:
        """Let the buffer from `start` to `end` go on as it is."""
        text = self._buffer[start:end]
        self._quoting.feed(text)
        out.append(text)

    def _put(self, out: list[str], span: Finding, start: int, bound: int) -> int:
        """Write what takes the place of a finding; gives the end of that. In JSON its quotes and brackets stay, and a
        number becomes a string."""
        done = start
        for value in values_in(self._buffer, start, span.end, self._quoting):
            first, end = max(value.start, done), min(value.end, bound)
            replaced = self._replace(span, self._buffer[first:end])
            sign = self._buffer[value.start : first]
            if value.bare and "".join(out[-1:]).endswith(sign):
                out[-1:] = [each[: len(each) - len(sign)] for each in out[-1:]]
                replaced = quoted(replaced, value.depth)
            out += (self._buffer[done:first], replaced)
            done = end
        out.append(self._buffer[done : span.end])
        return done

    def _give_up(self, out: list[str], found: list[Finding]) -> None:
        """What is held stays open for too long."""
        found.append(Finding(self._at, self._at + self.held, "UNCHECKED", 1.0, "stream"))
        if self._overlong == "deny":
            self.denied = True
            self._withhold()
            return
        self._pass(out, self._at - self._base, len(self._buffer))
        self._at += self.held

    def _withhold(self) -> None:
        self._base = self._at
        self._buffer = ""
        self._marks = []

    def _judge(self, sentences: Find, *, end: bool) -> None:
        """Have every complete sentence looked at."""
        while (cut := self._sentence_end(end=end)) is not None:
            begin = max(self._base, self._judged - self._overlap)
            own = self._buffer[self._judged - self._base : cut - self._base]
            if any(map(str.isalnum, own)):
                text = self._buffer[begin - self._base : cut - self._base]
                for each in sentences(text):
                    if each.end + begin > self._judged:
                        self._marks.append(_moved(each, begin, not_before=self._judged))
            self._judged = cut

    def _sentence_end(self, *, end: bool) -> int | None:
        """Absolute end of the first sentence that was not looked at, None where it is not complete."""
        start = self._judged - self._base
        limit = start + self._longest_sentence
        found = _ENDS.search(self._buffer, start + SHORTEST_SENTENCE, limit)
        if found is not None:
            return self._base + found.end()
        if len(self._buffer) >= limit:
            soft = [
                each.end() for each in _SOFT_ENDS.finditer(self._buffer, limit - self._longest_sentence // 2, limit)
            ]
            return self._base + (soft[-1] if soft else self._before_escape(start, limit))
        return self._base + len(self._buffer) if end and start < len(self._buffer) else None

    def _before_escape(self, start: int, at: int) -> int:
        """`at`, or the start of the escape that it would cut in two."""
        half = UNFINISHED.search(self._buffer, max(start + 1, at - _LONGEST_ESCAPE), at)
        return at if half is None else half.start()


def bracketed(finding: Finding, value: str) -> str:
    """The category in place of a value that does not come back."""
    return f"[{finding.category}]"


def on_plain(*sources: Callable[[str, int], int]) -> OpenFrom:
    """The earliest of several `open_from` that work on `Text.plain`, for texts as they come."""

    def open_from(text: str, since: int) -> int:
        view = Text(text)
        plain = view.plain
        from_plain = since if plain is text else len(Text(text[:since]).plain)
        offset = min(source(plain, from_plain) for source in sources)
        start = len(text) if offset >= len(plain) else view.span(offset, offset + 1)[0]
        half = UNFINISHED.search(text) if "\\" in text[-_LONGEST_ESCAPE:] else None
        return start if half is None else min(start, max(since, half.start()))

    return open_from


def _uncut(findings: Iterable[Finding], bound: int) -> int:
    """The largest offset up to `bound` that lies inside no finding."""
    for finding in sorted(findings, key=lambda each: -each.end):
        if finding.start < bound < finding.end:
            bound = finding.start
    return bound


def _moved(finding: Finding, by: int, not_before: int = 0) -> Finding:
    return Finding(
        max(not_before, finding.start + by), finding.end + by, finding.category, finding.score, finding.detector
    )
