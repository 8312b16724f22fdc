"""One policy in force: runs the detectors over texts and says what follows from their findings."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from detectors.findings import Detector, Finding, Room, without_overlap
from detectors.occurrences import whole_words
from detectors.policy import NEVER_MASKED, SEVERITY, STATEMENTS, FailureMode, Policy
from detectors.reasons import explain, is_chinese
from detectors.text import Text

if TYPE_CHECKING:
    from detectors.classifier import Classifier
    from detectors.patterns import PatternSet

log = logging.getLogger(__name__)

CACHE_ENTRIES = 20_000
"""Texts whose result is remembered, by hash; about 300 bytes each."""
SEGMENT = 8192
"""Characters handed to the pattern detectors at a time: between two segments the time budget is looked at."""
OVERLAP = 512
"""Characters that neighbouring segments share, more than the longest value of a recogniser but a private key."""

Clock = Callable[[], float]


class Check(msgspec.Struct, frozen=True):
    """What the detectors say of one text. Holds none of it."""

    findings: tuple[Finding, ...] = ()
    """In order; those of one detector do not overlap, those of a text as a whole may."""
    scores: Mapping[str, float] = {}
    """The classifier's probability by category."""
    thresholds: Mapping[str, float] = {}
    """What these probabilities are compared with."""
    allowed: bool = True
    """Whether an allow pattern matched, or there is none."""
    failures: tuple[str, ...] = ()
    """Detectors that failed or ran out of budget."""


class Verdict(msgspec.Struct, frozen=True):
    """What is done about a text, or about several that belong together."""

    action: Literal["allow", "mask", "deny"]
    category: str = ""
    """The category that decided, where the action is `deny`."""
    reason: str = ""
    """A sentence for people, without any of the text."""


class Guard:
    """Detectors and actions of one policy.

    May be used from several threads at once.
    """

    def __init__(
        self,
        policy: Policy,
        detectors: Sequence[tuple[Detector, FailureMode]],
        *,
        patterns: PatternSet | None = None,
        classifier: Classifier | None = None,
        clock: Clock | None = None,
        entries: int = CACHE_ENTRIES,
    ) -> None:
        """`clock` gives seconds for the time budget; without it only the budget of characters holds."""
        self.policy = policy
        self.detectors = tuple(detectors)
        self.patterns = patterns
        self.classifier = classifier
        self._clock = clock
        self._entries = entries
        self._cache: OrderedDict[bytes, Check] = OrderedDict()
        self._allowed_values = frozenset(policy.allowed_values)

    def __repr__(self) -> str:
        return f"<Guard of {len(self.detectors)} detectors, {len(self._cache)} texts known>"

    def check(self, text: str) -> Check:
        """`look_up`, else `examine` and `keep`."""
        found = self.look_up(text)
        if found is None:
            found = self.examine(text, deadline=self.deadline())
            self.keep(text, found)
        return found

    def deadline(self) -> float | None:
        """When a request that begins at this moment is over its time budget, on the guard's clock."""
        return None if self._clock is None else self._clock() + self.policy.budget.milliseconds / 1000

    def look_up(self, text: str) -> Check | None:
        """The result of a text that was examined before."""
        key = _key(text)
        found = self._cache.get(key)
        if found is not None:
            with contextlib.suppress(KeyError):  # it may just be leaving, as another thread keeps a new one
                self._cache.move_to_end(key)
        return found

    def keep(self, text: str, check: Check) -> None:
        """Remembers a result. One that a failure made incomplete is not worth it."""
        if check.failures:
            return
        self._cache[_key(text)] = check
        if len(self._cache) > self._entries:
            self._cache.popitem(last=False)

    def examine(self, text: str, *, deadline: float | None = None) -> Check:
        """Runs every detector. A detector's fault is isolated: it becomes an UNCHECKED finding, or is only noted where
        the policy says `open`."""
        run = _Run(self._clock, deadline)
        budget = self.policy.budget.characters
        seen = Text(text if len(text) <= budget else text[:budget])
        if len(text) > budget:
            run.exceeded("budget", self._over_budget, budget, len(text))
        allowed = True
        if self.patterns is not None:
            found = self.patterns.find(seen)
            allowed = all(each.category != "ALLOW_PATTERN" for each in found)
            run.findings += [each for each in found if each.category != "ALLOW_PATTERN"]
        for detector, failure_mode in self.detectors:
            self._run(run, detector.name, failure_mode, detector.find, seen)
        scores: Mapping[str, float] = {}
        thresholds: Mapping[str, float] = {}
        if self.classifier is not None:
            scores, thresholds = self._classify(run, self.classifier, seen)
        kept = [found for found in run.findings if self.counts(found, text)]
        return Check(tuple(sorted(kept)), scores, thresholds, allowed, tuple(run.failures))

    def unchecked(self, text: str, name: str) -> Check:
        """The result of a text that `name` (a detector or the budget) gives nobody time to look at."""
        run = _Run(None, None)
        run.exceeded(name, self._over_budget, 0, len(text))
        return Check(tuple(run.findings), failures=tuple(run.failures))

    def find(self, text: str) -> list[Finding]:
        """The findings on which the policy acts, without overlap, the most severe first where they overlap."""
        return self.spans(self.check(text).findings)

    def spans(self, findings: Sequence[Finding]) -> list[Finding]:
        """Sorted by position. Of values that overlap, the one with the more severe action stays, then the longer one.
        Statements, which cover whole sentences, stay beside the values in them."""
        statements = [each for each in findings if each.category in NEVER_MASKED]
        values = [each for each in findings if each.category not in NEVER_MASKED]
        chosen: list[Finding] = []
        room = Room()
        for action in ("deny", "mask", "report"):
            of_action = without_overlap(each for each in values if self.policy.action(each.category) == action)
            chosen += [each for each in of_action if room.take(each)]
        return sorted(statements + chosen)

    def judge(self, checks: Sequence[tuple[str, Check]], past: Sequence[tuple[str, Check]] = ()) -> Verdict:
        """What follows for texts that go out together. `past` are those that earlier turns or the assistant said."""
        chinese = any(is_chinese(text) for text, _ in checks or past)
        worst: Finding | None = None
        severity = 0
        for old, group in ((False, checks), (True, past)):
            for found in (found for _, check in group for found in check.findings):
                weight = SEVERITY[self.policy.action(found.category, past=old)]
                if weight > severity or (weight == severity and worst is not None and found.score > worst.score):
                    worst, severity = found, weight
        every = (*checks, *past)
        if every and not any(check.allowed for _, check in every) and severity < SEVERITY["deny"]:
            action = self.policy.action("ALLOW_PATTERN")
            worst, severity = Finding(0, 0, "ALLOW_PATTERN", 1.0, "patterns"), SEVERITY[action]
        if worst is None or severity < SEVERITY["mask"]:
            return Verdict("allow")
        reason = explain(worst.category, chinese=chinese)
        return Verdict("deny", worst.category, reason) if severity == SEVERITY["deny"] else Verdict("mask", "", reason)

    def unsure(self, check: Check) -> bool:
        """Whether a judge is needed: the classifier reaches a quarter of a statement's threshold, and that statement is
        neither denied on its own nor one that the policy itself says `report` about."""
        return any(
            score >= check.thresholds[name] / 4
            and self.policy.actions.get(name) != "report"
            and not (score >= check.thresholds[name] and self.policy.action(name) == "deny")
            for name, score in check.scores.items()
            if name in check.thresholds and name in STATEMENTS
        )

    @property
    def _over_budget(self) -> FailureMode:
        return "closed" if self.policy.budget.exceeded == "deny" else "open"

    def counts(self, found: Finding, text: str) -> bool:
        """Whether a finding is one that the policy wants to hear of."""
        if found.score < self.policy.minimum_score and found.detector.startswith(("patterns", "presidio")):
            return False
        return not self._allowed_values or text[found.start : found.end] not in self._allowed_values

    def _run(self, run: _Run, name: str, mode: FailureMode, find: Callable[[Text], list[Finding]], text: Text) -> None:
        size = len(text.original)
        try:
            if size <= SEGMENT:
                if run.out_of_time():
                    run.exceeded(name, self._over_budget, 0, size)
                    return
                run.findings += find(text)
                return
            found: set[Finding] = set()
            for at in range(0, size, SEGMENT - OVERLAP):
                if run.out_of_time():
                    run.exceeded(name, self._over_budget, at, size)
                    break
                part = find(Text(text.original[at : at + SEGMENT]))
                found |= {msgspec.structs.replace(each, start=each.start + at, end=each.end + at) for each in part}
            run.findings += without_overlap(found)
        except Exception:
            # whatever goes wrong inside a detector must not take the request's fate out of the policy's hands
            log.exception("detector %s failed", name)
            run.exceeded(name, mode, 0, size)

    def _classify(
        self, run: _Run, classifier: Classifier, text: Text
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        switch = self.policy.classifier
        size = len(text.original)
        if run.out_of_time():
            run.exceeded("classifier", self._over_budget, 0, size)
            return {}, {}
        try:
            prediction = classifier.predict(text, thresholds=switch.thresholds, level=switch.level)
        except Exception:
            log.exception("the classifier failed")
            run.exceeded("classifier", switch.failure_mode, 0, size)
            return {}, {}
        run.findings += names_whole(prediction.findings, text.original)
        if not prediction.complete:
            run.exceeded("classifier", self._over_budget, 0, size)
        return prediction.scores, prediction.thresholds


def names_whole(findings: Sequence[Finding], text: str) -> list[Finding]:
    """The classifier's findings with names as whole words; statements stay as they are."""
    return [each if each.category in STATEMENTS else whole_words(each, text) for each in findings]


class _Run:
    """State of one examination."""

    __slots__ = ("_clock", "_deadline", "failures", "findings")

    def __init__(self, clock: Clock | None, deadline: float | None) -> None:
        self._clock = clock
        self._deadline = deadline
        self.findings: list[Finding] = []
        self.failures: list[str] = []

    def out_of_time(self) -> bool:
        return self._deadline is not None and self._clock is not None and self._clock() > self._deadline

    def exceeded(self, name: str, mode: FailureMode, start: int, end: int) -> None:
        """`text[start:end]` was not looked at by this detector."""
        self.failures.append(name)
        if mode == "closed":
            self.findings.append(Finding(start, end, "UNCHECKED", 1.0, name))


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
