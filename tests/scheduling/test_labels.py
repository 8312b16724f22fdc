import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling.labels import MAX_VALUE, AnyOf, BadCondition, Condition, Operator, clip, compile_match

VALUES = {"tier": "gold", "empty": ""}


@pytest.mark.parametrize(
    ("key", "operator", "values", "wanted"),
    [
        ("tier", "equals", ("gold",), True),
        ("tier", "equals", ("Gold",), False),
        ("none", "equals", ("",), False),
        ("tier", "prefix", ("go",), True),
        ("none", "prefix", ("",), False),
        ("tier", "regex", ("g.*d",), True),
        ("tier", "regex", ("gol",), False),
        ("none", "regex", (".*",), False),
        ("tier", "in", ("tin", "gold"), True),
        ("none", "in", ("tin",), False),
        ("tier", "notIn", ("tin",), True),
        ("none", "notIn", ("tin",), True),
        ("tier", "notIn", ("gold",), False),
        ("empty", "exists", (), True),
        ("none", "exists", (), False),
        ("none", "doesNotExist", (), True),
        ("empty", "doesNotExist", (), False),
    ],
)
def test_conditions(key: str, operator: Operator, values: tuple[str, ...], wanted: bool) -> None:
    assert compile_match([Condition(key, operator, values)])(VALUES) is wanted


def test_all_conditions_hold_together() -> None:
    gold = Condition("tier", "equals", ("gold",))
    assert compile_match([])({})
    assert compile_match([gold, Condition("empty", "exists")])(VALUES)
    assert not compile_match([gold, Condition("none", "exists")])(VALUES)


def test_any_alternative_will_do_beside_what_must_hold() -> None:
    gold, absent = Condition("tier", "equals", ("gold",)), Condition("none", "exists")
    assert compile_match([AnyOf(((absent,), (gold,)))])(VALUES)
    assert not compile_match([AnyOf(((absent,), (gold, absent)))])(VALUES)
    assert not compile_match([AnyOf(((gold,),)), absent])(VALUES)
    assert not compile_match([AnyOf(())])(VALUES)
    with pytest.raises(BadCondition, match="exactly one"):
        compile_match([AnyOf(((Condition("tier", "equals"),),))])


@pytest.mark.parametrize(
    ("operator", "values", "message"),
    [
        ("regex", ("(",), "no regular expression"),
        ("equals", (), "exactly one"),
        ("prefix", ("a", "b"), "exactly one"),
        ("in", (), "at least one"),
        ("exists", ("a",), "no values"),
    ],
)
def test_bad_conditions_say_why(operator: Operator, values: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadCondition, match=message):
        compile_match([Condition("tier", operator, values)])


@given(st.text(max_size=600), st.text(max_size=600))
def test_clipped_values_are_short_and_stay_different(a: str, b: str) -> None:
    assert len(clip(a).encode("utf-8", "surrogatepass")) <= MAX_VALUE
    assert (clip(a) == clip(b)) == (a == b)
