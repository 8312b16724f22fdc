"""Turns the hand-written business skeletons of one language into labelled rows.

Four text files beside this module hold a language: `words` (slot values), `pairs` (blocks of `+` disclosing and `-`
harmless skeletons that share their slots), `alone` (complete rows) and `frames` (what a user writes around a text).
"""

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from detectors.training.text.business_grammar import Filler, Piece, join
from detectors.training.text.row import Row

LABEL_OF_LETTER = {
    "M": "BUSINESS_MEETING",
    "F": "BUSINESS_FINANCE",
    "P": "BUSINESS_PERSONNEL",
    "C": "BUSINESS_CUSTOMER",
    "R": "BUSINESS_ROADMAP",
    "S": "BUSINESS_SECURITY",
    "L": "BUSINESS_LEGAL",
}
SHARE_ALONE = 0.12
SHARE_FRAMED = 0.5
SHARE_INVENTED = 0.08
SHARE_EVERYDAY = 0.35
SHARE_PADDED = 0.2
SHARE_SLOPPY = 0.15
SHARE_TWO_MATTERS = 0.07
LONGEST = 900


class Skeleton(msgspec.Struct, frozen=True):
    """One template and what its text discloses (nothing when `labels` is empty)."""

    template: str
    labels: frozenset[str]


class Block(msgspec.Struct, frozen=True):
    """Skeletons that differ in one factor."""

    name: str
    disclosing: tuple[Skeleton, ...]
    harmless: tuple[Skeleton, ...]


class Frames(msgspec.Struct, frozen=True):
    """What stands around a text: `plain` for both classes, `invented` makes a disclosure harmless (a novel, an
    exercise), `real` uses the same words and leaves it a disclosure, `padding` says nothing, `everyday` is harmless
    and as full of people, dates, sums and "we" as the disclosures are."""

    plain: tuple[str, ...]
    invented: tuple[str, ...]
    real: tuple[str, ...]
    padding: tuple[str, ...]
    everyday: tuple[str, ...]


class Language(msgspec.Struct, frozen=True):
    """All hand-written text of one language."""

    code: str
    words: dict[str, list[str]]
    blocks: tuple[Block, ...]
    alone: tuple[Skeleton, ...]
    frames: Frames


def load(code: str) -> Language:
    """The language `zh` or `en`; raises ValueError for a line that is none of the known kinds."""
    return Language(
        code,
        _words(_lines(code, "words")),
        tuple(_blocks(code, _lines(code, "pairs"))),
        tuple(_skeleton(line, "") for line in _lines(code, "alone") if line),
        _frames(_lines(code, "frames")),
    )


def _lines(code: str, part: str) -> list[str]:
    text = Path(__file__).with_name(f"business_{code}_{part}.txt").read_text("utf-8")
    return [line.strip() for line in text.splitlines() if not line.startswith("//")]


def _words(lines: list[str]) -> dict[str, list[str]]:
    words: dict[str, list[str]] = {}
    for line in filter(None, lines):
        name, equals, values = line.partition(" = ")
        if not equals:
            raise ValueError(f"not a word list: {line!r}")
        words.setdefault(name, []).extend(values.split("|"))
    return words


def _skeleton(line: str, letters: str) -> Skeleton:
    head, _, template = line.partition(" ")
    if not template or head[0] not in "+-" or (head[0] == "-" and len(head) > 1):
        raise ValueError(f"neither + nor -: {line!r}")
    letters = (head[1:] or letters) if head[0] == "+" else ""
    if head[0] == "+" and not letters:
        raise ValueError(f"a disclosure without a label: {line!r}")
    return Skeleton(template, frozenset(LABEL_OF_LETTER[letter] for letter in letters))


def _blocks(code: str, lines: list[str]) -> Iterator[Block]:
    letter, index, pending = "", 0, list[Skeleton]()
    for line in [*lines, ""]:
        if line.startswith("##"):
            letter = line.removeprefix("##").strip()
        elif line:
            pending.append(_skeleton(line, letter))
        elif pending:
            block = Block(
                f"business-{code}/{LABEL_OF_LETTER[letter].removeprefix('BUSINESS_').lower()}/{index:03d}",
                tuple(skeleton for skeleton in pending if skeleton.labels),
                tuple(skeleton for skeleton in pending if not skeleton.labels),
            )
            if not block.disclosing or not block.harmless:
                raise ValueError(f"a block with one class only: {pending[0].template!r}")
            yield block
            index, pending = index + 1, []


def _frames(lines: list[str]) -> Frames:
    kinds: dict[str, list[str]] = {"=": [], "?": [], "!": [], ".": [], "~": []}
    for line in filter(None, lines):
        kinds[line[0]].append(line[1:].strip())
    return Frames(tuple(kinds["="]), tuple(kinds["?"]), tuple(kinds["!"]), tuple(kinds["."]), tuple(kinds["~"]))


def rows(language: Language, rng: random.Random, count: int) -> Iterator[Row]:
    """`count` distinct rows. The rows of one pair come one after another with the same `group`; `source` is the
    skeleton's block, so that a split by source measures unseen skeletons."""
    seen: set[str] = set()
    number = 0
    while len(seen) < count:
        number += 1
        left = count - len(seen)
        fresh = (
            _alone(language, rng, number) if left < 2 or rng.random() < SHARE_ALONE else _pair(language, rng, number)
        )
        if any(row.text in seen for row in fresh) or len(fresh) > left:
            continue
        seen.update(row.text for row in fresh)
        yield from fresh


def _alone(language: Language, rng: random.Random, number: int) -> list[Row]:
    index = rng.randrange(len(language.alone))
    skeleton = language.alone[index]
    body = Filler(rng, language.words).render(skeleton.template)
    piece = _shape(language, rng, random.Random(rng.random()), body)
    name = f"business-{language.code}/alone/{index:03d}"
    return [Row(piece.text, skeleton.labels, piece.spans, name, f"{name}/{number:06d}")]


def _pair(language: Language, rng: random.Random, number: int) -> list[Row]:
    """A disclosing row, a harmless one, and mostly a second harmless one, about the same people and figures and in
    the same wrapping."""
    block = rng.choice(language.blocks)
    filler = Filler(rng, language.words)
    disclosing = rng.choice(block.disclosing)
    positive = filler.render(disclosing.template)
    labels = disclosing.labels
    harmless = [filler.render(skeleton.template) for skeleton in _some(rng, block.harmless)]
    if rng.random() < SHARE_INVENTED:
        harmless.append(_frame(filler, rng.choice(language.frames.invented), positive))
        positive = _frame(filler, rng.choice(language.frames.real), positive)
    elif rng.random() < SHARE_TWO_MATTERS:
        other = rng.choice(rng.choice(language.blocks).disclosing)
        positive = join([positive, filler.render(other.template)], "\n")
        labels |= other.labels
        unrelated = rng.choice(rng.choice(language.blocks).harmless)
        harmless[0] = join([harmless[0], filler.render(unrelated.template)], "\n")
    if rng.random() < SHARE_EVERYDAY:
        harmless.append(filler.render(rng.choice(language.frames.everyday)))
    seed = rng.random()
    shaped = [
        (_shape(language, rng, random.Random(seed), piece), piece_labels)
        for piece, piece_labels in [(positive, labels), *((piece, frozenset[str]()) for piece in harmless)]
    ]
    distinct = {piece.text: (piece, piece_labels) for piece, piece_labels in shaped}
    group = f"{block.name}/{number:06d}"
    return [Row(piece.text, labels, piece.spans, block.name, group) for piece, labels in distinct.values()]


def _some(rng: random.Random, harmless: tuple[Skeleton, ...]) -> list[Skeleton]:
    return rng.sample(harmless, min(len(harmless), 1 + (rng.random() < 0.4)))


def _shape(language: Language, rng: random.Random, shared: random.Random, body: Piece) -> Piece:
    """The body in what a user would put around it. `shared` is seeded alike for all rows of a pair, so that frame and
    style say nothing about the class; `rng` is the run's own."""
    filler = Filler(shared, language.words)
    piece = body
    if shared.random() < SHARE_PADDED:
        padding = [filler.render(text) for text in shared.sample(language.frames.padding, shared.randint(1, 4))]
        place = shared.randint(0, len(padding))
        piece = join([*padding[:place], body, *padding[place:]], shared.choice(["\n", "\n\n", " "]))
    if shared.random() < SHARE_FRAMED:
        piece = _frame(filler, shared.choice(language.frames.plain), piece)
    if len(piece.text) > LONGEST:
        piece = body
    return _sloppy(piece, shared, rng) if shared.random() < SHARE_SLOPPY else piece


def _frame(filler: Filler, frame: str, body: Piece) -> Piece:
    filler.with_slot("body", body)
    return filler.render(frame)


def _sloppy(piece: Piece, shared: random.Random, rng: random.Random) -> Piece:
    """The same text typed carelessly; every change keeps the length, so that the spans stay right."""
    text = piece.text
    style = shared.randrange(4)
    if style == 0:
        text = "".join(char.lower() if len(char.lower()) == 1 else char for char in text)
    elif style == 1:
        text = text.translate({ord("。"): " ", ord("，"): " ", ord("；"): " ", ord(";"): ","})
    elif style == 2:
        text = text.translate(str.maketrans("，。：；（）！？", ",.:;()!?"))
    else:
        text = _swapped(piece, rng)
    return Piece(text, piece.spans)


def _swapped(piece: Piece, rng: random.Random) -> str:
    chars = list(piece.text)
    inside = {index for start, end, _ in piece.spans for index in range(start, end)}
    for _ in range(1 + len(chars) // 120):
        at = rng.randrange(max(1, len(chars) - 1))
        if at + 1 < len(chars) and not {at, at + 1} & inside and chars[at].isalpha() and chars[at + 1].isalpha():
            chars[at], chars[at + 1] = chars[at + 1], chars[at]
    return "".join(chars)
