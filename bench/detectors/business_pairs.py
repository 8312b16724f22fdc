"""Internal business information: minimal pairs written by hand, apart from the text that the classifier learns from.

`business_zh.jsonl` and `business_en.jsonl` hold one row a line: `text`, its `labels`, and `pair`, which is shared by
rows that differ in one thing: ours or theirs, internal or public, specific or generic, real or invented, about to
happen or announced. Rows without a pair are public news and generic requests. Nothing is trained or tuned on them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.detectors.table import MISSING, Bar, Bench, Counts, Section, examined, percent, rows

LANGUAGES = ("zh", "en")
PRECISION, RECALL, PUBLIC = 0.93, 0.90, 1.0
Flags = Callable[[str], frozenset[str]]


class Row(msgspec.Struct, frozen=True):
    text: str
    labels: tuple[str, ...]
    """Empty: harmless."""
    pair: str
    """Empty: public news or a generic request."""


def read(language: str) -> list[Row]:
    lines = Path(__file__).with_name(f"business_{language}.jsonl").read_text("utf-8").splitlines()
    return [msgspec.json.decode(line, type=Row) for line in lines]


class Result(msgspec.Struct, frozen=True):
    """Of one language. A row is flagged if any category of business information is found in it."""

    rows: Counts
    labels: Counts
    """Category by category: a row whose category is confused with another is wrong twice."""
    pairs_right: int
    pairs: int
    public_flagged: int
    public: int
    found: Counter[str]
    """Flagged rows by category."""
    all: Counter[str]


def score(data: Sequence[Row], flags: Flags) -> Result:
    """`flags` gives the categories of business information that a text is flagged for."""
    seen = {row: flags(row.text) for row in data}
    by_pair: defaultdict[str, list[Row]] = defaultdict(list)
    for row in data:
        if row.pair:
            by_pair[row.pair].append(row)
    paired = [row for row in data if row.pair]
    public = [row for row in data if not row.pair]
    return Result(
        rows=sum(
            (Counts(bool(seen[row]) and bool(row.labels), bool(seen[row]), bool(row.labels)) for row in paired),
            Counts(),
        ),
        labels=sum((Counts.of_spans(seen[row], row.labels) for row in paired), Counts()),
        pairs_right=sum(all(bool(seen[row]) == bool(row.labels) for row in pair) for pair in by_pair.values()),
        pairs=len(by_pair),
        public_flagged=sum(bool(seen[row]) for row in public),
        public=len(public),
        found=Counter(label for row in paired if seen[row] for label in row.labels),
        all=Counter(label for row in paired for label in row.labels),
    )


def run(bench: Bench) -> Section:
    title = "Business information: minimal pairs, shipped thresholds"
    names = [f"business-{what}{tail}" for what in ("precision", "recall") for tail in ("", "-zh", "-en")]
    if bench.model is None:
        bars = [Bar(name, MISSING, PRECISION if "precision" in name else RECALL, least=True) for name in names]
        return Section(title, ("needs the classifier",), (*bars, Bar("business-public-flagged", MISSING, PUBLIC)))
    guard = bench.model

    def flags(text: str) -> frozenset[str]:
        found = examined(guard, text).findings
        return frozenset(each.category for each in found if each.category.startswith("BUSINESS_"))

    results = {language: score(read(language), flags) for language in LANGUAGES}
    both = sum((result.rows for result in results.values()), Counts())
    counts = {"": both, **{f"-{language}": result.rows for language, result in results.items()}}
    flagged, public = (
        sum(getattr(result, name) for result in results.values()) for name in ("public_flagged", "public")
    )
    return Section(
        title,
        (_table(results), _categories(results)),
        (
            *(
                Bar(f"business-precision{tail}", count.precision, PRECISION, least=True)
                for tail, count in counts.items()
            ),
            *(Bar(f"business-recall{tail}", count.recall, RECALL, least=True) for tail, count in counts.items()),
            Bar("business-public-flagged", percent(flagged, public), PUBLIC),
        ),
    )


def _table(results: dict[str, Result]) -> str:
    head = ["language", "precision", "recall", "category F1", "pairs right", "public or generic flagged"]
    return rows(
        head,
        [
            [
                language,
                f"{result.rows.precision:.3f}",
                f"{result.rows.recall:.3f}",
                f"{result.labels.f1:.3f}",
                f"{result.pairs_right} of {result.pairs}",
                f"{result.public_flagged} of {result.public}",
            ]
            for language, result in results.items()
        ],
    )


def _categories(results: dict[str, Result]) -> str:
    names = sorted({name for result in results.values() for name in result.all})
    return rows(
        ["rows flagged at all", *results],
        [[name, *(f"{result.found[name]} of {result.all[name]}" for result in results.values())] for name in names],
    )
