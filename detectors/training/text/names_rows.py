"""Turns the hand-written sentences of one language into rows with the spans of their entities."""

import random
from collections.abc import Iterator

from detectors.training.text.grammar import Grammar, Span, read
from detectors.training.text.made import MADE
from detectors.training.text.row import Row

SHARE_LOWER = {"en": 0.25, "zh": 0.0}
SHARE_TWO = 0.15
SHARE_EMPTY = 0.3


def rows(language: str, rng: random.Random, count: int) -> Iterator[Row]:
    """COUNT distinct rows; needs the gazetteers of the training installation."""
    if language == "zh":
        from detectors.training.text.names_gazetteer import chinese as made
    else:
        from detectors.training.text.names_gazetteer import english as made
    grammar = Grammar(read(f"names_{language}.txt"), MADE | made())
    seen: set[str] = set()
    while len(seen) < count:
        row = _row(grammar, language, rng)
        if row.text not in seen:
            seen.add(row.text)
            yield row


def _row(grammar: Grammar, language: str, rng: random.Random) -> Row:
    kind, text, spans, skeleton = _sentence(grammar, rng)
    if rng.random() < SHARE_TWO:
        gap = "" if language == "zh" else " "
        _, more, others, _ = _sentence(grammar, rng)
        shift = len(text) + len(gap)
        text, spans = text + gap + more, spans + tuple((a + shift, b + shift, label) for a, b, label in others)
    text, spans = _stripped(text, spans)
    if rng.random() < SHARE_LOWER[language]:
        lowered = text.lower()
        text = lowered if len(lowered) == len(text) else text
    source = f"names_{language}/{kind}"
    return Row(text, spans=spans, source=source, group=f"{source}/{skeleton[:40]}")


def _sentence(grammar: Grammar, rng: random.Random) -> tuple[str, str, tuple[Span, ...], str]:
    full = [slot for slot in grammar.slots if slot.endswith("!") and slot != "empty!"]
    lengths = [len(grammar.slots[slot]) for slot in full]
    kind = "empty!" if rng.random() < SHARE_EMPTY else rng.choices(full, lengths)[0]
    skeleton = rng.choice(grammar.slots[kind])
    text, spans = grammar.marked(skeleton, rng)
    return kind[:-1], text, spans, skeleton


def _stripped(text: str, spans: tuple[Span, ...]) -> tuple[str, tuple[Span, ...]]:
    """TEXT without blanks at its ends."""
    lead = len(text) - len(text.lstrip())
    return text.strip(), tuple((start - lead, end - lead, label) for start, end, label in spans)
