"""What detectors report: findings in a text, by category."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from detectors.text import Text

CATEGORIES: Mapping[str, str] = {
    "PERSON": "name of a person",
    "ORGANIZATION": "name of a company, authority or other organisation",
    "LOCATION": "name of a place",
    "POSITION": "somebody's post or title",
    "PROJECT": "name or code name of a project or product",
    "ADDRESS": "postal address",
    "EMAIL": "e-mail address",
    "PHONE": "telephone number",
    "ID_CARD": "national identity number, such as the Chinese resident one or the US social security number",
    "PASSPORT": "passport or travel permit number",
    "DRIVER_LICENSE": "driving licence number",
    "TAX_ID": "tax number of a person or a company",
    "CREDIT_CODE": "Chinese unified social credit code",
    "BANK_CARD": "credit, debit or bank card number",
    "BANK_ACCOUNT": "account number other than an IBAN, with its bank",
    "IBAN": "international bank account number",
    "LICENSE_PLATE": "vehicle licence plate",
    "WECHAT": "WeChat id",
    "QQ": "QQ number",
    "IP_ADDRESS": "IPv4 or IPv6 address",
    "MAC_ADDRESS": "hardware address",
    "CRYPTO_WALLET": "address of a cryptocurrency wallet",
    "SECRET": "password, key, token, private key or connection string",
    "INJECTION": "prompt injection or jailbreak",
    "BUSINESS_MEETING": "internal meeting",
    "BUSINESS_FINANCE": "financial figures that are not public",
    "BUSINESS_PERSONNEL": "personnel matters",
    "BUSINESS_CUSTOMER": "customers, contracts and offers",
    "BUSINESS_ROADMAP": "plans, products and projects that are not announced",
    "BUSINESS_SECURITY": "weaknesses, incidents and set-up of the company's own systems",
    "BUSINESS_LEGAL": "legal disputes, investigations and deals",
    "BUSINESS_TECHNOLOGY": "technical know-how: source code, formulas, process parameters, yields, suppliers",
    "DENY_PATTERN": "a deny pattern of the policy matched",
    "ALLOW_PATTERN": "no allow pattern of the policy matched",
    "JUDGE": "the private model's verdict",
    "UNCHECKED": "a detector failed, or the text was over the budget",
}
"""Category to its meaning. Policies and results use these names."""


class Finding(msgspec.Struct, frozen=True, order=True):
    """One span that a detector reports, in characters of the original text: `text[start:end]`."""

    start: int
    end: int
    category: str
    score: float = 1.0
    """Between 0 and 1."""
    detector: str = ""


class Detector(Protocol):
    """Finds spans in one text. Safe to call from several threads at once."""

    name: str

    def find(self, text: Text) -> list[Finding]:
        """Findings in any order, which may overlap."""
        ...


def without_overlap(findings: Iterable[Finding]) -> list[Finding]:
    """In order of position; of findings that overlap, the longer one stays, then the one with the higher score."""
    room = Room()
    ordered = sorted(findings, key=lambda each: (each.start - each.end, -each.score, each.start))
    return sorted(finding for finding in ordered if room.take(finding))


class Room:
    """Places in a text, each taken once. Looks a place up by bisection, so many findings cost no more than sorting."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __repr__(self) -> str:
        return f"<Room of {len(self._starts)} spans>"

    def take(self, finding: Finding) -> bool:
        """Whether nothing that was taken overlaps it; then it is taken too."""
        at = bisect_right(self._ends, finding.start)
        if at < len(self._starts) and self._starts[at] < finding.end:
            return False
        self._starts.insert(at, finding.start)
        self._ends.insert(at, finding.end)
        return True
