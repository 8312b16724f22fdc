"""Hand-written text with slots, expanded at random: the format of the `.txt` files beside this module.

`@name` opens a slot; every following non-empty line is one alternative of it, `#` opens a comment line. Inside a line
`$name` or `${name}` stands for one alternative of that slot, `[[a|b|]]` for one of its parts, `\\n` for a line break.
A slot whose name starts with `t_` is chosen once per memo, so that two texts expanded with one memo share it.
A slot written in capitals is an entity: what it expands to is one labelled span; inside it, slots give no spans.
"""

import functools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Span = tuple[int, int, str]
Memo = dict[str, str]

_TOKEN = re.compile(r"\$\{(\w+)\}|\$([A-Za-z]\w*)|\[\[(.*?)\]\]", re.ASCII | re.DOTALL)
_SLOT = re.compile(r"@([A-Za-z]\w*[!+-]?)", re.ASCII)
_ENTITIES = {
    "PER": "PERSON",
    "ORG": "ORGANIZATION",
    "LOC": "LOCATION",
    "POS": "POSITION",
    "PROJ": "PROJECT",
    "ADDR": "ADDRESS",
}


def read(name: str) -> dict[str, tuple[str, ...]]:
    """The slots of the file NAME beside this module; a slot opened twice gathers both lists."""
    slots: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(Path(__file__).with_name(name).read_text("utf-8").splitlines(), 1):
        if opened := _SLOT.fullmatch(line):
            current = slots.setdefault(opened[1], [])
        elif line.strip() and not line.startswith("# "):
            if current is None:
                raise ValueError(f"{name}:{number}: text before the first slot")
            current.append(line.rstrip().replace("\\n", "\n").replace("\\u200b", "\u200b"))
    return {slot: tuple(lines) for slot, lines in slots.items()}


class Grammar:
    """Slots of text and of functions that make text; raises KeyError for a slot that nobody wrote."""

    def __init__(self, slots: Mapping[str, Sequence[str]], made: Mapping[str, Callable[[random.Random], str]]) -> None:
        self.slots = slots
        self._made = made

    def __repr__(self) -> str:
        return f"Grammar({len(self.slots)} slots, {sum(map(len, self.slots.values()))} lines)"

    def pick(self, slot: str, rng: random.Random, memo: Memo | None = None) -> str:
        """One text for SLOT."""
        return self.expand("${" + slot + "}", rng, memo)

    def expand(self, template: str, rng: random.Random, memo: Memo | None = None) -> str:
        """TEMPLATE with every slot filled."""
        return self.marked(template, rng, memo)[0]

    def marked(self, template: str, rng: random.Random, memo: Memo | None = None) -> tuple[str, tuple[Span, ...]]:
        """TEMPLATE filled, and the spans of its entities as (start, end, label) in characters."""
        parts: list[str] = []
        spans: list[Span] = []
        self._write(template, rng, {} if memo is None else memo, parts, spans)
        return "".join(parts), tuple(spans)

    def _write(self, template: str, rng: random.Random, memo: Memo, parts: list[str], spans: list[Span] | None) -> None:
        for literal, slot, choices in _tokens(template):
            if literal:
                parts.append(literal)
            if choices:
                self._write(rng.choice(choices), rng, memo, parts, spans)
            elif slot:
                self._fill(slot, rng, memo, parts, spans)

    def _fill(self, slot: str, rng: random.Random, memo: Memo, parts: list[str], spans: list[Span] | None) -> None:
        label = _ENTITIES.get(slot)
        if slot.startswith("t_"):
            if slot not in memo:
                memo[slot] = self._text(slot, rng, memo)
            parts.append(memo[slot])
        elif label is not None and spans is not None:
            start = sum(map(len, parts))
            parts.append(self._text(slot, rng, memo))
            spans.append((start, start + len(parts[-1]), label))
        elif slot in self._made:
            parts.append(self._made[slot](rng))
        else:
            self._write(rng.choice(self.slots[slot]), rng, memo, parts, spans)

    def _text(self, slot: str, rng: random.Random, memo: Memo) -> str:
        if slot in self._made:
            return self._made[slot](rng)
        inner: list[str] = []
        self._write(rng.choice(self.slots[slot]), rng, memo, inner, None)
        return "".join(inner)


@functools.lru_cache(maxsize=20_000)
def _tokens(template: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """TEMPLATE as (literal before, slot or "", parts of a choice), in order; the last literal has neither."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    at = 0
    for match in _TOKEN.finditer(template):
        slot = match[1] or match[2] or ""
        choices = () if match[3] is None else tuple(match[3].split("|"))
        found.append((template[at : match.start()], slot, choices))
        at = match.end()
    found.append((template[at:], "", ()))
    return tuple(found)
