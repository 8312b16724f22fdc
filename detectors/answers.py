"""A guard's view of answers: texts that come in pieces and leave checked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from detectors.findings import Finding
from detectors.guard import Guard, names_whole
from detectors.policy import NEVER_MASKED, FailureMode
from detectors.stream import Action, StreamGuard, on_plain
from detectors.text import Text

log = logging.getLogger(__name__)

_NAMES = ("PERSON", "ORGANIZATION", "LOCATION", "POSITION", "PROJECT")
"""Categories that only the classifier finds. Addresses have recognisers of their own, which wait for less."""
_WARM_UP = ("Hello, mail ann@example.org or call +1 415 555 2671.", "你好，请拨打13800138000，密码是Abc123456。")


class AnswerReader:
    """Makes the guards of single texts. One per policy; the guards that it makes share nothing that changes."""

    def __init__(self, guard: Guard, *, statements: bool = False) -> None:
        """`statements`: have whole sentences looked at by the classifier, which makes each wait for its end."""
        self._guard = guard
        self._statements = statements
        sources = [source for detector, _ in guard.detectors if (source := getattr(detector, "open_from", None))]
        self._open_from = on_plain(*sources) if sources else _all_closed
        acted_on = any(guard.policy.action(name) != "report" for name in _NAMES)
        self._reads_names = guard.classifier is not None and acted_on
        self.reads_sentences = (
            guard.patterns is not None or self._reads_names or (statements and guard.classifier is not None)
        )
        for text in _WARM_UP:  # patterns are compiled when they are first used
            self.open(watch_only=True).feed(text, end=True)

    def open(self, *, watch_only: bool = False, failed: Callable[[str], None] | None = None) -> StreamGuard:
        """The guard of one text. `watch_only`: findings are reported and everything passes. `failed` hears the name of
        each detector that fails."""
        policy = self._guard.policy
        tell = failed or _nobody

        def action(found: Finding) -> Action:
            return "report" if watch_only else policy.action(found.category)

        return StreamGuard(
            partial(self._values, tell),
            self._open_from,
            action=action,
            sentences=partial(self._sentence, tell) if self.reads_sentences else None,
            overlong="report" if watch_only or policy.budget.exceeded == "report" else "deny",
        )

    def _values(self, failed: Callable[[str], None], text: str) -> list[Finding]:
        seen = Text(text)
        found: list[Finding] = []
        for detector, mode in self._guard.detectors:
            found += self._isolated(detector.name, mode, partial(detector.find, seen), len(text), failed)
        return [each for each in found if self._guard.counts(each, text)]

    def _sentence(self, failed: Callable[[str], None], text: str) -> list[Finding]:
        seen = Text(text)
        found: list[Finding] = []
        patterns, classifier = self._guard.patterns, self._guard.classifier
        if patterns is not None:
            matched = self._isolated("patterns", "closed", lambda: patterns.find(seen), len(text), failed)
            found += [each for each in matched if each.category != "ALLOW_PATTERN"]
        if classifier is not None and (self._reads_names or self._statements):
            switch = self._guard.policy.classifier
            predicted = self._isolated(
                "classifier",
                switch.failure_mode,
                lambda: classifier.predict(seen, thresholds=switch.thresholds).findings,
                len(text),
                failed,
            )
            kept = (*NEVER_MASKED - {"UNCHECKED"},) if not self._statements else ()
            found += names_whole([each for each in predicted if each.category not in kept], text)
        return [each for each in found if self._guard.counts(each, text)]

    def _isolated(
        self,
        name: str,
        mode: FailureMode,
        find: Callable[[], list[Finding]],
        size: int,
        failed: Callable[[str], None],
    ) -> list[Finding]:
        """A detector's fault is what the policy says about it, and nothing more."""
        try:
            return find()
        except Exception:
            log.exception("detector %s failed on an answer", name)
            failed(name)
            return [Finding(0, size, "UNCHECKED", 1.0, name)] if mode == "closed" else []


def _nobody(_name: str) -> None:
    """Nobody wants to hear of failures."""


def _all_closed(text: str, _since: int) -> int:
    return len(text)
