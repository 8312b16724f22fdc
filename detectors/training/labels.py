"""What the model can say, in the order of its outputs."""

from __future__ import annotations

from collections.abc import Mapping

LETTERS: Mapping[str, str] = {
    "M": "BUSINESS_MEETING",
    "F": "BUSINESS_FINANCE",
    "P": "BUSINESS_PERSONNEL",
    "C": "BUSINESS_CUSTOMER",
    "R": "BUSINESS_ROADMAP",
    "S": "BUSINESS_SECURITY",
    "L": "BUSINESS_LEGAL",
    "T": "BUSINESS_TECHNOLOGY",
}
"""The letters of the hand-written pairs."""

INJECTION = "INJECTION"
BUSINESS = tuple(LETTERS.values())
SEQUENCE = (*BUSINESS, INJECTION)
NAMES = ("PERSON", "ORGANIZATION", "LOCATION", "ADDRESS", "POSITION", "PROJECT")
TAGS = ("O", *(f"{border}-{name}" for name in NAMES for border in "BI"))

WINDOW = 128
"""Tokens per window, with the two that mark its ends."""
