"""A guard's view of answers: texts that come in pieces and leave checked."""

from __future__ import annotations

import logging
from collections.abc import Callable

from detectors.findings import Finding
from detectors.guard import Guard
from detectors.policy import NEVER_MASKED
from detectors.stream import Action, StreamGuard, on_plain
from detectors.text import Text

log = logging.getLogger(__name__)

_NAMES = ("PERSON", "ORGANIZATION", "LOCATION", "POSITION", "PROJECT", "ADDRESS")
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
            self.open(lambda _: "report").feed(text, end=True)

    def open(self, action: Callable[[Finding], Action] | None = None) -> StreamGuard:
        """The guard of one text. `action` replaces what the policy says."""
        policy = self._guard.policy
        return StreamGuard(
            self._values,
            self._open_from,
            action=action or (lambda found: policy.action(found.category)),
            sentences=self._sentence if self.reads_sentences else None,
            overlong="deny" if policy.budget.exceeded == "deny" else "report",
        )

    def _values(self, text: str) -> list[Finding]:
        seen = Text(text)
        found: list[Finding] = []
        for detector, mode in self._guard.detectors:
            try:
                found += detector.find(seen)
            except Exception:
                log.exception("detector %s failed on an answer", detector.name)
                if mode == "closed":
                    found.append(Finding(0, len(text), "UNCHECKED", 1.0, detector.name))
        return [each for each in found if self._guard.counts(each, text)]

    def _sentence(self, text: str) -> list[Finding]:
        seen = Text(text)
        found: list[Finding] = []
        if self._guard.patterns is not None:
            found += [each for each in self._guard.patterns.find(seen) if each.category != "ALLOW_PATTERN"]
        if self._guard.classifier is not None and (self._reads_names or self._statements):
            check = self._guard.classify(seen)
            found += [each for each in check if self._statements or each.category not in NEVER_MASKED]
        return [each for each in found if self._guard.counts(each, text)]


def _all_closed(text: str, _since: int) -> int:
    return len(text)
