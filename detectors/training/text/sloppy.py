"""The way people type in a hurry."""

import random
import re

_ENDS = re.compile(r"[.。!！?？,，;；]+$")


def sloppy(text: str, rng: random.Random) -> str:
    """TEXT in lower case, without its last mark, with typos, without apostrophes, or loud: one or two of these."""
    habits = (_lower, _without_end, _typos, _plain_quotes, _repeated_end, _upper)
    for habit in rng.choices(habits, weights=(4, 3, 3, 1, 1, 0.5), k=rng.randint(1, 2)):
        text = habit(text, rng)
    return text


def _lower(text: str, rng: random.Random) -> str:
    del rng
    return text.lower()


def _upper(text: str, rng: random.Random) -> str:
    del rng
    return text.upper() if len(text) < 200 else text


def _without_end(text: str, rng: random.Random) -> str:
    del rng
    return _ENDS.sub("", text)


def _repeated_end(text: str, rng: random.Random) -> str:
    return _ENDS.sub("", text) + rng.choice(("!!!", "...", "!", " ??", "。。。", "～", " pls", " thx"))


def _plain_quotes(text: str, rng: random.Random) -> str:
    del rng
    return text.replace("'", "").replace('"', "").replace("“", "").replace("”", "")


def _typos(text: str, rng: random.Random) -> str:
    """Two neighbouring letters in the wrong order, one left out or one doubled, about once in forty characters."""
    letters = list(text)
    for _ in range(1 + len(text) // 40):
        at = rng.randrange(max(1, len(letters) - 1))
        if len(letters) < 4 or not letters[at].isalpha() or not letters[at + 1].isalpha():
            continue
        kind = rng.randrange(3)
        if kind == 0:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind == 1:
            del letters[at]
        else:
            letters.insert(at, letters[at])
    return "".join(letters)
