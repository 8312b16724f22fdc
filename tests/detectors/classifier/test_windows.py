"""Windows cover a text, and every token is spoken for once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.classifier.windows import chosen, owners, starts


@given(st.integers(1, 2000), st.integers(8, 126), st.integers(0, 6))
def test_windows_cover_every_token_and_owners_divide_them(length: int, width: int, overlap: int) -> None:
    begins = starts(length, width, overlap)
    parts = owners(begins, width, length)
    assert parts[0][0] == 0
    assert parts[-1][1] == length
    assert [first for first, _ in parts[1:]] == [last for _, last in parts[:-1]]
    assert all(begin <= first < last <= begin + width for begin, (first, last) in zip(begins, parts, strict=True))


@given(st.integers(1, 500), st.integers(1, 60))
def test_a_choice_keeps_the_ends_and_the_bound(count: int, most: int) -> None:
    picked = chosen(count, most)
    assert len(picked) <= most
    assert picked[0] == 0
    assert most == 1 or picked[-1] == count - 1


def test_windows_far_apart_own_only_themselves() -> None:
    assert owners([0, 1000], 100, 1100) == [(0, 100), (1000, 1100)]


@pytest.mark.parametrize(("length", "wanted"), [(1, [0]), (126, [0]), (127, [0, 1]), (300, [0, 102, 174])])
def test_the_last_window_ends_with_the_text(length: int, wanted: list[int]) -> None:
    assert starts(length, 126, 24) == wanted
