"""The generated business text: reproducible, exact spans, both classes in a pair, and no word that gives it away."""

import random
import re
from collections import Counter, defaultdict
from functools import cache
from types import ModuleType

import pytest

from detectors.training.text import business_corpus, business_en, business_zh
from detectors.training.text.business_corpus import LABEL_OF_LETTER
from detectors.training.text.business_grammar import Filler, Piece, join
from detectors.training.text.row import Row

ENTITIES = {"PERSON", "ORGANIZATION", "LOCATION", "POSITION", "PROJECT", "ADDRESS"}
MODULES = pytest.mark.parametrize("module", [business_zh, business_en], ids=["zh", "en"])
COUNT = 6000


@cache
def _sample(module: ModuleType) -> list[Row]:
    return list(module.rows(random.Random(7), COUNT))


def _features(text: str) -> set[str]:
    """English words, Chinese characters and pairs of Chinese characters."""
    words = set(re.findall(r"[a-z']+", text.lower()))
    for run in re.findall(r"[\u4e00-\u9fff]+", text):
        words.update(run)
        words.update(run[at : at + 2] for at in range(len(run) - 1))
    return words


@MODULES
def test_the_same_seed_gives_the_same_rows(module: ModuleType) -> None:
    assert list(module.rows(random.Random(3), 300)) == list(module.rows(random.Random(3), 300))
    assert list(module.rows(random.Random(3), 300)) != list(module.rows(random.Random(4), 300))


@MODULES
def test_every_row_is_distinct_and_the_count_is_exact(module: ModuleType) -> None:
    rows = _sample(module)
    assert len(rows) == COUNT
    assert len({row.text for row in rows}) == COUNT
    assert [len(list(module.rows(random.Random(1), count))) for count in (0, 1, 2, 17)] == [0, 1, 2, 17]


@MODULES
def test_spans_are_inside_the_text_in_order_and_touch_no_space(module: ModuleType) -> None:
    for row in _sample(module):
        end_before = 0
        for start, end, category in row.spans:
            assert end_before <= start < end <= len(row.text), row
            assert category in ENTITIES
            assert row.text[start:end] == row.text[start:end].strip()
            end_before = end


@MODULES
def test_each_pair_holds_both_classes(module: ModuleType) -> None:
    classes: dict[str, set[bool]] = defaultdict(set)
    for row in _sample(module):
        if "/alone/" not in row.group:
            classes[row.group].add(bool(row.labels))
    assert len(classes) > COUNT / 5
    assert all(both == {True, False} for both in classes.values())


@MODULES
def test_all_labels_occur_and_harmless_rows_are_at_least_as_many(module: ModuleType) -> None:
    rows = _sample(module)
    labels = Counter(label for row in rows for label in row.labels)
    assert set(labels) == set(LABEL_OF_LETTER.values())
    assert min(labels.values()) > COUNT / 40
    assert sum(not row.labels for row in rows) >= COUNT / 2


@MODULES
def test_no_single_word_separates_the_pairs(module: ModuleType) -> None:
    """Balanced accuracy of the best "contains it" (or "lacks it") rule stays far from a solution."""
    rows = [row for row in _sample(module) if "/alone/" not in row.group]
    totals = Counter(bool(row.labels) for row in rows)
    seen = {True: Counter[str](), False: Counter[str]()}
    for row in rows:
        seen[bool(row.labels)].update(_features(row.text))
    accuracy = {
        word: 0.5 + abs(seen[True][word] / totals[True] - seen[False][word] / totals[False]) / 2
        for word in seen[True] | seen[False]
    }
    best = max(accuracy, key=accuracy.__getitem__)
    assert accuracy[best] < 0.65, (best, accuracy[best])


@MODULES
@pytest.mark.parametrize("word", ["confidential", "internal", "our", "secret", "机密", "内部", "我们", "公司", "保密"])
def test_words_that_sound_secret_stand_in_both_classes(module: ModuleType, word: str) -> None:
    if word.isascii() != (module is business_en):
        pytest.skip("a word of the other language")
    holding = Counter(bool(row.labels) for row in _sample(module) if word in _features(row.text))
    assert holding[False] >= holding[True] / 4, holding
    assert sum(bool(row.labels) for row in _sample(module)) > 2 * holding[True], "most disclosures do without the word"


@pytest.mark.parametrize("code", ["zh", "en"])
def test_every_skeleton_of_the_files_renders(code: str) -> None:
    language = business_corpus.load(code)
    frames = language.frames
    templates = [skeleton.template for block in language.blocks for skeleton in (*block.disclosing, *block.harmless)]
    templates += [skeleton.template for skeleton in language.alone]
    templates += [*frames.plain, *frames.invented, *frames.real, *frames.padding]
    for template in templates:
        rendered = Filler(random.Random(5), language.words, {"body": Piece("BODY")}).render(template).text
        assert not re.search(r"\{\w*\}", rendered), rendered
    assert all("{body}" in frame for frame in (*frames.plain, *frames.invented, *frames.real))


def test_slots_repeat_within_a_filler_and_differ_by_number() -> None:
    filler = Filler(random.Random(1), {"person": ["Ada", "Bo"]})
    first, again, other = (filler.render(template) for template in ("{person}", "to {person}!", "{person2}"))
    assert again.text == f"to {first.text}!"
    assert again.spans == ((3, 3 + len(first.text), "PERSON"),)
    assert other.text != first.text


def test_marks_alternatives_and_digits() -> None:
    filler = Filler(random.Random(1), {"n": ["~#"]})
    piece = filler.render("[a|a] <P Ann Lee> < {n}\\n")
    assert re.fullmatch(r"a Ann Lee < [1-9][0-9]\n", piece.text)
    assert piece.spans == ((2, 9, "PERSON"),)


def test_join_moves_spans_past_the_separator() -> None:
    joined = join([Piece("ab"), Piece("cd", ((0, 1, "PERSON"),))], "--")
    assert joined == Piece("ab--cd", ((4, 5, "PERSON"),))


@pytest.mark.parametrize("template", ["{nothing}", "[open", "{open"])
def test_a_broken_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"word list|unclosed"):
        Filler(random.Random(1), {}).render(template)
