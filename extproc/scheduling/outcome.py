"""What flow control answers to a request, and what it counts."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["ramp", "rate", "concurrency", "cache", "adaptive", "quota", "slots"]
Reason = Literal[
    "ramped_out",
    "rate_limited",
    "too_many_in_flight",
    "exceeds_quota",
    "queue_full",
    "queue_timeout",
    "evicted",
    "left",
]
"""`exceeds_quota`: the request costs more than the bucket ever holds. `evicted`: it made room for a higher priority.
`left`: it was given up before the store had answered."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The request does not proceed, and holds nothing any more."""

    policy: str
    kind: Kind
    reason: Reason
    status: int
    retry_after: float | None = None
    """Seconds after which the same request would be admitted if nothing else came; None: never, or not known."""
    position: int | None = None
    """Requests before it in the queue, itself counted."""
    expected_wait: float | None = None


class Tally:
    """What one policy did; `would_…` under dry-run."""

    __slots__ = (
        "evicted",
        "expired",
        "hits",
        "left",
        "misses",
        "passed",
        "queued",
        "refused",
        "would_refuse",
        "would_wait",
    )

    def __init__(self) -> None:
        self.passed = 0
        self.refused = 0
        """At the door; `expired`, `evicted` and `left` have waited before."""
        self.queued = 0
        self.expired = 0
        self.evicted = 0
        self.left = 0
        self.hits = 0
        self.misses = 0
        self.would_refuse = 0
        self.would_wait = 0

    def counts(self) -> dict[str, int]:
        """Those that are not 0."""
        return {name: count for name in self.__slots__ if (count := getattr(self, name))}

    def __repr__(self) -> str:
        return f"<Tally {self.counts()}>"
