"""Structured values in carrier sentences: how many are found exactly, and how many harmless prompts are flagged.

    python -m bench.detectors.structured --data DIR [--list 20]

DIR holds the shared text sets. Harmless prompts that hold a real value, such as a mail address, count as flagged; the
list shows which.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.detectors.values import generators
from detectors.findings import Finding, without_overlap
from detectors.recognisers.engine import Recognisers
from detectors.text import Text


class Case(msgspec.Struct, frozen=True):
    """A text and the values in it: start, end, category."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    kind: str
    form: str


_LABELS: Mapping[str, tuple[str, str]] = {
    "PASSPORT": ("护照号", "passport number "),
    "WECHAT": ("微信号", "WeChat ID: "),
    "QQ": ("QQ", "QQ: "),
    "BANK_ACCOUNT": ("银行账号", "bank account number "),
    "BANK_CARD": ("卡号", "card number "),
    "ID_CARD": ("证件号码", "ID number "),
}
_CARRIERS = (
    "请帮我写一封邮件，我的{zh}{value}，谢谢你的帮助。",
    "帮我核对一下：{zh}：{value}。顺便把下面的句子翻译成英文。",
    "客户李雷留下的{zh}是{value}，请整理成表格",
    "{zh}{value}",
    "Please update the record, the {en}{value} belongs to our customer.",
    'Summarise this ticket: "{en}{value}" and reply politely.',
    '{{"name": "Alex", "{key}": "{value}", "ok": true}}',
    "id,name,{key}\n7,Mei,{value}\n",
    "insert into people values (12, '{key}', '{value}');",
    "({en}{value})",
)


def cases(seed: int, per_kind: int = 120) -> list[Case]:
    """The same cases for the same seed."""
    random_ = random.Random(seed)
    return [
        _case(random_, kind, category, generate(random_))
        for kind, (category, generate) in generators(seed).items()
        for _ in range(per_kind)
    ]


def _case(random_: random.Random, kind: str, category: str, value: str) -> Case:
    form, written = random_.choice(list(_forms(kind, value, random_).items()))
    zh, en = _LABELS.get(category, ("", ""))
    carrier = random_.choice(_CARRIERS)
    before, after = carrier.split("{value}")
    before = before.format(zh=zh, en=en, key=en.strip(": ") or "value")
    after = after.replace("}}", "}")
    if kind == "address_zh" and before[-1:].isascii() and before[-1:].isalnum():
        before += " "
    return Case(before + written + after, ((len(before), len(before) + len(written), category),), kind, form)


def _forms(kind: str, value: str, random_: random.Random) -> dict[str, str]:
    """The ways in which people write such a value."""
    forms = {"plain": value, "wide": "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value)}
    middle = random_.randint(1, len(value) - 1)
    forms["invisible"] = f"{value[:middle]}\u200b{value[middle:]}"
    groups: Mapping[str, tuple[int, ...]] = {
        "mobile": (3, 4, 4),
        "card": (4, 4, 4, 4, 3),
        "resident_id": (6, 8, 4),
        "iban": (4,) * 9,
    }
    if kind in groups and not (kind == "card" and len(value) == 15):
        parts, rest = [], value
        for size in groups[kind]:
            parts.append(rest[:size])
            rest = rest[size:]
        forms["spaced"] = " ".join(filter(None, parts))
        if kind != "iban":
            forms["dashed"] = "-".join(filter(None, parts))
    return forms


def harmless(data: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and prompts of each shared set without sensitive content."""
    sets: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "benign_zh_cvalues_prompts": lambda row: [row["prompt"]],
        "benign_en_roleplay_prompts": lambda row: [row["text"]],
        "benign_en_t0_prompts": lambda row: [row["text"]],
        "prompt_response_en_arena_hard": lambda row: [row["prompt"]],
        "benign_zh_medical_qa": lambda row: [row["instruction"] + row["input"]],
        "dialogue_en_sgd_train": lambda row: row["turns"],
        "dialogue_zh": lambda row: row["turns"],
    }
    for name, texts in sets.items():
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            yield name, list(dict.fromkeys(text for line in lines for text in texts(json.loads(line))))


def exact(recognisers: Recognisers, found: list[Case]) -> tuple[Counter[str], list[tuple[Case, list[Finding]]]]:
    """Exact hits by kind, and the misses with what was found instead."""
    hits: Counter[str] = Counter()
    misses = []
    for case in found:
        spans = without_overlap(recognisers.find(Text(case.text)))
        if all(span in {(each.start, each.end, each.category) for each in spans} for span in case.spans):
            hits[case.kind] += 1
        else:
            misses.append((case, spans))
    return hits, misses


def _false_alarms(recognisers: Recognisers, data: Path, listed: int) -> None:
    for name, texts in harmless(data):
        by_category: defaultdict[str, list[str]] = defaultdict(list)
        flagged = 0
        for text in texts:
            spans = without_overlap(recognisers.find(Text(text)))
            flagged += bool(spans)
            for each in spans:
                before, value, after = (
                    text[max(0, each.start - 20) : each.start],
                    text[each.start : each.end],
                    text[each.end :],
                )
                by_category[each.category].append(f"{before}[{value}]{after[:20]}")
        counts = " ".join(f"{category}={len(hits)}" for category, hits in sorted(by_category.items()))
        print(f"{name:32} {flagged:5} of {len(texts):6} = {flagged / len(texts):.3%}  {counts}")
        for category, hits in by_category.items():
            for hit in hits[:listed]:
                print(f"    {category:14} {hit!r}")


def _cost(recognisers: Recognisers, found: list[Case], data: Path) -> None:
    prompts = dict(harmless(data))
    mixed = [text for texts in prompts.values() for text in texts[:300] if len(text) <= 400]
    long = "\n".join(text for texts in prompts.values() for text in texts[:400])
    for name, texts in (
        ("prompts up to 400 characters", mixed),
        ("prompts with a value", [case.text for case in found][::4]),
        ("8k characters", [long[at : at + 8192] for at in range(0, min(len(long), 400_000), 8192)]),
        ("32k characters", [long[at : at + 32768] for at in range(0, min(len(long), 650_000), 32768)]),
    ):
        times = []
        for text in texts:
            began = time.perf_counter()
            recognisers.find(Text(text))
            times.append((time.perf_counter() - began) * 1e3)
        times.sort()
        print(
            f"{name:32} n={len(times):5} p50 {times[len(times) // 2]:.3f} ms p95 {times[int(len(times) * 0.95)]:.3f} ms"
        )


def main() -> None:
    """Print exact spans by kind, false alarms by set, and cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--list", type=int, default=0, help="misses and false alarms to show")
    options = parser.parse_args()
    recognisers = Recognisers()
    found = cases(options.seed)
    hits, misses = exact(recognisers, found)
    totals = Counter(case.kind for case in found)
    for kind, total in totals.items():
        print(f"{kind:16} {hits[kind]:4} of {total:4} exact = {hits[kind] / total:.2%}")
    print(f"all              {hits.total()} of {len(found)} exact = {hits.total() / len(found):.2%}")
    for case, spans in misses[: options.list]:
        instead = [(case.text[each.start : each.end], each.category) for each in spans]
        print(f"    {case.kind}/{case.form} {case.text!r} {instead}")
    _false_alarms(recognisers, options.data, options.list)
    _cost(recognisers, found, options.data)


if __name__ == "__main__":
    main()
