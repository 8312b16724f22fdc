"""The hand-written pairs, and how answers to them are counted."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from bench.detectors.business_pairs import LANGUAGES, Row, read, run, score
from detectors import CATEGORIES
from tests.bench.detectors.support import bench, guard, sets


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_pair_has_a_harmless_side_and_one_that_is_not(language: str) -> None:
    data = read(language)
    sides = defaultdict(set)
    for row in data:
        sides[row.pair].add(bool(row.labels))
        assert set(row.labels) <= set(CATEGORIES)
    assert sides.pop("") == {False}
    assert len(sides) >= 80
    assert all(side == {True, False} for side in sides.values())
    assert len({row.text for row in data}) == len(data)


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_seven_categories_are_there(language: str) -> None:
    labels = [label for row in read(language) for label in row.labels]
    # technical know-how has no rows here yet: it is measured on the hand-written pairs of other occasions
    wanted = {name for name in CATEGORIES if name.startswith("BUSINESS_")} - {"BUSINESS_TECHNOLOGY"}
    assert {label for label in wanted if labels.count(label) >= 10} == wanted


def test_the_sentences_of_the_document_are_there() -> None:
    rows = {row.text: row.labels for row in read("zh")}
    meeting = "我们公司将会在9月10日举行内部高级别会议，会议主题是如何更好的服务客户，请给我一份会议开场白。"
    assert rows[meeting] == ("BUSINESS_MEETING",)
    assert rows["请给我一份公司年会的开场白"] == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_single_word_tells_the_sides_apart(language: str) -> None:
    """The best one word or pair of characters is right on less than 70 % of the paired rows."""
    paired = [row for row in read(language) if row.pair]
    with_word: defaultdict[str, list[bool]] = defaultdict(list)
    for row in paired:
        text = row.text.lower()
        words = set(re.findall(r"[a-z']+", text)) | {text[at : at + 2] for at in range(len(text) - 1)}
        for word in words:
            with_word[word].append(bool(row.labels))
    positives = sum(bool(row.labels) for row in paired)
    negatives = len(paired) - positives
    right = {
        word: max(
            sides.count(True) + negatives - sides.count(False), sides.count(False) + positives - sides.count(True)
        )
        for word, sides in with_word.items()
    }
    best = max(right, key=right.__getitem__)
    assert right[best] < 0.70 * len(paired), best


def test_answers_are_counted() -> None:
    data = [
        Row("ours", ("BUSINESS_FINANCE",), "1"),
        Row("theirs", (), "1"),
        Row("hire", ("BUSINESS_PERSONNEL",), "2"),
        Row("novel", (), "2"),
        Row("news", (), ""),
    ]
    said = {"ours": "BUSINESS_FINANCE", "novel": "BUSINESS_LEGAL", "news": "BUSINESS_LEGAL"}
    result = score(data, lambda text: frozenset({said[text]} if text in said else ()))
    assert (result.rows.precision, result.rows.recall) == (0.5, 0.5)
    assert (result.pairs_right, result.pairs) == (1, 2)
    assert (result.public_flagged, result.public) == (1, 1)
    assert (result.found, result.all["BUSINESS_PERSONNEL"]) == ({"BUSINESS_FINANCE": 1}, 1)


def test_who_always_flags_meets_the_recall_alone(tmp_path: Path) -> None:
    rows = {row.text for language in LANGUAGES for row in read(language)}
    always = guard(
        lambda text: [(0, len(text), "BUSINESS_LEGAL")], lambda text: {"BUSINESS_LEGAL": 0.9 if text in rows else 0.1}
    )
    met = {bar.name: bar.ok for bar in run(bench(sets(tmp_path, "Obey"), always)).bars}
    assert met["business-recall-1pct-zh"] and met["business-recall-1pct-en"]
    assert not met["business-pairs-right-zh"]
    assert not met["business-public-flagged"]


def test_recall_is_measured_above_the_everyday_prompts(tmp_path: Path) -> None:
    loud = guard(lambda _: [], lambda _: {"BUSINESS_LEGAL": 0.9})
    values = {bar.name: bar.value for bar in run(bench(sets(tmp_path, "Obey"), loud)).bars}
    assert values["business-recall-1pct-zh"] == values["business-recall-1pct-en"] == 0.0


def test_without_a_classifier_every_bar_is_short(tmp_path: Path) -> None:
    assert not any(bar.ok for bar in run(bench(tmp_path, None)).bars)
