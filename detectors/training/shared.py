"""Reading the shared data sets: gzip JSONL files in one directory, whose origin and licences the model card lists."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from detectors.training.text.row import Row

Record = dict[str, Any]


def records(data: Path, name: str) -> Iterator[Record]:
    """The rows of `DATA/text/NAME.jsonl.gz`, as published."""
    with gzip.open(data / "text" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _plain(name: str, text: str, *, group: str = "") -> Callable[[Path], Iterator[Row]]:
    def read(data: Path) -> Iterator[Row]:
        for record in records(data, name):
            yield Row(record[text], source=name, group=str(record[group]) if group else record[text])

    return read


def _handbook(name: str) -> Callable[[Path], Iterator[Row]]:
    """Paragraphs; as many neighbours as there are in a page stay together, so the group is a run of forty."""

    def read(data: Path) -> Iterator[Row]:
        for number, record in enumerate(records(data, name)):
            yield Row(record["text"], source=name, group=str(number // 40))

    return read


def _t0(data: Path) -> Iterator[Row]:
    for record in records(data, "benign_en_t0_prompts"):
        yield Row(record["text"], source="benign_en_t0_prompts", group=record["text"][:200])


def _medical(data: Path) -> Iterator[Row]:
    for record in records(data, "benign_zh_medical_qa"):
        text = f"{record['instruction']}\n{record['input']}".strip()
        yield Row(text, source="benign_zh_medical_qa", group=text)
        yield Row(record["output"], source="benign_zh_medical_qa", group=text)


def _dialogues(name: str, joint: str) -> Callable[[Path], Iterator[Row]]:
    def read(data: Path) -> Iterator[Row]:
        for record in records(data, name):
            yield Row(joint.join(record["turns"]), source=name, group=record["turns"][0])

    return read


def _arena(data: Path) -> Iterator[Row]:
    for record in records(data, "prompt_response_en_arena_hard"):
        for field in ("prompt", "response"):
            yield Row(record[field], source=f"prompt_response_en_arena_hard/{field}", group=record["prompt"])


def _roleplay(data: Path) -> Iterator[Row]:
    for record in records(data, "benign_en_roleplay_prompts"):
        yield Row(record["text"], source="benign_en_roleplay_prompts", group=record["act"])


def _vcsum_long(data: Path) -> Iterator[Row]:
    for record in records(data, "meeting_zh_vcsum_long_train"):
        yield Row(record["summary"], source="meeting_zh_vcsum_long_train", group=record["id"])


def _qmsum(data: Path) -> Iterator[Row]:
    for record in records(data, "meeting_en_qmsum_train"):
        parts = {"queries": "\n", "answers": "\n", "turns": "\n"}
        for field, joint in parts.items():
            yield Row(joint.join(record[field]), source=f"meeting_en_qmsum_train/{field}", group=record["meeting"])


_WORKBENCH = {
    "emails": ("subject", "body"),
    "email_queries_and_answers": ("query",),
    "calendar_queries_and_answers": ("query",),
    "analytics_queries_and_answers": ("query",),
    "customer_relationship_manager_queries_and_answers": ("query",),
    "multi_domain_queries_and_answers": ("query",),
    "project_management_queries_and_answers": ("query",),
}


def _workbench(data: Path) -> Iterator[Row]:
    for name, fields in _WORKBENCH.items():
        for record in records(data, f"workbench/{name}"):
            text = "\n".join(str(record[field]) for field in fields).replace("\\n", "\n")
            yield Row(text, source=f"workbench/{name}", group=str(record.get("base_template", text)))


UNLABELLED: dict[str, Callable[[Path], Iterator[Row]]] = {
    "benign_en_t0_prompts": _t0,
    "benign_en_roleplay_prompts": _roleplay,
    "benign_zh_medical_qa": _medical,
    "benign_zh_cvalues_prompts": _plain("benign_zh_cvalues_prompts", "prompt"),
    "dialogue_en_sgd_train": _dialogues("dialogue_en_sgd_train", "\n"),
    "dialogue_zh": _dialogues("dialogue_zh", "\n"),
    "meeting_zh_vcsum_long_train": _vcsum_long,
    "meeting_en_qmsum_train": _qmsum,
    "workbench": _workbench,
    "pii_en_pupa_new": _plain("pii_en_pupa_new", "user_query"),
    "prompt_response_en_arena_hard": _arena,
    "unlabelled_zh_docs": _handbook("unlabelled_zh_docs"),
    "unlabelled_en_handbooks": _handbook("unlabelled_en_handbooks"),
}
"""Sets without labels of ours: what people ask, answer, say and write. None of it is an attack."""


def _joined(tokens: list[str], tags: list[str], kinds: dict[str, str], spaced: bool) -> Row:
    """One sentence of a tagged set as running text with character spans."""
    text = ""
    spans: list[tuple[int, int, str]] = []
    for token, tag in zip(tokens, tags, strict=True):
        if text and (spaced or (text[-1].isascii() and token[0].isascii() and text[-1].isalnum())):
            text += " "
        start = len(text)
        text += token
        kind = kinds.get(tag[2:])
        if kind and tag[0] == "I" and spans and spans[-1][2] == kind:
            spans[-1] = (spans[-1][0], len(text), kind)
        elif kind:
            spans.append((start, len(text), kind))
    return Row(text, spans=tuple(spans))


_UNER = {"PER": "PERSON", "ORG": "ORGANIZATION", "LOC": "LOCATION"}
_WNUT = {"person": "PERSON", "corporation": "ORGANIZATION", "group": "ORGANIZATION", "location": "LOCATION"}
"""WNUT17 also tags products and creative works, which are no names to hide; a group (band, team, party) is one."""

_CLITIC = re.compile(r" (?=['’](?:s|re|ve|ll|d|m)\b|n't\b|[.,!?;:)\]}%])|(?<=[(\[{]) ")


def tagged(data: Path, part: str) -> Iterator[Row]:
    """Sentences with names, PART "train" or "dev"; the group is the sentence."""
    for name, kinds, spaced in ((f"ner_zh_uner_{part}", _UNER, False), (f"ner_en_wnut17_{part}", _WNUT, True)):
        for record in records(data, name):
            row = _joined(record["tokens"], record["tags"], kinds, spaced)
            yield Row(row.text, spans=row.spans, source=name, group=row.text)


def detokenised(row: Row) -> Row:
    """A sentence of words apart by spaces, as people would type it; spans move along."""
    gone = [match.start() for match in _CLITIC.finditer(row.text)]
    if not gone:
        return row
    kept = "".join(letter for at, letter in enumerate(row.text) if at not in set(gone))
    spans = []
    for start, end, kind in row.spans:
        spans.append((start - sum(at < start for at in gone), end - sum(at < end for at in gone), kind))
    return Row(kept, row.labels, tuple(spans), row.source, row.group)
