"""The built-in recognisers, and a user's own, run by Presidio's analyzer over pipelines without a model.

Presidio is slower than the search itself, so a gate goes first: one pass of RE2 says which rules can match at all. For
most texts that is none, and the engine is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import spacy
from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

from detectors.findings import CATEGORIES, Finding
from detectors.patterns import OneSet, compile_pattern
from detectors.recognisers import address, banking, china, contact, national, network, phone
from detectors.recognisers.rules import BEFORE, Rule
from detectors.tails import Tail, Tails
from detectors.text import Text

RULES: Sequence[Rule] = (
    *contact.RULES,
    *phone.RULES,
    *banking.RULES,
    *network.RULES,
    *china.RULES,
    *national.RULES,
    *address.RULES,
)

LONGEST = max(rule.longest for rule in RULES)
"""Characters of the longest value that a built-in recogniser finds, its label included."""

WINDOW = 8192
"""Characters that are searched at once; longer texts are searched in windows, so that no step takes long."""

THRESHOLD = 0.5
"""Results with a lower score are no findings. Context words can lift one over it."""

_OWN = "xx"
"""Language of the built-in recognisers: any."""


class Pattern(msgspec.Struct, frozen=True):
    """A recogniser of the user's own: RE2's syntax, and words that raise the score by 0.35 when they stand before."""

    name: str
    category: str
    pattern: str
    score: float = 0.6
    context: tuple[str, ...] = ()
    longest: int = 64
    """Characters of the longest value. A stream holds back so many."""


class Recognisers:
    """Finds structured values. `categories` limits what is looked for; None means every category.

    `extra` adds recognisers: Pattern, or any EntityRecognizer of Presidio for the languages `en`, `zh` or `xx`, whose
    entity is reported as the category and whose attribute `longest` (64 without one) says how much a stream holds back.
    Raises PatternError. Safe to use from several threads.
    """

    name = "patterns"

    def __init__(
        self, categories: Collection[str] | None = None, extra: Sequence[Pattern | EntityRecognizer] = ()
    ) -> None:
        unknown = sorted(
            set(categories or ()) - set(CATEGORIES) - {name for each in extra for name in _categories(each)}
        )
        if unknown:
            raise ValueError(f"unknown categories: {', '.join(unknown)}")
        self.rules = [rule for rule in RULES if categories is None or rule.category in categories]
        self._gate = OneSet([rule.gate for rule in self.rules])
        self._extra = [_UserPattern(each) if isinstance(each, Pattern) else each for each in extra]
        held = [int(getattr(each, "longest", 64)) for each in self._extra]
        self.longest = max([rule.longest for rule in self.rules] + held, default=0)
        self._held = max(held, default=0)
        self._tails = Tails([_tail(rule) for rule in self.rules], re.DOTALL | re.ASCII)
        self._engine = _engine([_OneRule(rule, index) for index, rule in enumerate(self.rules)], self._extra)
        self._languages = sorted({each.supported_language for each in self._extra})

    def __repr__(self) -> str:
        return f"<Recognisers of {len(self.rules)} rules and {len(self._extra)} more>"

    def find(self, text: Text) -> list[Finding]:
        """Values in `text`; where two rules match the same place, both are reported."""
        found = {
            (start + offset, end + offset, category): score
            for offset, low, high, part in _windows(text.plain, self.longest)
            for start, end, category, score in self._search(part)
            if low <= start < high
        }
        return [
            Finding(*text.span(start, end), category, score, self.name)
            for (start, end, category), score in sorted(found.items())
        ]

    def open_from(self, plain: str, since: int = 0) -> int:
        """The smallest offset from which the end of `plain` may still become a finding; its length if none may.

        `since` is the answer for a shorter `plain`, see Tails.
        """
        return min(self._tails.open_from(plain, since), max(since, len(plain) - self._held))

    def _search(self, text: str) -> Iterator[tuple[int, int, str, float]]:
        opened = self._gate.match(text)
        results: list[RecognizerResult] = []
        if opened:
            entities = sorted({self.rules[index].category for index in opened})
            results = self._engine.analyze(text, _OWN, entities, nlp_artifacts=_Opened(opened))
        for language in self._languages:
            names = [
                name for each in self._extra if each.supported_language == language for name in each.supported_entities
            ]
            artifacts = self._engine.nlp_engine.process_text(text, language)
            results += self._engine.analyze(text, language, names, nlp_artifacts=artifacts)
        for result in results:
            yield result.start, result.end, result.entity_type, round(float(result.score), 3)


def _windows(text: str, longest: int) -> Iterator[tuple[int, int, int, str]]:
    """Offset of a window, the part of it in which values may start, and its text."""
    if len(text) <= WINDOW:
        yield 0, 0, len(text) + 1, text
        return
    for start in range(0, len(text), WINDOW):
        offset = max(0, start - longest - BEFORE)
        yield offset, start - offset, start - offset + WINDOW, text[offset : start + WINDOW + longest + 1]


def _tail(rule: Rule) -> Tail:
    case = "(?i:{})" if rule.flags & re.IGNORECASE else "{}"
    first = "[^\\s]" if rule.tail else rule.first
    return Tail(
        case.format(rule.ending()),
        rule.longest + rule.after,
        case.format(first),
        inside=bool(rule.tail) or not rule.left,
    )


def _categories(extra: Pattern | EntityRecognizer) -> Iterable[str]:
    return [extra.category] if isinstance(extra, Pattern) else list(extra.supported_entities)


class _OneRule(EntityRecognizer):
    """A rule as a recogniser."""

    def __init__(self, rule: Rule, index: int) -> None:
        self._rule = rule
        self._index = index
        super().__init__([rule.category], rule.name, _OWN)

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
        """Values that the rule finds, unless its gate is shut."""
        if isinstance(nlp_artifacts, _Opened) and self._index not in nlp_artifacts.rules:
            return []
        return [RecognizerResult(self._rule.category, *found) for found in self._rule.find(text)]


class _UserPattern(EntityRecognizer):
    """A user's pattern as a recogniser, on RE2."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._compiled = compile_pattern(pattern.pattern)
        self._words = tuple(word.casefold() for word in pattern.context)
        self.longest = pattern.longest
        super().__init__([pattern.category], pattern.name, _OWN)

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
        """Where the pattern matches."""
        results = []
        for match in self._compiled.finditer(text):
            start, end = match.span()
            before = text[max(0, start - BEFORE) : start].casefold()
            raised = 0.35 if any(word in before for word in self._words) else 0.0
            if start < end:
                results.append(
                    RecognizerResult(self._pattern.category, start, end, min(1.0, self._pattern.score + raised))
                )
        return results


class _Enhancer(LemmaContextAwareEnhancer):
    """Presidio's own for recognisers that name context words; rules have looked for theirs already."""

    def enhance_using_context(
        self, text: str, raw_results: Any, nlp_artifacts: Any, recognizers: Any, context: Any = None
    ) -> Any:
        if not any(each.context for each in recognizers):
            return raw_results
        return super().enhance_using_context(text, raw_results, nlp_artifacts, recognizers, context)


class _Blank(NlpEngine):
    """Tokens from spaCy's blank pipelines, which need no download. The text of a token is its lemma."""

    def __init__(self) -> None:
        self._pipelines = {language: spacy.blank(language) for language in ("en", "zh", _OWN)}
        self.no_tokens = self._pipelines[_OWN].make_doc("")

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


_BLANK = _Blank()


class _Opened(NlpArtifacts):
    """What a rule needs to know of a text: whether its gate is open. No tokens."""

    def __init__(self, rules: frozenset[int]) -> None:
        super().__init__([], _BLANK.no_tokens, [], [], _BLANK, _OWN)
        self.rules = rules


def _engine(rules: Sequence[EntityRecognizer], extra: Sequence[EntityRecognizer]) -> AnalyzerEngine:
    languages = _BLANK.get_supported_languages()
    registry = RecognizerRegistry(recognizers=[*rules, *extra], supported_languages=languages)
    return AnalyzerEngine(
        registry=registry,
        nlp_engine=_BLANK,
        supported_languages=languages,
        default_score_threshold=THRESHOLD,
        context_aware_enhancer=_Enhancer(),
    )
