"""What can be read from a request, at little cost, that tells how long its answer will be.

Looks at the ends of the last user message only, so the cost is bounded whatever a client sends: some 60 us.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from itertools import pairwise
from zlib import crc32

import msgspec

from extproc.prediction.words import PAIRS, WORDS

SLOTS = 1 << 16
"""Features share this many weights; which ones is decided by hashing."""
USUAL = 300
"""Tokens of an answer of which nothing is known."""
_HEAD, _TAIL = 400, 240
"""Characters read from the beginning and the end of the last user message: where the request itself stands."""
_MASK = SLOTS - 1
_PAIR = 0x9E3779B1

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+|[\u3400-\u9fff]|[\u3040-\u30ff\uac00-\ud7af\u0400-\u04ff]+")
_CODE = ("```", "{", "</", "def ", ";\n", "import ")
_ITEM = re.compile(r"\n\s*(?:\d{1,2}[.)、]|[-*•])\s*\S")
_CHOICE = re.compile(r"\n\s*\(?[a-e][).:]\s")
_COUNTING = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {
    **{word: number for number, word in enumerate(_COUNTING, 1)},
    **{word: number for number, word in enumerate("一二三四五六七八九十", 1)},
    "twenty": 20,
    "hundred": 100,
    "thousand": 1000,
    "两": 2,
    "百": 100,
    "千": 1000,
}
_LENGTH = re.compile(
    r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d{1,6}|" + "|".join(sorted(_NUMBERS, key=len, reverse=True)) + r")(k?)"
    r"[\s-]{0,2}(?:or \w+ |to \w+ |[a-z]{4,10} )?"
    r"(words?|sentences?|paragraphs?|pages?|characters?|lines?|tokens?|bullets?(?: points?)?|"
    r"ideas|examples|questions|ways|tips|titles?|names|steps|reasons|headlines?|"
    r"个?字|句话?|段|页|条|个例子|个问题|个标题)(?![a-z])"
)
_UNIT_TOKENS = (
    (("word",), 1.4),
    (("token",), 1.0),
    (("character",), 0.25),
    (("sentence", "line", "tip", "way", "reason", "step", "question", "条", "个问题"), 28.0),
    (("bullet", "idea", "example", "个例子"), 40.0),
    (("title", "name", "headline", "个标题"), 12.0),
    (("paragraph", "段"), 110.0),
    (("page", "页"), 600.0),
    (("字", "个字"), 0.9),
    (("句",), 25.0),
)
_UNITS = frozenset(
    {"word", "sentence", "paragraph", "page", "character", "line", "token", "title", "headline", "bullet"}
    | {"words", "sentences", "paragraphs", "pages", "characters", "lines", "tokens", "titles", "headlines", "bullets"}
    | {"ideas", "examples", "questions", "ways", "tips", "names", "steps", "reasons", *"字句段页条个"}
)
_COPYING = frozenset(
    {"translate", "translation", "rewrite", "rephrase", "paraphrase", "proofread", "edit", "correct", "refactor"}
    | {"convert", "翻译", "改写", "润色"}
)


class PredictionInput(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as far as it matters to the length of its answer."""

    model: str = ""
    tenant: str = ""
    route: str = ""
    prompt_tokens: int = 0
    """Estimated, of the whole prompt."""
    max_tokens: int | None = None
    """What the client allows at most."""
    stream: bool = False
    structured: bool = False
    """JSON mode, a schema or tools were asked for."""
    text: str = ""
    """The last user message; a caller may cut what lies between its first and last kilobyte."""
    turns: int = 1
    """User messages."""
    last_answer: int = 0
    """Tokens of the last assistant message in the conversation; 0: there is none."""


class Features(msgspec.Struct, frozen=True, gc=False):
    """What the predictor needs to keep of a request until its answer is known. A few hundred small numbers."""

    grams: tuple[int, ...]
    """Slots of words and pairs of words."""
    marks: tuple[int, ...]
    """Slots of everything else."""
    prior: float
    """How much longer than usual the words ask for the answer to be, natural logarithm, -2..2."""
    cap: int
    """Tokens that the answer cannot exceed; 0: not limited."""
    model: str


def features(ask: PredictionInput) -> Features:
    """Never fails: any text has features."""
    text = _ends(ask.text)
    words = _WORD.findall(text)
    known = set(words)
    chinese = [a + b for a, b in pairwise(words) if a > "\u33ff" and b > "\u33ff"]
    asked = 0 if known.isdisjoint(_UNITS) else _asked(text)
    prior = _prior(words, known, chinese)
    copying = not known.isdisjoint(_COPYING) or not _COPYING.isdisjoint(chinese)
    if asked:
        prior = 0.3 * prior + 0.7 * math.log((asked + 20) / USUAL)
    elif copying and len(ask.text) > 200:
        prior = 0.5 * prior + 0.5 * math.log(len(ask.text) / 4 / USUAL)
    return Features(
        grams=_grams(words, known),
        marks=_marks(ask, text, words, asked, copying),
        prior=max(-2.0, min(2.0, prior)),
        cap=max(0, ask.max_tokens or 0),
        model=ask.model[:128],
    )


def _ends(text: str) -> str:
    if len(text) > _HEAD + _TAIL:
        text = text[:_HEAD] + "\n" + text[-_TAIL:]
    return text.lower()


def _grams(words: list[str], known: set[str]) -> tuple[int, ...]:
    codes = {word: crc32(word.encode()) for word in known}
    row = [codes[word] for word in words]
    slots = {code & _MASK for code in codes.values()}
    slots.update([(first * _PAIR ^ second * 31 ^ first >> 7) & _MASK for first, second in pairwise(row)])
    slots.update([crc32(word[:4].encode(), 1) & _MASK for word in known if len(word) > 4])
    return tuple(slots)


def _prior(words: list[str], known: set[str], chinese: list[str]) -> float:
    """The words' own offsets; the more of them, the less each says."""
    found = [WORDS[word] for word in known if word in WORDS]
    found += [PAIRS[pair] for pair in set(pairwise(words)) if pair in PAIRS]
    found += [WORDS[word] for word in set(chinese) if word in WORDS]
    return sum(found) / math.sqrt(1 + len(found))


def _asked(text: str) -> int:
    """Tokens of the length that the text asks for; 0 if it names none. Of several, the largest counts."""
    most = 0.0
    for number, thousands, unit in _LENGTH.findall(text):
        amount = float(number.replace(",", "")) if number[0].isdigit() else float(_NUMBERS[number])
        each = next((tokens for stems, tokens in _UNIT_TOKENS if unit.startswith(stems)), 0.0)
        most = max(most, amount * each * (1000 if thousands else 1))
    return min(int(most), 8000)


def _marks(ask: PredictionInput, text: str, words: list[str], asked: int, copying: bool) -> tuple[int, ...]:
    own = _bucket(len(ask.text))
    half = own // 2
    start = text[:200]
    letters = sum(map(str.isalpha, start)) * 5 // max(1, len(start))
    lines = text.count("\n")
    questions = text.count("?") + text.count("\uff1f")
    ends = text.rstrip()[-1:] in ("?", "\uff1f")
    items = len(_ITEM.findall(text)) if lines else 0
    choice = lines > 0 and _CHOICE.search(text) is not None
    code = any(sign in text for sign in _CODE)
    size = _bucket(ask.prompt_tokens or len(ask.text) // 4)
    one, two = " ".join(words[:1]), " ".join(words[:2])
    own_names = (
        f"size {size}\nown {own}\nown {half} {ask.model[:128]}\nfirst {one}\nfirst {two}\nletters {letters}"
        f"\nquestions {min(3, questions)} {ends}\nlines {_bucket(lines)}\nitems {_bucket(items)}"
        f"\ncode {code} {half}\nchoice {choice}\nscript {_script(words)}"
        f"\nstream {ask.stream}\nstructured {ask.structured}\nmax {_bucket(ask.max_tokens or 0)}"
        f"\nturns {min(4, ask.turns)}\nlast {_bucket(ask.last_answer)}\nasked {_bucket(asked)}"
        f"\ncopying {copying} {half}"
    )
    slots = [crc32(name, 2) & _MASK for name in own_names.encode().split(b"\n")]
    return _names(ask.model[:128], ask.tenant[:128], ask.route[:128]) + tuple(slots)


@lru_cache(1024)
def _names(model: str, tenant: str, route: str) -> tuple[int, ...]:
    names = ("all", f"model {model}", f"tenant {tenant}", f"route {route}", f"tenant {tenant} {model}")
    return tuple([crc32(name.encode(), 2) & _MASK for name in names])


def _bucket(number: int) -> int:
    """Two buckets for each doubling."""
    return int(2 * math.log2(1 + number)) if number > 0 else 0


def _script(words: list[str]) -> str:
    """Of the first few words: a rough guess at the language."""
    first = {"z" if "\u3400" <= word[0] <= "\u9fff" else word[0] if word[0] > "z" else "a" for word in words[:5]}
    return "".join(sorted(first))[:3]
