"""What a guard looks for, and what it does about each category."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from detectors.alarms import LEVEL, Level
from detectors.findings import CATEGORIES

Action = Literal["deny", "mask", "report"]
FailureMode = Literal["closed", "open"]
"""What a detector that fails means: `closed` denies the text, `open` goes on without that detector."""

SEVERITY: Mapping[str, int] = {"report": 1, "mask": 2, "deny": 3}

STATEMENTS = frozenset(name for name in CATEGORIES if name == "INJECTION" or name.startswith("BUSINESS_"))
"""What the classifier says of whole sentences, with a probability."""
_NAMES = ("LOCATION", "POSITION", "IP_ADDRESS", "MAC_ADDRESS", "PERSON", "ORGANIZATION", "PROJECT")
_DENIED = ("SECRET", "DENY_PATTERN", "ALLOW_PATTERN", "JUDGE", "UNCHECKED")
DEFAULT_ACTIONS: Mapping[str, Action] = {
    name: "deny" if name in _DENIED else "report" if name in _NAMES or name in STATEMENTS else "mask"
    for name in CATEGORIES
}
"""Numbers and addresses of people are masked; secrets, the policy's own patterns and a judge's word deny. Names are
reported, because most texts name somebody, and so are statements, because a probability alone refuses harmless texts
too: the judge is asked about them where there is one."""

NEVER_MASKED = STATEMENTS | {*_DENIED[1:]}
"""A whole statement cannot be replaced by a placeholder."""


class Recogniser(msgspec.Struct, frozen=True, kw_only=True):
    """A recogniser of the user's own: a pattern, and words near it that raise its score."""

    name: str
    category: str
    pattern: str
    score: float = 0.6
    context: tuple[str, ...] = ()
    longest: int = 64
    """Characters of the longest match, which a stream has to wait for."""


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a detector takes part, and what its failure means."""

    enabled: bool = True
    failure_mode: FailureMode = "closed"


class ClassifierSwitch(Switch, frozen=True, kw_only=True):
    model: Path | None = None
    """A local Hugging Face model directory; None is the model that comes with the package."""
    labels: Mapping[str, str] = {}
    """Label of a foreign model to its category; an empty string for a label that is no finding."""
    thresholds: Mapping[str, float] = {}
    """Category to the probability from which it counts; what is absent has the model's own threshold."""
    level: Level = LEVEL
    """Which of the model's own thresholds."""


PRESIDIO_CATEGORIES: Mapping[str, str] = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "BANK_CARD",
    "IBAN_CODE": "IBAN",
    "US_BANK_NUMBER": "BANK_ACCOUNT",
    "US_SSN": "ID_CARD",
    "US_ITIN": "TAX_ID",
    "US_PASSPORT": "PASSPORT",
    "US_DRIVER_LICENSE": "DRIVER_LICENSE",
    "CRYPTO": "CRYPTO_WALLET",
    "DATE_TIME": "",
    "NRP": "",
    "URL": "",
}
"""Presidio's entities that have a category of another name here; an empty string for what names nobody."""


class PresidioSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What of a user's own Presidio takes part."""

    recognisers: tuple[str, ...] = ()
    """`module:Class` of recognisers in Python."""
    registry: Path | None = None
    """A registry in Presidio's YAML."""
    nlp_engine: Path | None = None
    """An NLP engine in Presidio's YAML."""
    categories: Mapping[str, str] = {}
    """Entity to its category, before PRESIDIO_CATEGORIES."""
    longest: int = 64
    """Characters that a stream has to wait for."""
    failure_mode: FailureMode = "closed"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much one request may cost. Text that the cache knows costs nothing."""

    characters: int = 262_144
    milliseconds: float = 2000.0
    exceeded: Literal["deny", "report"] = "deny"
    """What happens to a request over it: refused, or passed with what was found so far."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A complete set of rules. The default is every detector with the default actions."""

    allow_patterns: tuple[str, ...] = ()
    """RE2 patterns. At least one has to match, if there are any."""
    deny_patterns: tuple[str, ...] = ()
    recognisers: tuple[Recogniser, ...] = ()
    presidio: PresidioSettings | None = None
    patterns: Switch = Switch()
    secrets: Switch = Switch()
    classifier: ClassifierSwitch = ClassifierSwitch()
    actions: Mapping[str, Action] = {}
    """By category; `default` stands for all that are not named. What neither names has the default action."""
    allowed_values: tuple[str, ...] = ()
    """Values that are never reported, such as the company's own address."""
    minimum_score: float = 0.5
    """Findings of pattern recognisers below it are dropped."""
    budget: Budget = Budget()

    def action(self, category: str, *, past: bool = False) -> Action:
        """What is done about a finding of this category.

        `past`: in what an earlier turn or the assistant said. It refuses nothing, so that a conversation can go on
        after a refusal; what would be denied is masked, whole statements as well, so that it does not leave with the
        history. What nobody could look at is denied all the same.
        """
        chosen = self.actions.get(category) or self.actions.get("default")
        if chosen is None:
            chosen = DEFAULT_ACTIONS.get(category, "deny")
        if chosen == "mask" and category in NEVER_MASKED:
            chosen = "deny"
        return "mask" if chosen == "deny" and past and category != "UNCHECKED" else chosen
