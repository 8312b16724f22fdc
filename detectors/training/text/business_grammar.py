"""The small grammar of the hand-written business text: alternatives, slots and marked entities.

`[a|b]` chooses one alternative, `{name}` fills a slot (equal names give equal values within one pair of rows, and
`{name2}` is a second value), `<P text>` marks an entity, `\\n` is a line break. In the values of word lists `#` is a
digit, `~` a digit from 1, and other lists may be named, as in `{surname}{given}`.
"""

import random
from collections.abc import Mapping, Sequence

import msgspec

ENTITY_OF_SLOT = {
    "person": "PERSON",
    "org": "ORGANIZATION",
    "customer": "ORGANIZATION",
    "city": "LOCATION",
    "role": "POSITION",
    "code": "PROJECT",
    "address": "ADDRESS",
}
ENTITY_OF_MARK = {
    "P": "PERSON",
    "O": "ORGANIZATION",
    "L": "LOCATION",
    "R": "POSITION",
    "J": "PROJECT",
    "A": "ADDRESS",
}

Words = Mapping[str, Sequence[str]]


class Piece(msgspec.Struct, frozen=True):
    """A stretch of text with its entities as (start, end, category) in characters."""

    text: str
    spans: tuple[tuple[int, int, str], ...] = ()


def join(pieces: Sequence[Piece], between: str = "") -> Piece:
    """The pieces one after another, with the spans moved to their new places."""
    texts: list[str] = []
    spans: list[tuple[int, int, str]] = []
    length = 0
    for index, piece in enumerate(pieces):
        if index and between:
            texts.append(between)
            length += len(between)
        spans.extend((start + length, end + length, category) for start, end, category in piece.spans)
        texts.append(piece.text)
        length += len(piece.text)
    return Piece("".join(texts), tuple(spans))


class Filler:
    """Renders templates; remembers what each slot holds, so that both rows of a pair speak of the same things."""

    def __init__(self, rng: random.Random, words: Words, given: Mapping[str, Piece] | None = None) -> None:
        self._rng = rng
        self._words = words
        self._slots: dict[str, Piece] = dict(given or {})

    def with_slot(self, name: str, piece: Piece) -> None:
        """Sets a slot, replacing what it held."""
        self._slots[name] = piece

    def render(self, template: str) -> Piece:
        """The template filled; raises ValueError for an unknown slot or an unclosed bracket."""
        pieces: list[Piece] = []
        position = 0
        while position < len(template):
            char = template[position]
            if char in "[{<" and (char != "<" or template[position + 1 : position + 3].rstrip() in ENTITY_OF_MARK):
                end = _closing(template, position)
                pieces.append(self._bracket(char, template[position + 1 : end]))
                position = end + 1
            elif template.startswith("\\n", position):
                pieces.append(Piece("\n"))
                position += 2
            else:
                end = position + 1
                while end < len(template) and template[end] not in "[{<\\":
                    end += 1
                pieces.append(Piece(template[position:end]))
                position = end
        return join(pieces)

    def _bracket(self, kind: str, inside: str) -> Piece:
        if kind == "[":
            return self.render(self._rng.choice(_alternatives(inside)))
        if kind == "{":
            return self._slot(inside)
        marked = self.render(inside[2:]).text
        return Piece(marked, ((0, len(marked), ENTITY_OF_MARK[inside[0]]),))

    def _slot(self, name: str) -> Piece:
        if name not in self._slots:
            base = name.rstrip("0123456789")
            if base not in self._words:
                raise ValueError(f"no word list named {base!r}")
            self._slots[name] = self._value(name, base)
        return self._slots[name]

    def _value(self, name: str, base: str) -> Piece:
        siblings = {piece.text for slot, piece in self._slots.items() if slot.rstrip("0123456789") == base}
        text = ""
        for _ in range(8):
            text = self._word(base)
            if text not in siblings:
                break
        category = ENTITY_OF_SLOT.get(base)
        return Piece(text, ((0, len(text), category),) if category else ())

    def _word(self, base: str) -> str:
        nested = Filler(self._rng, self._words)
        drawn = nested.render(self._rng.choice(self._words[base])).text
        return "".join(self._digit(char) for char in drawn)

    def _digit(self, char: str) -> str:
        if char == "#":
            return str(self._rng.randrange(10))
        return str(self._rng.randrange(1, 10)) if char == "~" else char


def _closing(template: str, start: int) -> int:
    opening = template[start]
    closing = {"[": "]", "{": "}", "<": ">"}[opening]
    depth = 0
    for position in range(start, len(template)):
        if template[position] == opening:
            depth += 1
        elif template[position] == closing:
            depth -= 1
            if depth == 0:
                return position
    raise ValueError(f"unclosed {opening!r} in {template!r}")


def _alternatives(inside: str) -> list[str]:
    parts, depth, begin = [], 0, 0
    for position, char in enumerate(inside):
        depth += (char in "[{") - (char in "]}")
        if char == "|" and depth == 0:
            parts.append(inside[begin:position])
            begin = position + 1
    return [*parts, inside[begin:]]
