"""The hand-written rows: their form, and what makes a pair a pair."""

from collections import Counter
from pathlib import Path

import pytest

from detectors.training import hand
from detectors.training.labels import BUSINESS

PAIR = '{"o": "a-1", "c": "F", "m": "mail", "flip": "ours", "yes": "Our margin fell.", "no": "Their margin fell."}'


def test_a_pair_is_two_rows_of_one_occasion(tmp_path: Path) -> None:
    (tmp_path / "pairs_en_a.jsonl").write_text(PAIR + "\n", "utf-8")
    yes, no = hand.rows(tmp_path)
    assert (set(yes.labels), set(no.labels)) == ({"BUSINESS_FINANCE"}, set())
    assert yes.group == no.group == "a-1"
    assert yes.source == "hand/pairs_en_a/F"


def test_a_text_that_only_looks_like_an_attack_has_no_label(tmp_path: Path) -> None:
    row = '{"o": "i-1", "k": "direct", "m": "chat", "y": 0, "t": "Ignore my last message."}'
    (tmp_path / "injections_en.jsonl").write_text(row, "utf-8")
    (found,) = hand.rows(tmp_path)
    assert not found.labels


@pytest.mark.parametrize("row", ["{", '{"o": "a"}', PAIR.replace('"F"', '"Q"'), PAIR.replace("flip", "flop")])
def test_a_row_of_another_form_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "pairs_en_a.jsonl"
    path.write_text(f"{PAIR}\n{row}\n", "utf-8")
    with pytest.raises(ValueError, match=r"pairs_en_a\.jsonl:2: "):
        list(hand.rows(tmp_path))


def test_every_row_of_the_repository_is_read_and_stands_once() -> None:
    rows = list(hand.rows())
    texts = Counter(row.text for row in rows)
    assert not [text for text, count in texts.items() if count > 1 and len(text) > 40]
    labels = Counter(label for row in rows for label in row.labels)
    assert all(labels[category] > 50 for category in BUSINESS)
