"""Names of people, organisations and places in the tagged sets' dev parts: exact spans with the right category.

UNER's PER, ORG and LOC are PERSON, ORGANIZATION and LOCATION. WNUT17's person and location are PERSON and LOCATION, its
corporation and group are ORGANIZATION. Its product and creative-work are titles and brands, no names of anybody: they
do not count, and neither do findings of PROJECT; the second figure counts both as PROJECT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.detectors.benign import records
from bench.detectors.table import MISSING, Bar, Bench, Counts, Section, examined, rows

ZH: Mapping[str, str] = {"PER": "PERSON", "ORG": "ORGANIZATION", "LOC": "LOCATION"}
EN: Mapping[str, str] = {
    "person": "PERSON",
    "corporation": "ORGANIZATION",
    "group": "ORGANIZATION",
    "location": "LOCATION",
}
EN_ALL: Mapping[str, str] = {**EN, "product": "PROJECT", "creative-work": "PROJECT"}
BARS: Mapping[str, float] = {"names-zh-f1": 0.68, "names-en-f1": 0.66}
Span = tuple[int, int, str]
Sentence = tuple[str, list[Span]]


def joined(tokens: list[str], tags: list[str], *, spaced: bool) -> Sentence:
    """Running text, and spans with the tag's own name. Without `spaced`, only words of ASCII letters stand apart."""
    text = ""
    spans: list[Span] = []
    for token, tag in zip(tokens, tags, strict=True):
        if text and (
            spaced or (text[-1:].isascii() and text[-1:].isalnum() and token[:1].isascii() and token[:1].isalnum())
        ):
            text += " "
        start = len(text)
        text += token
        if tag[0] == "I" and spans and spans[-1][2] == tag[2:]:
            spans[-1] = (spans[-1][0], len(text), tag[2:])
        elif tag != "O":
            spans.append((start, len(text), tag[2:]))
    return text, spans


def sentences(folder: Path, name: str, *, spaced: bool) -> Iterator[Sentence]:
    for record in records(folder, name):
        yield joined(record["tokens"], record["tags"], spaced=spaced)


def score(data: list[Sentence], kinds: Mapping[str, str], find: Callable[[str], set[Span]]) -> dict[str, Counts]:
    """By category, over categories that `kinds` maps to."""
    wanted = sorted(set(kinds.values()))
    total = dict.fromkeys(wanted, Counts())
    for text, spans in data:
        said = find(text)
        true = {(start, end, kinds[tag]) for start, end, tag in spans if tag in kinds}
        for kind in wanted:
            pair = [{span for span in each if span[2] == kind} for each in (said, true)]
            total[kind] += Counts.of_spans(pair[0], pair[1])
    return total


def run(bench: Bench) -> Section:
    title = "Names: exact spans on the dev parts"
    if bench.model is None:
        missing = tuple(Bar(name, MISSING, limit, least=True) for name, limit in BARS.items())
        return Section(title, ("needs the classifier",), missing)
    guard = bench.model

    def find(text: str) -> set[Span]:
        return {(each.start, each.end, each.category) for each in examined(guard, text).findings}

    chinese = list(sentences(bench.folder, "ner_zh_uner_dev", spaced=False))
    english = list(sentences(bench.folder, "ner_en_wnut17_dev", spaced=True))
    if bench.quick:
        chinese, english = chinese[::5], english[::5]
    results = {
        "UNER zh": score(chinese, ZH, find),
        "WNUT17": score(english, EN, find),
        "WNUT17, products and works too": score(english, EN_ALL, find),
    }
    micro = {name: sum(counts.values(), Counts()) for name, counts in results.items()}
    body = [
        [f"{name} {kind}", count.true, f"{count.precision:.3f}", f"{count.recall:.3f}", f"{count.f1:.3f}"]
        for name, counts in results.items()
        for kind, count in [*counts.items(), ("all", micro[name])]
    ]
    return Section(
        title,
        (
            rows(["set and category", "names", "precision", "recall", "F1"], body),
            "WNUT17: person is PERSON, corporation and group ORGANIZATION, location LOCATION; product and "
            "creative-work do not count, or count as PROJECT.",
        ),
        (
            Bar("names-zh-f1", micro["UNER zh"].f1, BARS["names-zh-f1"], least=True),
            Bar("names-en-f1", micro["WNUT17"].f1, BARS["names-en-f1"], least=True),
        ),
    )
