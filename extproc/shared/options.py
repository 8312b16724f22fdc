"""What can be chosen about the shared state, and what is counted."""

from __future__ import annotations

import msgspec


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds."""

    prefix: str = "sluice"
    """Of all keys. Filters with the same prefix share."""
    replicas: int = 1
    """Assumed until Redis has told."""
    limit: float = 0.05
    """How long an answer may take."""
    heartbeat: float = 1.0
    gone_after: float = 10.0
    """Without a heartbeat a replica counts no more after so long."""
    give_up: float = 2.0
    """How long an overdue answer is waited for before the connection is made anew; also for connecting."""
    retry: float = 0.2
    """Pause after a failure; it doubles with every further one, up to `longest_retry`."""
    longest_retry: float = 5.0
    calm: float = 30.0
    """After so long without a failure the pause is as at first."""
    most_undelivered: int = 100_000
    own_time: bool = False
    """Decide by the `now` that is passed in place of Redis's clock: for filters that share one clock, as in tests."""


class Counters(msgspec.Struct):
    failures: int = 0
    """Changes from shared to local."""
    local: int = 0
    """Asks answered here."""
    late: int = 0
    """Answers that came after the local one, and were given back."""
    unknown: int = 0
    """Asks whose answer never came."""
    emptied: int = 0
    """Times that Redis had forgotten this replica."""
    unkept: int = 0
    """Answers that the cache did not get."""
