"""Sensitive-content detection: patterns, secrets, a local classifier, reversible masking. Knows nothing of gateways.

>>> guard = load_guard(Policy())
>>> guard.judge([(text, guard.check(text))])
"""

from detectors.findings import CATEGORIES, Finding
from detectors.guard import Check, Guard, Verdict
from detectors.load import GuardError, load_guard
from detectors.masking import Vault
from detectors.policy import Policy

__all__ = ["CATEGORIES", "Check", "Finding", "Guard", "GuardError", "Policy", "Vault", "Verdict", "load_guard"]
