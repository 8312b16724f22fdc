"""Tagged sentences as running text, and F1 over their spans."""

from __future__ import annotations

from pathlib import Path

from bench.detectors.names import joined, run
from tests.bench.detectors.support import bench, guard, write


def test_chinese_is_glued_and_its_latin_words_are_not() -> None:
    text, spans = joined(["他", "在", "New", "York", "。"], ["O", "O", "B-LOC", "I-LOC", "O"], spaced=False)
    assert text == "他在New York。"
    assert spans == [(2, 10, "LOC")]


def test_neighbours_of_one_kind_stay_two_names() -> None:
    _, spans = joined(["Ann", "Bob"], ["B-person", "B-person"], spaced=True)
    assert spans == [(0, 3, "person"), (4, 7, "person")]


def test_products_count_only_in_the_second_figure(tmp_path: Path) -> None:
    write(tmp_path, "ner_zh_uner_dev", [{"tokens": ["李雷", "来"], "tags": ["B-PER", "O"]}])
    row = {"tokens": ["Ann", "has", "an", "iPad"], "tags": ["B-person", "O", "O", "B-product"]}
    write(tmp_path, "ner_en_wnut17_dev", [row])

    def people(text: str) -> list[tuple[int, int, str]]:
        return [(0, 3, "PERSON")] if text.startswith("Ann") else []

    section = run(bench(tmp_path, guard(people)))
    assert {bar.name: bar.value for bar in section.bars} == {"names-zh-f1": 0.0, "names-en-f1": 1.0}
    last = section.text[0].splitlines()[-1].split()
    assert last[-4:] == ["2", "1.000", "0.500", "0.667"]
