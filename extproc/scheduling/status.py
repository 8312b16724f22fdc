"""What a policy shows of itself: to people, and to whoever has to fetch its shared state for them."""

from __future__ import annotations

from typing import Literal

import msgspec

from extproc.scheduling.outcome import Kind
from extproc.scheduling.state.claims import Claim, Level, Lookup

MOST_ROWS = 20
"""Keys and flows shown of one policy: those with the least left, and the longest."""


class FlowState(msgspec.Struct, frozen=True):
    """One flow that waits."""

    workload: str
    fairness: str
    priority: float
    waiting: int
    cost: float


class PolicyState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One policy's live state; fields that do not concern its kind are None or empty."""

    name: str
    kind: Kind
    dry_run: bool = False
    counts: dict[str, int] = {}
    levels: list[Level] = []
    waiting: int | None = None
    flows: list[FlowState] = []
    multiplier: float | None = None
    overloaded: bool | None = None
    signal: float | None = None
    setpoint: float | None = None
    percentage: float | None = None
    step: int | None = None
    command: str | None = None
    direction: int | None = None
    entries: int | None = None
    bytes: int | None = None
    joined: int | None = None
    """Requests that wait for an identical one's answer."""


Says = Literal["not matched", "pass", "wait", "refuse", "hit", "miss", "bypass", "join"]


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one policy would do with a request that came now, were it alone."""

    policy: str
    kind: Kind
    says: Says
    dry_run: bool = False
    seconds: float | None = None
    """Expected wait, or until it could come back."""
    position: int | None = None
    workload: str = ""
    priority: float | None = None
    cost: float | None = None
    detail: str = ""
    """Of a `refuse`, the code that the client would get first."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy keeps in the store."""

    slots: int = -1
    """Limit of its slots; -1: it has none."""
    claims: tuple[Claim, ...] = ()
    """What one request would claim."""
    lookups: tuple[Lookup, ...] = ()
