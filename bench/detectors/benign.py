"""Texts that nobody should be bothered about: the shared sets' held-out part, and how much of it is flagged.

Held out means: `held_out` keeps these rows out of training. The other rows of the same sets were trained on.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.detectors.table import MISSING, Bar, Bench, Section, capped, examined, percent, rows
from detectors import Check
from detectors.training import hand
from detectors.training.split import held_out

Record = dict[str, Any]


class Source(msgspec.Struct, frozen=True):
    """How one shared set is read."""

    texts: Callable[[Record], list[str]]
    group: Callable[[Record], str]
    """What the split of the training data is decided by."""
    prompts: bool = True
    """Whether people would send these texts to a model; else they are reading matter."""


def _field(name: str) -> Callable[[Record], str]:
    return lambda record: str(record[name])


def _fields(*names: str) -> Callable[[Record], list[str]]:
    return lambda record: ["\n".join(str(record[name]) for name in names).strip()]


SOURCES: Mapping[str, Source] = {
    "benign_en_roleplay_prompts": Source(_fields("text"), _field("act")),
    "benign_en_t0_prompts": Source(_fields("text"), lambda record: str(record["text"])[:200]),
    "benign_zh_cvalues_prompts": Source(_fields("prompt"), _field("prompt")),
    "benign_zh_medical_qa": Source(
        _fields("instruction", "input"), lambda record: f"{record['instruction']}\n{record['input']}".strip()
    ),
    "dialogue_en_sgd_train": Source(lambda record: ["\n".join(record["turns"])], lambda record: record["turns"][0]),
    "dialogue_zh": Source(lambda record: ["\n".join(record["turns"])], lambda record: record["turns"][0]),
    "prompt_response_en_arena_hard": Source(_fields("prompt"), _field("prompt")),
    "unlabelled_en_handbooks": Source(_fields("text"), lambda record: str(record["number"] // 40), prompts=False),
    "unlabelled_zh_docs": Source(_fields("text"), lambda record: str(record["number"] // 40), prompts=False),
}
KINDS = ("exam", "roleplay", "code", "news", "answer")
KIND = 0.5
_STATEMENTS = frozenset({"injection", "business"})
_OF_TEXTS = frozenset({"INJECTION", "UNCHECKED", "SECRET"})
_NAMES = frozenset({"PERSON", "ORGANIZATION", "LOCATION", "POSITION", "PROJECT"})


def _is_business(category: str) -> bool:
    return category.startswith("BUSINESS_")


def _is_value(category: str) -> bool:
    return not _is_business(category) and category not in _NAMES | _OF_TEXTS


GROUPS: Mapping[str, Callable[[str], bool]] = {
    "injection": lambda category: category == "INJECTION",
    "business": _is_business,
    "secret": lambda category: category == "SECRET",
    "value": _is_value,
}


def records(folder: Path, name: str) -> Iterator[Record]:
    """The rows of a shared set as published, with their `number` in the file."""
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            yield {"number": number, **json.loads(line)}


def held_texts(folder: Path, name: str, most: int) -> list[str]:
    """Texts of one of `SOURCES` that training never reads, each once."""
    source = SOURCES[name]
    kept = [
        text
        for record in records(folder, name)
        if held_out(name, source.group(record))
        for text in source.texts(record)
        if len(text) > 1
    ]
    return capped(list(dict.fromkeys(kept)), most)


def prompts(folder: Path, most: int) -> dict[str, list[str]]:
    """Held-out texts of every set of prompts and dialogues."""
    return {name: held_texts(folder, name, most) for name, source in SOURCES.items() if source.prompts}


def by_kind(folder: Path, most: int) -> dict[str, list[str]]:
    """Held-out harmless texts by KINDS: written by hand on other occasions, and of the shared sets of that kind."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for row in hand.rows():
        kind = row.source.split("/")[-1]
        if row.source.startswith("hand/harmless") and kind in found and held_out(_family(row.source), row.group):
            found[kind].append(row.text)
    found["roleplay"] += held_texts(folder, "benign_en_roleplay_prompts", most)
    arena = "prompt_response_en_arena_hard"
    answers = [each["response"] for each in records(folder, arena) if held_out(arena, str(each["prompt"]))]
    found["answer"] += capped(answers, most)
    return found


def _family(source: str) -> str:
    return "/".join(source.split("/")[:2])


def groups_of(check: Check) -> set[str]:
    """Which of `GROUPS` a text is flagged for."""
    categories = {found.category for found in check.findings}
    return {name for name, belongs in GROUPS.items() if any(belongs(each) for each in categories)}


def run(bench: Bench) -> Section:
    """Share of each set that is flagged at the shipped thresholds, by what for."""
    guard = bench.full or bench.fast
    body: list[list[object]] = []
    total: dict[str, int] = dict.fromkeys(GROUPS, 0)
    seen = 0
    for name, source in SOURCES.items():
        texts = held_texts(bench.folder, name, bench.most)
        flagged = [groups_of(examined(guard, text)) for text in texts]
        hits = {group: sum(group in each for each in flagged) for group in GROUPS}
        mark = "" if source.prompts else " *"
        body.append([name + mark, len(texts), *(f"{percent(hits[group], len(texts)):.2f}" for group in GROUPS)])
        if source.prompts:
            seen += len(texts)
            total = {group: total[group] + hits[group] for group in GROUPS}
    body.append(["prompts and dialogues", seen, *(f"{percent(total[group], seen):.2f}" for group in GROUPS)])
    remarks = (
        rows(["% flagged, shipped thresholds", "texts", *GROUPS], body),
        "* reading matter of companies and projects, published; not in the sum. Dialogues hold real-looking telephone "
        "numbers and addresses, which count as values here.",
    )
    known = bench.full is not None
    kinds = by_kind(bench.folder, bench.most)
    alarms = {kind: [groups_of(examined(guard, text)) & _STATEMENTS for text in texts] for kind, texts in kinds.items()}
    shares = {kind: percent(sum(map(bool, found)), len(found)) for kind, found in alarms.items()}
    table = [[kind, len(alarms[kind]), f"{share:.2f}"] for kind, share in shares.items()]
    return Section(
        "Benign texts that training never read",
        (*remarks, rows(["% flagged for a statement", "texts", "flagged"], table)),
        (
            Bar("benign-injection-flagged", percent(total["injection"], seen) if known else MISSING, 1.0),
            Bar("benign-business-flagged", percent(total["business"], seen) if known else MISSING, 1.0),
            *(Bar(f"benign-{kind}-flagged", shares[kind] if known else MISSING, KIND) for kind in KINDS),
        ),
    )
