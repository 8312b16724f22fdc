"""Turns the hand-written everyday prompts of one language into rows without labels.

`benign_LANGUAGE.txt` holds the kinds as slots that end in `!`, complete texts under `whole!`, and `paragraph`
and `line`, the stuff that long prompts are made of.
"""

import json
import random
from collections.abc import Callable, Iterator

from detectors.training.text.grammar import Grammar, read
from detectors.training.text.row import Row
from detectors.training.text.sloppy import sloppy

SHARE_WHOLE = 0.06
SHARE_LONG = 0.12
SHARE_TWO = 0.1
SHARE_SLOPPY = 0.25


class Surroundings:
    """The harmless text of one language."""

    def __init__(self, language: str) -> None:
        slots = read(f"benign_{language}.txt")
        self.grammar = Grammar(slots, MADE)
        self.kinds = tuple(sorted(slot for slot in slots if slot.endswith("!") and slot != "whole!"))
        self._weights = [len(slots[kind]) for kind in self.kinds]

    def __repr__(self) -> str:
        return f"Surroundings({self.grammar!r})"

    def paragraph(self, rng: random.Random) -> str:
        """A few sentences of a mail, page, article or note."""
        return self.grammar.pick("paragraph", rng)

    def line(self, rng: random.Random) -> str:
        """Something harmless to stand before or after another text."""
        return self.paragraph(rng) if rng.random() < 0.7 else self.prompt(rng)[1]

    def prompt(self, rng: random.Random) -> tuple[str, str, str]:
        """The kind of a prompt, the prompt and the skeleton it came from."""
        kind = rng.choices(self.kinds, self._weights)[0]
        skeleton = rng.choice(self.grammar.slots[kind])
        return kind[:-1], self.grammar.expand(skeleton, rng, {}), skeleton


def surroundings(language: str) -> Surroundings:
    """The harmless text of LANGUAGE, `zh` or `en`."""
    return Surroundings(language)


def rows(language: str, rng: random.Random, count: int) -> Iterator[Row]:
    """COUNT distinct rows."""
    harmless = surroundings(language)
    seen: set[str] = set()
    while len(seen) < count:
        row = _row(harmless, language, rng)
        if row.text not in seen:
            seen.add(row.text)
            yield row


def _row(harmless: Surroundings, language: str, rng: random.Random) -> Row:
    source = f"benign_{language}"
    if rng.random() < SHARE_WHOLE:
        text = rng.choice(harmless.grammar.slots["whole!"])
        return Row(_worn(text, rng), source=f"{source}/whole", group=f"{source}/{text[:40]}")
    kind, text, skeleton = harmless.prompt(rng)
    if rng.random() < SHARE_TWO:
        text += rng.choice(("\n", " ", "\n\n")) + harmless.prompt(rng)[1]
    if rng.random() < SHARE_LONG:
        many = rng.randint(2, 14)
        body = rng.choice(("\n", "\n\n", " ")).join(harmless.paragraph(rng) for _ in range(many))
        text = f"{text}\n\n{body}" if rng.random() < 0.6 else f"{body}\n\n{text}"
    return Row(_worn(text, rng), source=f"{source}/{kind}", group=f"{source}/{kind}/{skeleton[:40]}")


def _worn(text: str, rng: random.Random) -> str:
    return sloppy(text, rng) if rng.random() < SHARE_SLOPPY else text


def _number(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda rng: str(rng.randint(low, high))


def _table(rng: random.Random) -> str:
    heads = rng.sample(("id", "name", "city", "qty", "price", "date", "status", "score", "unit", "weight"), 4)
    lines = [",".join(heads)]
    lines += [",".join(str(rng.randint(1, 900)) for _ in heads) for _ in range(rng.randint(2, 6))]
    return "\n".join(lines)


def _json(rng: random.Random) -> str:
    keys = rng.sample(("id", "title", "tags", "count", "items", "user", "active", "total", "lang", "rules", "role"), 4)
    values: tuple[object, ...] = (1, True, None, "abc", [1, 2], {"a": 3}, 4.5, "ok")
    return json.dumps({key: rng.choice(values) for key in keys}, indent=rng.choice((None, 2)))


def _trace(rng: random.Random) -> str:
    module = rng.choice(("app", "views", "load", "train", "orders", "utils.io", "api.client", "worker"))
    error = rng.choice(
        (
            "KeyError: 'id'",
            "TypeError: 'NoneType' object is not subscriptable",
            "ValueError: could not convert string to float: 'n/a'",
            "FileNotFoundError: [Errno 2] No such file or directory: 'data.csv'",
            "ModuleNotFoundError: No module named 'yaml'",
            "IndexError: list index out of range",
            "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xb4 in position 12",
            "RecursionError: maximum recursion depth exceeded",
            "requests.exceptions.ConnectionError: connection refused",
            "AttributeError: 'list' object has no attribute 'items'",
        )
    )
    where = f'  File "/srv/{module.replace(".", "/")}.py", line {rng.randint(3, 400)}, in '
    return f"Traceback (most recent call last):\n{where}{rng.choice(('main', 'run', 'get', 'parse'))}\n{error}"


MADE: dict[str, Callable[[random.Random], str]] = {
    "n": _number(2, 12),
    "nn": _number(13, 99),
    "nnn": _number(100, 990),
    "year": _number(1960, 2024),
    "day": _number(1, 28),
    "hour": _number(8, 19),
    "table": _table,
    "json": _json,
    "trace": _trace,
}
