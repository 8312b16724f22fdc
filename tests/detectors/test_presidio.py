"""A user's own Presidio beside the built-in recognisers: a registry in YAML, a class in Python, an NLP engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import spacy

from detectors.load import GuardError, load_guard
from detectors.policy import ClassifierSwitch, Policy, PresidioSettings

REGISTRY = """\
supported_languages: [en]
global_regex_flags: 26
recognizers:
  - name: ticket
    type: custom
    supported_language: en
    supported_entity: TICKET
    patterns: [{name: ticket, regex: 'T-[0-9]{4}', score: 0.4}]
    context: [ticket, issue]
  - name: CreditCardRecognizer
    type: predefined
"""
CLASS = """\
from presidio_analyzer import EntityRecognizer, RecognizerResult


class Badges(EntityRecognizer):
    def __init__(self):
        super().__init__(["BADGE"], supported_language="en")

    def load(self):
        pass

    def analyze(self, text, entities, nlp_artifacts):
        return [
            RecognizerResult("BADGE", token.idx, token.idx + len(token), 0.9)
            for token in nlp_artifacts.tokens
            if token.text.startswith("B") and token.text[1:].isdigit()
        ]


class Broken(Badges):
    def analyze(self, text, entities, nlp_artifacts):
        raise RuntimeError("as always")


class NoRecogniser:
    pass
"""
NLP = """\
nlp_engine_name: spacy
models: [{lang_code: en, model_name: people}]
ner_model_configuration:
  model_to_presidio_entity_mapping: {PERSON: PERSON, ORG: ORGANIZATION}
  labels_to_ignore: []
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "own_badges.py").write_text(CLASS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_badges"
    sys.modules.pop("own_badges", None)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A blank pipeline with a ruler that knows two names, saved as a model, and the configuration that names it."""
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Ada Lovelace"}, {"label": "ORG", "pattern": "Initech"}])  # type: ignore[attr-defined]
    pipeline.to_disk(tmp_path / "people")
    (tmp_path / "nlp.yaml").write_text(NLP)
    return tmp_path / "nlp.yaml"


def found(settings: PresidioSettings, text: str) -> list[tuple[str, str]]:
    guard = load_guard(Policy(presidio=settings, classifier=ClassifierSwitch(enabled=False)))
    return [(each.category, text[each.start : each.end]) for each in guard.find(text)]


def test_a_registry_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(REGISTRY)
    settings = PresidioSettings(registry=tmp_path / "r.yaml")
    assert found(settings, "see ticket T-1234") == [("TICKET", "T-1234")]
    assert found(settings, "row T-1234") == []  # below the policy's minimum without its context
    assert found(settings, "card 4012-8888-8888-1881, mail li@corp.cn") == [
        ("BANK_CARD", "4012-8888-8888-1881"),
        ("EMAIL", "li@corp.cn"),
    ]


def test_a_class_in_python(module: str) -> None:
    settings = PresidioSettings(recognisers=(f"{module}:Badges",), categories={"BADGE": "STAFF_ID"})
    assert found(settings, "my badge B1234 and bag") == [("STAFF_ID", "B1234")]
    assert found(settings, "我的\uff22\uff11\uff12 is B12") == [("STAFF_ID", "B12")]  # tokens are those of English
    assert found(PresidioSettings(recognisers=(f"{module}:Badges",), categories={"BADGE": ""}), "B1234") == []


def test_an_nlp_engine_of_ones_own(engine: Path) -> None:
    settings = PresidioSettings(nlp_engine=engine)
    assert found(settings, "Ada Lovelace left Initech") == [("PERSON", "Ada Lovelace"), ("ORGANIZATION", "Initech")]


def test_all_three_together(engine: Path, tmp_path: Path, module: str) -> None:
    (tmp_path / "r.yaml").write_text(REGISTRY.replace("score: 0.4", "score: 0.6"))  # this pipeline has no lemmas
    settings = PresidioSettings(nlp_engine=engine, registry=tmp_path / "r.yaml", recognisers=(f"{module}:Badges",))
    assert found(settings, "Ada Lovelace, B7, ticket T-1234") == [
        ("PERSON", "Ada Lovelace"),
        ("BADGE", "B7"),
        ("TICKET", "T-1234"),
    ]


def test_one_that_fails_is_what_the_policy_says(module: str) -> None:
    closed = load_guard(
        Policy(presidio=PresidioSettings(recognisers=(f"{module}:Broken",)), classifier=ClassifierSwitch(enabled=False))
    )
    check = closed.check("x")
    assert check.failures == ("presidio",)
    assert closed.judge([("x", check)]).category == "UNCHECKED"
    opened = PresidioSettings(recognisers=(f"{module}:Broken",), failure_mode="open")
    assert found(opened, "mail li@corp.cn") == [("EMAIL", "li@corp.cn")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (PresidioSettings(recognisers=("nowhere:X",)), "'nowhere:X' cannot be made: No module named 'nowhere'"),
        (PresidioSettings(recognisers=("own_badges:Y",)), "'own_badges:Y' cannot be made"),
        (PresidioSettings(recognisers=("own_badges:NoRecogniser",)), "is no EntityRecognizer"),
        (PresidioSettings(recognisers=("own_badges",)), "not written `module:Class`"),
        (PresidioSettings(registry=Path("none.yaml")), "none.yaml"),
        (PresidioSettings(), "has no recogniser"),
    ],
)
def test_what_cannot_be_built_is_said(settings: PresidioSettings, said: str, module: str) -> None:
    with pytest.raises(GuardError, match=said):
        load_guard(Policy(presidio=settings))


def test_no_model_is_downloaded(tmp_path: Path, engine: Path) -> None:
    engine.write_text(NLP.replace("model_name: people", "model_name: en_core_web_lg"))
    with pytest.raises(GuardError, match="'en_core_web_lg' is neither installed nor a directory"):
        load_guard(Policy(presidio=PresidioSettings(nlp_engine=engine)))


def test_a_language_without_a_model(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(REGISTRY.replace("[en]", "[en, de]").replace("language: en", "language: de"))
    with pytest.raises(GuardError, match="'de'"):
        load_guard(Policy(presidio=PresidioSettings(nlp_engine=engine, registry=tmp_path / "r.yaml")))


def test_a_stream_waits_for_it(module: str) -> None:
    guard = load_guard(
        Policy(
            presidio=PresidioSettings(recognisers=(f"{module}:Badges",), longest=10),
            classifier=ClassifierSwitch(enabled=False),
        )
    )
    presidio = next(detector for detector, _ in guard.detectors if detector.name == "presidio")
    assert presidio.open_from("0123456789 nothing here. ") == 15  # type: ignore[attr-defined]
