"""A security policy in force, and what is known of one request under such policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from detectors.answers import AnswerReader
from detectors.guard import Check, Guard
from detectors.judge import Opinion
from detectors.masking import Vault
from extproc.payload.guard.request import Passage, PassageKind, Passages

Result = TypeVar("Result")


class Examine(Protocol):
    """Runs a function in a thread for at most so many seconds. Raises TimeoutError."""

    def __call__(self, work: Callable[[], Result], seconds: float, /) -> Awaitable[Result]: ...


AskJudge = Callable[[list[str]], Awaitable[list[Opinion | None]]]
"""The judge's opinion of each text; None where it cannot be had."""
Vaults = Callable[[str, float], Vault]
"""The placeholders of a conversation, at a time."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One security policy in force."""

    name: str
    guard: Guard
    examine: Examine
    longest: float
    """Seconds that looking at a request may take, the judge included."""
    kinds: frozenset[PassageKind] = frozenset(PassageKind)
    """Which texts of a request it looks at."""
    reader: AnswerReader | None = None
    """Looks at answers; None: they pass."""
    media: bool = True
    """Whether images and the like may pass."""
    dry_run: bool = False
    plain_refusal: bool = False
    judge: AskJudge | None = None
    judge_always: bool = False
    judge_closed: bool = True
    restore: bool = True
    conversation_header: str | None = None
    vaults: Vaults | None = None

    def says(self, category: str, *, past: bool = False) -> str:
        """What is done about a category, or would be."""
        action = self.guard.policy.action(category, past=past)
        return f"would_{action}" if self.dry_run and action != "report" else action


Seen = tuple[str, str, str, str]
"""Policy, category, what is done about it, and `request` or `response`."""


@dataclass(slots=True)
class Guarding:
    """What is known about one request's content."""

    watches: tuple[Watch, ...]
    found: Passages = field(default_factory=Passages)
    """All texts of the request."""
    checks: dict[str, dict[str, Check]] = field(default_factory=dict)
    """By policy and text."""
    opinions: dict[str, dict[str, Opinion | None]] = field(default_factory=dict)
    vault: Vault | None = None
    seen: Counter[Seen] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Policy and detector."""
    denied_by: str = ""
    """`POLICY/CATEGORY` of what was refused."""

    @property
    def passages(self) -> tuple[Passage, ...]:
        return self.found.passages

    def forget(self) -> None:
        """The exchange may last for minutes, and needs none of the texts any more."""
        self.found = Passages()
        self.checks.clear()
        self.opinions.clear()
