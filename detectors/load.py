"""A policy's detectors, built. Heavy libraries are imported here, when a policy asks for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.alarms import MODEL
from detectors.findings import Detector
from detectors.guard import Guard
from detectors.policy import ClassifierSwitch, FailureMode, Policy

if TYPE_CHECKING:
    from detectors.classifier import Classifier
    from detectors.patterns import PatternSet


class GuardError(ValueError):
    """A policy whose detectors cannot be built: which one, and why."""


def load_guard(policy: Policy, *, clock: Callable[[], float] | None = None) -> Guard:
    """Every detector that the policy names. Raises GuardError."""
    detectors: list[tuple[Detector, FailureMode]] = []
    try:
        if policy.secrets.enabled:
            from detectors.secrets import Secrets

            detectors.append((Secrets(), policy.secrets.failure_mode))
        if policy.patterns.enabled or policy.recognisers:
            from detectors.recognisers.engine import Pattern, Recognisers

            own = [
                Pattern(each.name, each.category, each.pattern, each.score, each.context, each.longest)
                for each in policy.recognisers
            ]
            found = Recognisers(None if policy.patterns.enabled else (), extra=own)
            detectors.append((found, policy.patterns.failure_mode))
        if policy.presidio is not None:
            from detectors.presidio import load_presidio

            detectors.append((load_presidio(policy.presidio), policy.presidio.failure_mode))
        patterns = _patterns(policy)
        classifier = _classifier(policy.classifier) if policy.classifier.enabled else None
    except ImportError as error:
        raise GuardError(f"{error}: install `envoy-sluice[detect]`") from error
    except ValueError as error:
        raise GuardError(str(error)) from error
    return Guard(policy, detectors, patterns=patterns, classifier=classifier, clock=clock)


def _patterns(policy: Policy) -> PatternSet | None:
    if not policy.allow_patterns and not policy.deny_patterns:
        return None
    from detectors.patterns import PatternSet, UserPattern

    return PatternSet(
        allow=[UserPattern(f"allow/{i}", pattern) for i, pattern in enumerate(policy.allow_patterns)],
        deny=[UserPattern(f"deny/{i}", pattern) for i, pattern in enumerate(policy.deny_patterns)],
    )


def _classifier(switch: ClassifierSwitch) -> Classifier:
    return _loaded(switch.model or MODEL, tuple(sorted(switch.labels.items())))


@cache
def _loaded(directory: Path, labels: tuple[tuple[str, str], ...]) -> Classifier:
    """Policies that name the same model share it."""
    from detectors.classifier import load

    return load(directory, labels=dict(labels))
