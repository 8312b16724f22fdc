import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.telemetry.labels import MAX_LENGTH, OTHER, LabelCap, clean


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("qwen3-8b", "qwen3-8b"),
        ("通义千问", "通义千问"),
        ("", ""),
        ("a\nb\x00c", "a\ufffdb\ufffdc"),
        ("\ud800x", "\ufffdx"),
        ("x" * 1000, "x" * MAX_LENGTH),
    ],
)
def test_values_are_made_short_and_printable(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@given(st.text(st.characters(codec=None, categories=None), max_size=300))
def test_any_text_becomes_a_stable_encodable_value(raw: str) -> None:
    shown = clean(raw)
    shown.encode()
    assert len(shown) <= MAX_LENGTH
    assert clean(shown) == shown


def test_the_first_values_stay_and_the_rest_is_other() -> None:
    cap = LabelCap(2)
    assert [cap.admit(value) for value in ("a", "b", "c", "a", "", "b", "d")] == ["a", "b", OTHER, "a", "", "b", OTHER]
    assert len(cap) == 2


def test_a_value_that_is_not_worth_a_place_takes_none() -> None:
    cap = LabelCap(1)
    assert cap.admit("typo", new=False) == OTHER
    assert cap.admit("model") == "model"
    assert cap.admit("model", new=False) == "model"


def test_configured_values_need_no_place_until_they_are_dropped() -> None:
    cap = LabelCap(1)
    cap.reserve(["a", "b"])
    assert [cap.admit(value) for value in ("x", "a", "b", "y")] == ["x", "a", "b", OTHER]
    cap.reserve(["b"])
    assert [cap.admit(value) for value in ("a", "b")] == [OTHER, "b"]
