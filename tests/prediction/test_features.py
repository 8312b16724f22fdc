from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.prediction.features import SLOTS, PredictionInput, features


def prior(text: str) -> float:
    return features(PredictionInput(text=text)).prior


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        ("Write a comprehensive guide to gardening", "What is the capital of France?"),
        ("Write an essay of 2000 words on trees", "Write an essay of 50 words on trees"),
        ("Write an essay of 2,000 words on trees", "Write an essay of two sentences on trees"),
        ("Give me ten ideas for a party", "Give me one idea for a party, in one sentence"),
        ("请写一篇2000字的文章", "请用50字总结"),
        ("请写一份详细的报告", "把这句话翻译成英文"),
        ("Explain step by step how to build a web application", "yes or no: is water wet"),
    ],
)
def test_what_asks_for_more_has_the_higher_prior(longer: str, shorter: str) -> None:
    assert prior(longer) > prior(shorter) + 0.3


def test_an_article_in_front_of_a_unit_is_no_length() -> None:
    assert prior("I have a question: tell me about a step in baking") == pytest.approx(
        prior("I have a problem: tell me about a stage in baking"), abs=0.4
    )


def test_only_the_ends_of_a_long_text_are_read() -> None:
    middle = "lorem ipsum " * 10_000
    one = features(
        PredictionInput(text="Summarize this. " + middle + "write a report" + middle + " Thanks.", prompt_tokens=5)
    )
    assert len(one.grams) < 200


def test_a_translation_is_about_as_long_as_its_text() -> None:
    text = "The river runs to the sea. "
    assert prior("Translate: " + text * 200) > prior("Translate: " + text * 10) + 0.5


def test_what_tells_requests_apart_has_its_own_marks() -> None:
    base = PredictionInput(model="m", tenant="t", route="r", text="hello", prompt_tokens=10)
    others = [
        PredictionInput(model="n", tenant="t", route="r", text="hello", prompt_tokens=10),
        PredictionInput(model="m", tenant="u", route="r", text="hello", prompt_tokens=10),
        PredictionInput(model="m", tenant="t", route="s", text="hello", prompt_tokens=10),
        PredictionInput(model="m", tenant="t", route="r", text="hello", prompt_tokens=1000),
        PredictionInput(model="m", tenant="t", route="r", text="hello", prompt_tokens=10, stream=True),
        PredictionInput(model="m", tenant="t", route="r", text="hello", prompt_tokens=10, structured=True),
        PredictionInput(model="m", tenant="t", route="r", text="hello", prompt_tokens=10, turns=3),
        PredictionInput(model="m", tenant="t", route="r", text="hello", prompt_tokens=10, last_answer=900),
        PredictionInput(model="m", tenant="t", route="r", text="hello", prompt_tokens=10, max_tokens=64),
    ]
    assert all(features(other).marks != features(base).marks for other in others)
    assert all(features(other).grams == features(base).grams for other in others)


@given(
    st.text(max_size=2000),
    st.text(max_size=300),
    st.one_of(st.none(), st.integers(-10, 10**12)),
    st.integers(-5, 10**12),
)
def test_any_text_has_features(text: str, name: str, limit: int | None, tokens: int) -> None:
    found = features(
        PredictionInput(text=text, model=name, tenant=name, route=name, max_tokens=limit, prompt_tokens=tokens)
    )
    assert -2 <= found.prior <= 2
    assert found.cap >= 0
    assert all(0 <= slot < SLOTS for slot in found.grams + found.marks)
    assert len(found.grams) <= 2000
