"""Attacks, their look-alikes, and that no single word tells them apart."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import pytest

from detectors.training.text import injection_en, injection_zh
from detectors.training.text.injection_rows import LABELS, Pairs
from detectors.training.text.row import Row

LANGUAGES = {"en": injection_en.rows, "zh": injection_zh.rows}
COUNT = 6000


@pytest.fixture(scope="module", params=LANGUAGES)
def written(request: pytest.FixtureRequest) -> list[Row]:
    return list(LANGUAGES[request.param](random.Random(3), COUNT))


@pytest.mark.parametrize("rows", LANGUAGES.values(), ids=LANGUAGES)
def test_the_same_seed_gives_the_same_rows(rows: Callable[[random.Random, int], Iterator[Row]]) -> None:
    first = list(rows(random.Random(11), 300))
    assert first == list(rows(random.Random(11), 300))
    assert first != list(rows(random.Random(12), 300))


def test_as_many_distinct_rows_as_asked(written: list[Row]) -> None:
    assert len({row.text for row in written}) == COUNT
    assert all(row.text.strip() and row.labels in (LABELS, frozenset()) and not row.spans for row in written)


def test_every_group_of_attacks_has_harmless_twins(written: list[Row]) -> None:
    attacks, likes = ({row.group for row in written if bool(row.labels) is wanted} for wanted in (True, False))
    assert attacks == likes
    share = sum(bool(row.labels) for row in written) / COUNT
    assert 0.4 < share < 0.65


def test_a_twin_shares_its_kind_and_padding() -> None:
    rng = random.Random(4)
    pairs = Pairs("en")
    for _ in range(200):
        attack, like = pairs.pair(rng)
        assert (attack.labels, like.labels) == (LABELS, frozenset())
        assert (attack.group, attack.source) == (like.group, like.source)
        assert attack.text != like.text


def test_texts_reach_from_one_liners_to_six_hundred_words(written: list[Row]) -> None:
    lengths = sorted(len(row.text) for row in written if row.labels)
    words = max(len(re.findall(r"[一-鿿]|\w+", row.text)) for row in written if row.labels)
    assert lengths[len(lengths) // 10] < 120
    assert words > 600


def test_no_single_word_separates_attacks_from_look_alikes(written: list[Row]) -> None:
    """Words, and for Chinese one and two characters: the best alone stays near guessing."""
    counts: dict[bool, Counter[str]] = defaultdict(Counter)
    totals: Counter[bool] = Counter()
    for row in written:
        text = row.text.lower()
        pieces = set(re.findall(r"[a-z]+|[一-鿿]", text)) | set(re.findall(r"(?=([一-鿿]{2}))", text))
        counts[bool(row.labels)].update(pieces)
        totals[bool(row.labels)] += 1
    accuracy = {
        piece: 0.5 + abs(counts[True][piece] / totals[True] - counts[False][piece] / totals[False]) / 2
        for piece in counts[True] | counts[False]
    }
    best = max(accuracy, key=lambda piece: accuracy[piece])
    assert accuracy[best] < 0.75, (best, accuracy[best])


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("ignore", "system prompt", "instructions", "act as", "previous", "base64")),
        ("zh", ("忽略", "扮演", "系统提示", "指令", "规则", "之前的")),
    ],
)
def test_famous_words_occur_in_harmless_rows(language: str, words: tuple[str, ...]) -> None:
    rows = list(LANGUAGES[language](random.Random(5), COUNT))
    for word in words:
        harmless = sum(word in row.text.lower() for row in rows if not row.labels)
        attacks = sum(word in row.text.lower() for row in rows if row.labels)
        assert harmless > attacks / 4 and harmless > 20, (word, harmless, attacks)
