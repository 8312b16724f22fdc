"""Presidio with its defaults, as far as it loads without a download, for the same texts."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import msgspec

Spans = Callable[[str], set[tuple[int, int]]]

_MODEL = "en_core_web_lg"
"""The language model that Presidio's defaults name."""
_NOT_OURS = frozenset({"URL", "DATE_TIME", "NRP", "PERSON", "LOCATION", "ORGANIZATION"})
"""What nobody here asks for among structured values: links, dates, and the names of the language model."""


class Presidio(msgspec.Struct, frozen=True):
    """The engine, ready, and what it runs on."""

    spans: Spans
    """Spans of values, whatever category they are given."""
    note: str


def presidio() -> Presidio | None:
    """Nothing where it is not installed."""
    if importlib.util.find_spec("presidio_analyzer") is None or importlib.util.find_spec("spacy") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spacy
        import tldextract.tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        # the list of domain suffixes that comes with the package, instead of the one on the web
        tldextract.tldextract.TLD_EXTRACTOR.suffix_list_urls = ()
        if spacy.util.is_package(_MODEL):
            engine = AnalyzerEngine()
            note = "as it comes"
        else:

            class Blank(SpacyNlpEngine):
                """The tokenizer of a language and nothing else."""

                nlp: Any

                def __init__(self) -> None:
                    super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
                    self.nlp = {"en": spacy.blank("en")}

            engine = AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])
            note = f"its recognisers with a blank pipeline, as {_MODEL} is not installed: no names, no lemmas"

    def spans(text: str) -> set[tuple[int, int]]:
        found = engine.analyze(text, language="en")
        return {(each.start, each.end) for each in found if each.entity_type not in _NOT_OURS}

    return Presidio(spans, note)
