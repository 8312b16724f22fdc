"""Turns the hand-written attacks of one language, and their harmless look-alikes, into labelled rows.

`injection_LANGUAGE.txt` holds the kinds as slots `KIND+` (attacks) and `KIND-` (look-alikes). A pair takes
one skeleton of each, fills both with the same task, mail or page, and gets the same typing habits and the
same text around it, so that nothing but the attack tells them apart.
"""

import base64
import codecs
import random
from collections.abc import Callable, Iterator

from detectors.training.text import benign_rows
from detectors.training.text.grammar import Grammar, Memo, read
from detectors.training.text.row import Row
from detectors.training.text.sloppy import sloppy

LABELS = frozenset({"INJECTION"})
SHARE_PADDED = 0.18
SHARE_LONG_PADDING = 0.35
SHARE_SLOPPY = 0.25
LONG = {"en": 24, "zh": 20}
"""Pieces of text around an attack that make about six hundred words."""
WEIGHTS = {"indirect": 3.0, "override": 2.0, "roleplay": 1.6, "security": 0.7, "split": 0.6, "manyshot": 0.6}
_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_HOMOGLYPHS = str.maketrans("aeopcxi", "\u0430\u0435\u043e\u0440\u0441\u0445\u0456")


class Pairs:
    """The kinds of one language and what fills them."""

    def __init__(self, language: str) -> None:
        self._language = language
        slots = read(f"injection_{language}.txt")
        surround = benign_rows.surroundings(language)
        made = _encoded(lambda rng: self.grammar.pick("bad", rng), lambda rng: self.grammar.pick("t_task", rng))
        made |= {f"t_carrier_{name}": surround.paragraph for name in "abcd"}
        self.grammar = Grammar(slots, made)
        self.kinds = tuple(sorted(slot[:-1] for slot in slots if slot.endswith("+")))
        self._weights = [WEIGHTS.get(kind, 1.0) for kind in self.kinds]
        self._surround = surround

    def __repr__(self) -> str:
        return f"Pairs({self._language}, {len(self.kinds)} kinds)"

    def pair(self, rng: random.Random) -> tuple[Row, Row]:
        """An attack and a look-alike of one kind and one group."""
        kind = rng.choices(self.kinds, self._weights)[0]
        attacks, likes = self.grammar.slots[f"{kind}+"], self.grammar.slots[f"{kind}-"]
        number = rng.randrange(max(len(attacks), len(likes)))
        memo: Memo = {}
        attack = self.grammar.expand(attacks[number % len(attacks)], rng, memo)
        like = self.grammar.expand(likes[number % len(likes)], rng, memo)
        before, after = self._padding(rng)
        habits = rng.getrandbits(32) if rng.random() < SHARE_SLOPPY else None
        group = f"injection_{self._language}/{kind}/{number % len(attacks)}"
        source = f"injection_{self._language}/{kind}"
        first, second = (
            before + (text if habits is None else sloppy(text, random.Random(habits))) + after
            for text in (attack, like)
        )
        return Row(first, labels=LABELS, source=source, group=group), Row(second, source=source, group=group)

    def _padding(self, rng: random.Random) -> tuple[str, str]:
        if rng.random() >= SHARE_PADDED:
            return "", ""
        longest = LONG[self._language] if rng.random() < SHARE_LONG_PADDING else 3
        lines = [self._surround.line(rng) for _ in range(rng.randint(1, longest))]
        gap = rng.choice(("\n", "\n\n", " "))
        cut = rng.choice((0, len(lines), rng.randint(0, len(lines))))
        before, after = gap.join(lines[:cut]), gap.join(lines[cut:])
        return (before + gap if before else ""), (gap + after if after else "")


def rows(language: str, rng: random.Random, count: int) -> Iterator[Row]:
    """COUNT distinct rows, attacks and look-alikes in turn."""
    pairs = Pairs(language)
    seen: set[str] = set()
    while len(seen) < count:
        for row in pairs.pair(rng):
            if row.text not in seen and len(seen) < count:
                seen.add(row.text)
                yield row


def _encoded(
    bad: Callable[[random.Random], str], good: Callable[[random.Random], str]
) -> dict[str, Callable[[random.Random], str]]:
    """Slots such as `b64bad`: an attack, or something harmless, in one of the usual encodings."""
    ways: dict[str, Callable[[str], str]] = {
        "b64": lambda text: base64.b64encode(text.encode()).decode(),
        "hex": lambda text: text[:60].encode().hex(),
        "rot": lambda text: codecs.encode(text, "rot13"),
        "leet": lambda text: text.translate(_LEET),
        "spaced": lambda text: " ".join(text[:50]),
        "reverse": lambda text: text[::-1],
        "homo": lambda text: text.translate(_HOMOGLYPHS),
    }
    kinds = (("bad", bad), ("good", good))
    made = {way + kind: _with(code, source) for way, code in ways.items() for kind, source in kinds}
    return made | {"split1": lambda rng: _half(bad(rng), 0), "split2": lambda rng: _half(bad(rng), 1)}


def _with(code: Callable[[str], str], source: Callable[[random.Random], str]) -> Callable[[random.Random], str]:
    return lambda rng: code(source(rng))


def _half(text: str, which: int) -> str:
    middle = len(text) // 2
    return text[middle:] if which else text[:middle]
