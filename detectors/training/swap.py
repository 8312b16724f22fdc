"""New sentences out of tagged ones: every name may give way to another of its kind and language."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from detectors.training.text.row import Row

SHARE = 0.6

Pool = Mapping[tuple[str, bool], Sequence[str]]


def _chinese(text: str) -> bool:
    return any("\u3400" <= letter <= "\u9fff" for letter in text)


def pool(rows: Iterable[Row]) -> Pool:
    """The names in ROWS by category and by whether they are Chinese; a name that stands often is there as often."""
    found: dict[tuple[str, bool], list[str]] = {}
    for row in rows:
        for start, end, kind in row.spans:
            name = row.text[start:end]
            found.setdefault((kind, _chinese(name)), []).append(name)
    return found


def swapped(row: Row, names: Pool, rng: random.Random) -> Row:
    """ROW with about `SHARE` of its names replaced; spans and what stands around them move along."""
    text, spans, last = "", [], 0
    for start, end, kind in row.spans:
        text += row.text[last:start]
        name = row.text[start:end]
        others = names.get((kind, _chinese(name)))
        if others and rng.random() < SHARE:
            name = rng.choice(others)
        spans.append((len(text), len(text) + len(name), kind))
        text, last = text + name, end
    return Row(text + row.text[last:], row.labels, tuple(spans), row.source, row.group)
