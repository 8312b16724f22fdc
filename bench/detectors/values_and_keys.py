"""Structured values and secrets: exact spans, recall, false alarms; beside Presidio and detect-secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from bench.detectors import secrets, structured
from bench.detectors.cost import times
from bench.detectors.others import presidio
from bench.detectors.table import Bar, Bench, Section, capped, examined, percent, quantile, rows
from detectors import Guard

EXACT, FLAGGED = 99.0, 0.3
RECALL, KEYS_FLAGGED, GLUED_LOSS = 85.0, 0.1, 0.0
_SEED = 2026
_DIALOGUES = ("dialogue_en_sgd_train", "dialogue_zh")
"""Their turns hold telephone numbers and addresses of shops, which the recognisers are right to report."""
_NOT_VALUES = frozenset({"SECRET", "UNCHECKED"})


def run_values(bench: Bench) -> Section:
    """Generated values in every form that people write them in, and harmless prompts."""
    cases = structured.cases(_SEED, 20 if bench.quick else 60)
    kinds = Counter(case.kind for case in cases)
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    other = presidio()
    for case in cases:
        found = {(each.start, each.end, each.category) for each in examined(bench.fast, case.text).findings}
        ours[case.kind] += all(span in found for span in case.spans)
        if other is not None:
            spans = other.spans(case.text)
            theirs[case.kind] += all((start, end) in spans for start, end, _ in case.spans)
    body = [
        [kind, number, f"{percent(ours[kind], number):.1f}", f"{percent(theirs[kind], number):.1f}"]
        for kind, number in [*kinds.items()]
    ]
    body.append(["all", len(cases), *(f"{percent(each.total(), len(cases)):.1f}" for each in (ours, theirs))])
    table, flagged = _harmless(bench, other.spans if other else None)
    wins = [kind for kind in kinds if theirs[kind] > ours[kind]]
    about = f"Presidio: {other.note}. Its category may be any." if other else "Presidio is not installed."
    return Section(
        "Structured values",
        (
            rows(["exact spans, %", "values", "sluice", "presidio"], body),
            table,
            f"{about} Presidio finds more of: {', '.join(wins) or 'nothing'}.",
            _speed(bench, [case.text for case in cases], other.spans if other else None),
        ),
        (
            Bar("structured-exact", percent(ours.total(), len(cases)), EXACT, least=True),
            Bar("structured-benign-flagged", flagged, FLAGGED),
        ),
    )


def _speed(bench: Bench, texts: Sequence[str], other: Callable[[str], object] | None) -> str:
    few = capped(texts, 200)
    said = f"CPU milliseconds for a text with a value, p50: sluice {quantile(times(bench.fast.examine, few), 0.5):.3f}"
    return said if other is None else f"{said}, presidio {quantile(times(other, few), 0.5):.3f}"


def _harmless(bench: Bench, other: Callable[[str], set[tuple[int, int]]] | None) -> tuple[str, float]:
    body: list[list[object]] = []
    hits = total = 0
    for name, every in structured.harmless(bench.folder):
        texts = capped(every, bench.most * 5)
        count = sum(_has_value(bench.fast, text) for text in texts)
        few = capped(every, bench.most // 2)
        column = f"{percent(sum(bool(other(text)) for text in few), len(few)):.2f} of {len(few)}" if other else "-"
        body.append([name, len(texts), f"{percent(count, len(texts)):.2f}", column])
        if name not in _DIALOGUES:
            hits, total = hits + count, total + len(texts)
    body.append(["prompts, without the turns of dialogues", total, f"{percent(hits, total):.2f}", ""])
    return rows(["harmless texts flagged, %", "texts", "sluice", "presidio"], body), percent(hits, total)


def _has_value(guard: Guard, text: str) -> bool:
    return any(each.category not in _NOT_VALUES for each in examined(guard, text).findings)


def run_keys(bench: Bench) -> Section:
    """Fixtures with and without a secret, alone and glued to Chinese, and benign text."""
    fixtures = [row for path in sorted(bench.folder.glob("secrets_fixtures_*.jsonl.gz")) for row in secrets.rows(path)]
    without = secrets.NO_SECRET | secrets.NO_FORMAT
    texts = [row["text"] for row in fixtures if row["secret"] and row["rule"] not in without]
    if bench.quick:
        texts = texts[::4]
    glued = [secrets.glued(text) for text in texts]
    scanners: dict[str, secrets.Scanner] = {"sluice": lambda text: _has_secret(bench.fast, text)}
    other = secrets.detect_secrets_scanner()
    if other is not None:
        scanners["detect-secrets"] = other
    found = {name: ([scan(text) for text in texts], [scan(text) for text in glued]) for name, scan in scanners.items()}
    benign = {name: _benign(bench, scan, ours=name == "sluice") for name, scan in scanners.items()}
    figures = {name: _figures(plain, joined) for name, (plain, joined) in found.items()}
    body = [
        [name, f"{each[0]:.1f}", f"{each[1]:.1f}", f"{percent(*benign[name]):.3f} of {benign[name][1]}"]
        for name, each in figures.items()
    ]
    wins = _only_theirs(fixtures, without, found) if other is not None and not bench.quick else []
    return Section(
        "Secrets in families whose vendor format is public",
        (
            rows(["%", f"found of {len(texts)}", "lost glued to Chinese", "benign texts flagged"], body),
            f"detect-secrets finds what is missed here in: {', '.join(wins) or 'nothing'}."
            if other is not None
            else "detect-secrets is not installed.",
        ),
        (
            Bar("secrets-recall", figures["sluice"][0], RECALL, least=True),
            Bar("secrets-benign-flagged", percent(*benign["sluice"]), KEYS_FLAGGED),
            Bar("secrets-glued-loss", figures["sluice"][1], GLUED_LOSS),
        ),
    )


def _has_secret(guard: Guard, text: str) -> bool:
    return any(each.category == "SECRET" for each in examined(guard, text).findings)


def _figures(plain: Sequence[bool], glued: Sequence[bool]) -> tuple[float, float]:
    """Percent found, and percent of those found that are lost once glued."""
    lost = sum(before and not after for before, after in zip(plain, glued, strict=True))
    return percent(sum(plain), len(plain)), percent(lost, sum(plain))


def _benign(bench: Bench, scan: secrets.Scanner, *, ours: bool) -> tuple[int, int]:
    """Texts flagged, and texts."""
    most = (bench.most * 5) if ours else min(secrets.MOST_FOR_THE_OTHER, bench.most)
    flagged = total = 0
    for name in secrets.BENIGN:
        path = bench.folder / f"{name}.jsonl.gz"
        texts: Iterable[str] = islice(map(secrets.prompts, secrets.rows(path)), most)
        hits = [scan(text) for text in texts]
        flagged, total = flagged + sum(hits), total + len(hits)
    return flagged, total


def _only_theirs(
    fixtures: Sequence[dict[str, str]], without: frozenset[str], found: dict[str, tuple[list[bool], list[bool]]]
) -> list[str]:
    """Families with a text that only the other scanner flags."""
    rules = [row["rule"] for row in fixtures if row["secret"] and row["rule"] not in without]
    pairs = zip(rules, found["sluice"][0], found["detect-secrets"][0], strict=True)
    return sorted({rule for rule, ours, theirs in pairs if theirs and not ours})
