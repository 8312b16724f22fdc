"""Internal business information: minimal pairs written by hand, apart from the text that the classifier learns from.

`business_zh.jsonl` and `business_en.jsonl` hold one row a line: `text`, its `labels`, and `pair`, which is shared by
rows that differ in one thing: ours or theirs, internal or public, specific or generic, real or invented, about to
happen or announced. Rows without a pair are public news and generic requests. Nothing is trained or tuned on them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from bench.detectors.benign import prompts
from bench.detectors.table import MISSING, Bar, Bench, Counts, Section, examined, percent, rows, threshold_at
from detectors import Check

LANGUAGES = ("zh", "en")
RECALL, BOTH, PUBLIC = 75.0, 55.0, 0.5
EVERYDAY = 0.01
"""Share of everyday prompts that may be flagged where recall is measured."""
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
    title = "Business information: minimal pairs"
    if bench.model is None:
        wanted = [(f"business-{what}-{language}", limit) for what, limit in _BARS for language in LANGUAGES]
        bars = [Bar(name, MISSING, limit, least=True) for name, limit in wanted]
        return Section(title, ("needs the classifier",), (*bars, Bar("business-public-flagged", MISSING, PUBLIC)))
    guard = bench.model
    seen: dict[str, Check] = {}

    def check(text: str) -> Check:
        if text not in seen:
            seen[text] = examined(guard, text)
        return seen[text]

    def flags(text: str) -> frozenset[str]:
        return frozenset(each.category for each in check(text).findings if each.category.startswith("BUSINESS_"))

    everyday = [text for texts in prompts(bench.folder, bench.most).values() for text in texts]
    results = {language: score(read(language), flags) for language in LANGUAGES}
    at_one: dict[str, Result] = {}
    for language in LANGUAGES:
        quiet = [highest(check(text)) for text in everyday if is_chinese(text) == (language == "zh")]
        limit = threshold_at(quiet, EVERYDAY)
        at_one[language] = score(read(language), partial(_above, check, limit))
    flagged, public = (
        sum(getattr(result, name) for result in results.values()) for name in ("public_flagged", "public")
    )
    return Section(
        title,
        (
            "At the thresholds as shipped:",
            _table(results),
            _categories(results),
            "At one threshold that 1 % of the language's held-out everyday prompts reach, whatever the category:",
            _table(at_one),
        ),
        (
            *(
                Bar(f"business-recall-1pct-{language}", 100 * result.rows.recall, RECALL, least=True)
                for language, result in at_one.items()
            ),
            *(
                Bar(f"business-pairs-right-{language}", percent(result.pairs_right, result.pairs), BOTH, least=True)
                for language, result in at_one.items()
            ),
            Bar("business-public-flagged", percent(flagged, public), PUBLIC),
        ),
    )


_BARS = (("recall-1pct", RECALL), ("pairs-right", BOTH))


def _above(check: Callable[[str], Check], limit: float, text: str) -> frozenset[str]:
    return frozenset({"BUSINESS"}) if highest(check(text)) > limit else frozenset()


def highest(check: Check) -> float:
    """The highest probability of a category of business information."""
    return max((value for name, value in check.scores.items() if name.startswith("BUSINESS_")), default=0.0)


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


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
