"""Everyday prompts: many, varied, without labels."""

import random
import re

import pytest

from detectors.training.text import benign_en, benign_rows, benign_zh, injection_rows
from detectors.training.text.grammar import Grammar, read

LANGUAGES = {"en": benign_en.rows, "zh": benign_zh.rows}


@pytest.mark.parametrize("language", LANGUAGES)
def test_rows_are_distinct_reproducible_and_harmless(language: str) -> None:
    rows = list(LANGUAGES[language](random.Random(1), 4000))
    assert rows == list(LANGUAGES[language](random.Random(1), 4000))
    assert len({row.text for row in rows}) == 4000
    assert not any(row.labels or row.spans for row in rows)
    assert len({row.group for row in rows}) > 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_of_the_notation_is_left(language: str) -> None:
    for rows in (benign_rows.rows, injection_rows.rows):
        for row in rows(language, random.Random(2), 4000):
            assert not re.search(r"\$[a-z_]{2,}|\$\{[a-z]|\[\[|\|\w+\]\]", row.text), row.text


@pytest.mark.parametrize(
    "name", [f"{kind}_{code}.txt" for kind in ("benign", "injection", "names") for code in LANGUAGES]
)
def test_choices_are_closed(name: str) -> None:
    for lines in read(name).values():
        for line in lines:
            assert line.count("[[") == line.count("]]"), line
            assert not re.search(r"\[\[[^\]]*\[\[", line), line


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_slot_that_is_named_is_written(language: str) -> None:
    for grammar in (benign_rows.surroundings(language).grammar, injection_rows.Pairs(language).grammar):
        for slot in grammar.slots:
            for line in grammar.slots[slot]:
                for _ in range(3):
                    grammar.expand(line, random.Random(_))


def test_a_shared_slot_is_chosen_once() -> None:
    grammar = Grammar({"t_x": [str(n) for n in range(100)], "y": [str(n) for n in range(100)]}, {})
    memo: dict[str, str] = {}
    assert grammar.expand("$t_x", random.Random(1), memo) == grammar.expand("$t_x", random.Random(2), memo)
    assert grammar.expand("$y", random.Random(1), memo) != grammar.expand("$y", random.Random(3), memo)


def test_a_slot_nobody_wrote_is_an_error() -> None:
    with pytest.raises(KeyError):
        Grammar({}, {}).expand("$nothing", random.Random(1))
