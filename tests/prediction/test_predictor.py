from __future__ import annotations

import math
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.prediction.features import Features, PredictionInput, features
from extproc.prediction.predictor import LONGEST, Corrupt, LengthPredictor


def asks(text: str, *, model: str = "m", max_tokens: int | None = None, tenant: str = "") -> Features:
    return features(PredictionInput(model=model, tenant=tenant, text=text, max_tokens=max_tokens))


TOPICS = ("rivers", "steam engines", "tax law", "chess openings", "rust macros", "bread")


def taught(number: int = 400, *, seed: int = 1) -> LengthPredictor:
    """Reports are long, summaries short, whatever they are about."""
    predictor, dice = LengthPredictor(), Random(seed)
    for _ in range(number):
        kind = dice.choice(("report", "summary"))
        tokens = round(dice.lognormvariate(math.log(1500 if kind == "report" else 60), 0.3))
        predictor.learn(asks(f"{kind} about {dice.choice(TOPICS)}"), tokens, 0.0)
    return predictor


def test_words_alone_order_prompts_before_anything_is_learned() -> None:
    predictor = LengthPredictor()
    essay = predictor.predict(asks("Write a detailed essay about the history of rivers"))
    label = predictor.predict(asks("Classify the sentiment. Answer with one word: I like rivers"))
    assert label.median < essay.median / 3


def test_what_was_learned_holds_for_subjects_that_were_not_seen() -> None:
    predictor = taught()
    long = predictor.predict(asks("report about volcanoes")).median
    short = predictor.predict(asks("summary about volcanoes")).median
    assert 700 < long < 2500
    assert 30 < short < 130


def test_the_high_prediction_covers_nine_of_ten() -> None:
    predictor, dice = taught(1500), Random(9)
    high = predictor.predict(asks("report about bread")).high
    within = sum(dice.lognormvariate(math.log(1500), 0.3) <= high for _ in range(2000)) / 2000
    assert 0.85 < within <= 0.985


def test_models_are_told_apart() -> None:
    predictor = LengthPredictor()
    for _ in range(150):
        predictor.learn(asks("tell about bread", model="verbose"), 1000, 0.0)
        predictor.learn(asks("tell about bread", model="terse"), 50, 0.0)
    verbose = predictor.predict(asks("tell about chess", model="verbose")).median
    terse = predictor.predict(asks("tell about chess", model="terse")).median
    assert terse * 3 < verbose


def test_it_follows_traffic_that_changes() -> None:
    predictor = taught()
    for _ in range(600):
        predictor.learn(asks("report about bread"), 100, 0.0)
    assert predictor.predict(asks("report about bread")).median < 200


def test_max_tokens_caps_but_does_not_drive() -> None:
    predictor = taught()
    free = predictor.predict(asks("report about bread")).median
    capped = predictor.predict(asks("report about bread", max_tokens=40))
    generous = predictor.predict(asks("report about bread", max_tokens=100_000)).median
    assert (capped.median, capped.high) == (40, 40)
    assert generous == pytest.approx(free, rel=0.3)


def test_an_answer_cut_off_by_its_limit_does_not_teach_that_answers_are_short() -> None:
    predictor, other = taught(), taught()
    for _ in range(200):
        predictor.learn(asks("report about bread", max_tokens=10), 10, 0.0)
    free = predictor.predict(asks("report about bread")).median
    assert free == pytest.approx(other.predict(asks("report about bread")).median, rel=0.01)


def test_one_absurd_answer_moves_little() -> None:
    predictor = taught()
    before = predictor.predict(asks("summary about bread")).median
    predictor.learn(asks("summary about bread"), 10_000_000, 0.0)
    assert predictor.predict(asks("summary about bread")).median < 2 * before


def test_what_came_to_nothing_teaches_nothing() -> None:
    predictor = LengthPredictor()
    predictor.learn(asks("hello"), 0, 0.0)
    predictor.learn(asks("hello"), -5, 0.0)
    assert predictor.learned == predictor.errors.observed == 0


def test_saved_and_loaded_it_predicts_the_same() -> None:
    predictor = taught()
    loaded = LengthPredictor.load(predictor.save())
    for text in ("report about bread", "summary about chess", "something else"):
        assert loaded.predict(asks(text)).median == pytest.approx(predictor.predict(asks(text)).median, rel=1e-4)
        assert loaded.predict(asks(text)).high == pytest.approx(predictor.predict(asks(text)).high, rel=1e-4)
    assert loaded.learned == predictor.learned
    loaded.learn(asks("report about bread"), 100, 0.0)


def test_what_is_saved_is_bounded() -> None:
    predictor, dice = LengthPredictor(), Random(3)
    for number in range(3000):
        words = " ".join(f"w{dice.randrange(10**6)}" for _ in range(60))
        predictor.learn(asks(words, model=f"model {number}", tenant=f"tenant {number}"), 100, 0.0)
    assert len(predictor.save()) < 1_000_000
    assert "learned=3000" in repr(LengthPredictor.load(predictor.save()))


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        LengthPredictor.load(data)


@given(st.data())
def test_a_damaged_file_is_refused_or_harmless(data: st.DataObject) -> None:
    saved = bytearray(SAVED)
    for _ in range(data.draw(st.integers(1, 3))):
        saved[data.draw(st.integers(0, len(saved) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(saved)))
    try:
        predictor = LengthPredictor.load(bytes(saved[:cut]))
    except Corrupt:
        return
    found = predictor.predict(asks("report about bread"))
    assert 1 <= found.median <= found.high <= LONGEST


SAVED = taught(20).save()


def test_a_bomb_is_refused() -> None:
    with pytest.raises(Corrupt):
        LengthPredictor.load(zlib.compress(b"\0" * 50_000_000))


@given(st.text(max_size=300), st.integers(1, 10**9), st.one_of(st.none(), st.integers(-5, 10**9)))
def test_predictions_stay_in_range_whatever_is_asked_and_answered(text: str, tokens: int, limit: int | None) -> None:
    predictor = LengthPredictor()
    asked = asks(text, max_tokens=limit)
    for _ in range(5):
        predictor.learn(asked, tokens, 0.0)
        found = predictor.predict(asked)
        most = min(limit, LONGEST) if limit is not None and limit > 0 else LONGEST
        assert 1 <= found.median <= found.high <= max(1, most)


def test_errors_are_those_of_predictions_made_before_learning() -> None:
    predictor = LengthPredictor()
    asked = asks("hello there")
    expected = predictor.predict(asked).median
    predictor.learn(asked, 500, 7.0)
    assert predictor.errors.absolute == pytest.approx(abs(500 - expected))
    assert predictor.errors.updated == 7.0


def test_the_order_of_answers_shows_in_its_error_figures() -> None:
    assert taught(400).errors.tau() > 0.4
