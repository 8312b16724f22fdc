"""A user's own Presidio: recognisers in Python, a registry in YAML, an NLP engine. Imported where a policy names it."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import spacy
import yaml
from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine, NlpEngineProvider
from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider

from detectors.findings import Finding
from detectors.policy import PRESIDIO_CATEGORIES, PresidioSettings
from detectors.text import Text


class PresidioError(ValueError):
    """Something of Presidio's that cannot be built: what, and why."""


class Presidio:
    """Finds what Presidio's analyzer finds with these recognisers and this NLP engine, in each of their languages.

    Entities become categories by `categories`, then by PRESIDIO_CATEGORIES; an empty string is no finding, and any
    other entity is a category of its own. A stream holds back `longest` characters. Without an NLP engine there are
    tokens from spaCy's blank pipelines, which need no download. As safe to use from several threads as these are.
    """

    name = "presidio"

    def __init__(
        self,
        recognisers: Sequence[EntityRecognizer],
        *,
        nlp_engine: NlpEngine | None = None,
        categories: Mapping[str, str] = {},
        longest: int = 64,
    ) -> None:
        if not recognisers:
            raise PresidioError("Presidio has no recogniser: name `recognisers`, a `registry` or an `nlpEngine`")
        languages = sorted({each.supported_language for each in recognisers})
        engine = nlp_engine or BlankNlpEngine(languages)
        if missing := sorted(set(languages) - set(engine.get_supported_languages())):
            wanting = next(type(each).__name__ for each in recognisers if each.supported_language == missing[0])
            raise PresidioError(f"the NLP engine has no model of the language {missing[0]!r}, which {wanting} is for")
        self._analyzer = AnalyzerEngine(
            registry=RecognizerRegistry(recognizers=list(recognisers), supported_languages=languages),
            nlp_engine=engine,
            supported_languages=languages,
        )
        self._entities = {
            language: sorted(
                {name for each in recognisers if each.supported_language == language for name in _of(each)}
            )
            for language in languages
        }
        self._categories = {**PRESIDIO_CATEGORIES, **categories}
        self._longest = longest

    def __repr__(self) -> str:
        return f"<Presidio for {', '.join(self._entities)}>"

    def find(self, text: Text) -> list[Finding]:
        """In order; where two languages find the same, once."""
        found: dict[tuple[int, int, str], float] = {}
        for language, entities in self._entities.items():
            for each in self._analyzer.analyze(text.plain, language, entities):
                category = self._categories.get(each.entity_type, each.entity_type)
                if category and each.start < each.end:
                    key = each.start, each.end, category
                    found[key] = max(found.get(key, 0.0), round(float(each.score), 3))
        return [
            Finding(*text.span(start, end), category, score, self.name)
            for (start, end, category), score in sorted(found.items())
        ]

    def open_from(self, plain: str, since: int = 0) -> int:
        """As for the built-in recognisers: the last `longest` characters may still become a finding."""
        return max(since, len(plain) - self._longest)


def load_presidio(settings: PresidioSettings) -> Presidio:
    """What a policy names. Raises PresidioError; nothing is downloaded."""
    try:
        engine = _nlp_engine(settings.nlp_engine) if settings.nlp_engine is not None else None
        recognisers = [_recogniser(name) for name in settings.recognisers]
        if settings.registry is not None:
            recognisers += _registry(settings.registry, engine)
        elif engine is not None:
            registry = RecognizerRegistry(recognizers=[], supported_languages=engine.get_supported_languages())
            registry.add_nlp_recognizer(nlp_engine=engine)
            recognisers += registry.recognizers
        return Presidio(recognisers, nlp_engine=engine, categories=settings.categories, longest=settings.longest)
    except PresidioError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise PresidioError(f"Presidio: {error}") from error


def _recogniser(name: str) -> EntityRecognizer:
    """`module:Class` of an importable module, made without arguments."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise PresidioError(f"the recogniser {name!r} is not written `module:Class`")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise PresidioError(f"the recogniser {name!r} cannot be made: {error}") from error
    if not isinstance(made, EntityRecognizer):
        raise PresidioError(f"the recogniser {name!r} is no EntityRecognizer of Presidio")
    return made


def _registry(file: Path, engine: NlpEngine | None) -> list[EntityRecognizer]:
    """The recognisers of a registry in YAML."""
    said = _mapping(file)
    languages = engine.get_supported_languages() if engine is not None else ["en"]
    configuration = {"supported_languages": languages, **said}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the engine's own recogniser is added is what is wanted
        provider = RecognizerRegistryProvider(registry_configuration=configuration, nlp_engine=engine)
        return list(provider.create_recognizer_registry().recognizers)


def _nlp_engine(file: Path) -> NlpEngine:
    """The NLP engine that a file in YAML configures. Models are installed packages or directories beside the file."""
    said = _mapping(file)
    models = []
    for model in said.get("models") or []:
        name = model.get("model_name")
        if isinstance(name, str) and (file.parent / name).exists():
            model = {**model, "model_name": str(file.parent / name)}
        elif said.get("nlp_engine_name") == "spacy" and isinstance(name, str) and not spacy.util.is_package(name):
            raise PresidioError(f"{file}: the model {name!r} is neither installed nor a directory there")
        models.append(model)
    return NlpEngineProvider(nlp_configuration={**said, "models": models}).create_engine()


def _mapping(file: Path) -> dict[str, Any]:
    said = yaml.safe_load(file.read_text("utf-8"))
    if not isinstance(said, dict):
        raise PresidioError(f"{file}: not a mapping")
    return said


def _of(recogniser: EntityRecognizer) -> list[str]:
    return list(recogniser.supported_entities)


class BlankNlpEngine(NlpEngine):
    """Tokens from spaCy's blank pipelines. The text of a token in lower case is its lemma."""

    engine_name = "blank"

    def __init__(self, languages: Iterable[str]) -> None:
        self._pipelines = {language: spacy.blank(language) for language in languages}

    def load(self) -> None:
        """Loaded from the start."""

    def is_loaded(self) -> bool:
        return True

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        doc = self._pipelines[language].make_doc(text)
        lemmas = [token.text.lower() for token in doc]
        return NlpArtifacts([], doc, [token.idx for token in doc], lemmas, self, language)

    def process_batch(
        self, texts: Iterable[str], language: str, *_: Any, **__: Any
    ) -> Iterator[tuple[str, NlpArtifacts]]:
        for text in texts:
            yield text, self.process_text(text, language)

    def is_stopword(self, word: str, language: str) -> bool:
        return bool(self._pipelines[language].vocab[word].is_stop)

    def is_punct(self, word: str, language: str) -> bool:
        return bool(self._pipelines[language].vocab[word].is_punct)

    def get_supported_entities(self) -> list[str]:
        return []

    def get_supported_languages(self) -> list[str]:
        return list(self._pipelines)
