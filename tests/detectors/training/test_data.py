"""The shared sets as rows, what is held out, and names that give way to others."""

import gzip
import json
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from detectors.training import shared
from detectors.training.split import held_out
from detectors.training.swap import pool, swapped
from detectors.training.text.row import Row


def write(data: Path, name: str, records: list[dict[str, list[str]]]) -> None:
    (data / "text").mkdir(exist_ok=True)
    with gzip.open(data / "text" / f"{name}.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in records)


def names(row: Row) -> list[tuple[str, str]]:
    return [(row.text[start:end], kind) for start, end, kind in row.spans]


def test_tagged_sets_become_running_text(tmp_path: Path) -> None:
    chinese = {"tokens": ["安妮", "在", "New", "York", "说", "。"], "tags": ["B-PER", "O", "B-LOC", "I-LOC", "O", "O"]}
    english = {
        "tokens": ["Ann", "'s", "at", "Bell", "Labs", "playing", "Pong", "!"],
        "tags": ["B-person", "O", "O", "B-corporation", "I-corporation", "O", "B-product", "O"],
    }
    write(tmp_path, "ner_zh_uner_dev", [chinese])
    write(tmp_path, "ner_en_wnut17_dev", [english])
    first, second = shared.tagged(tmp_path, "dev")
    assert first.text == "安妮在New York说。"
    assert names(first) == [("安妮", "PERSON"), ("New York", "LOCATION")]
    assert second.text == "Ann 's at Bell Labs playing Pong !"
    assert names(second) == [("Ann", "PERSON"), ("Bell Labs", "ORGANIZATION")]
    typed = shared.detokenised(second)
    assert typed.text == "Ann's at Bell Labs playing Pong!"
    assert names(typed) == names(second)


@given(st.text(), st.text())
def test_what_is_held_out_is_always_held_out(source: str, group: str) -> None:
    assert held_out(source, group) == held_out(source, group)
    assert not held_out(source, group, 0.0)
    assert held_out(source, group, 1.0)


def test_about_the_share_is_held_out() -> None:
    count = sum(held_out("set", str(number), 0.25) for number in range(4000))
    assert 900 < count < 1100


@given(st.integers())
def test_swapped_names_are_where_the_spans_say(seed: int) -> None:
    rows = [
        Row("Ann met Bob in Rome.", spans=((0, 3, "PERSON"), (8, 11, "PERSON"), (15, 19, "LOCATION"))),
        Row("张三在上海", spans=((0, 2, "PERSON"), (3, 5, "LOCATION"))),
        Row("Zoë Wexford-Price left Ulm", spans=((0, 17, "PERSON"), (23, 26, "LOCATION"))),
    ]
    found = swapped(rows[0], pool(rows), random.Random(seed))
    english = {"Ann", "Bob", "Zoë Wexford-Price"}
    assert {name for name, kind in names(found) if kind == "PERSON"} <= english
    assert names(found)[2][0] in {"Rome", "Ulm"}
    people = [name for name, _ in names(found)]
    assert found.text == f"{people[0]} met {people[1]} in {people[2]}."
