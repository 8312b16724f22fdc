"""Policies that answer at once, before the cache: rate limits and concurrency limits."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from extproc.scheduling.job import Job
from extproc.scheduling.labels import clip, compile_match
from extproc.scheduling.outcome import Kind, Reason, Refused, Tally
from extproc.scheduling.policy import ConcurrencyLimiting, RateLimiting
from extproc.scheduling.state.claims import BucketClaim, Claim, Short, SlotClaim, Store, never
from extproc.scheduling.status import MOST_ROWS, Explanation, PolicyState, Subject

Config = TypeVar("Config", RateLimiting, ConcurrencyLimiting)


class Limit(Generic[Config]):
    """One policy."""

    kind: Kind
    reason: Reason

    def __init__(self, policy: Config) -> None:
        self.policy: Config = policy
        self.match = compile_match(policy.match)
        self.tally = Tally()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.policy.name} {self.tally!r}>"

    def key(self, job: Job) -> str:
        label = self.policy.limit_by_label_key
        return clip(job.labels.get(label, "")) if label else ""

    def claim(self, job: Job) -> Claim:
        raise NotImplementedError

    @property
    def slots(self) -> int:
        """Most requests at one time; -1: they are not counted."""
        return -1

    def status(self, store: Store, now: float) -> PolicyState:
        return PolicyState(
            name=self.policy.name,
            kind=self.kind,
            dry_run=self.policy.dry_run,
            counts=self.tally.counts(),
            levels=store.levels(self.policy.name, MOST_ROWS, now),
        )

    def explain(self, store: Store, job: Job, now: float) -> Explanation:
        claim = self.claim(job)
        short = store.peek(claim, now)
        refused = self.refusal(short, now) if short is not None else None
        return Explanation(
            policy=self.policy.name,
            kind=self.kind,
            says="pass" if refused is None else "refuse",
            dry_run=self.policy.dry_run,
            seconds=refused.retry_after if refused is not None else None,
            cost=claim.amount if isinstance(claim, BucketClaim) else 1,
            detail=refused.reason if refused is not None else "",
        )

    def subject(self, job: Job | None) -> Subject | None:
        matched = job is not None and self.match(job.labels)
        return Subject(slots=self.slots, claims=(self.claim(job),) if job is not None and matched else ())

    def refusal(self, short: Short, now: float) -> Refused:
        return Refused(
            policy=self.policy.name,
            kind=self.kind,
            reason="exceeds_quota" if never(short) else self.reason,
            status=self.policy.denied_status,
            retry_after=None if math.isinf(short.at) else max(0.0, short.at - now),
        )


class RateLimit(Limit[RateLimiting]):
    """A token bucket per label value."""

    kind: Kind = "rate"
    reason: Reason = "rate_limited"

    def __init__(self, policy: RateLimiting) -> None:
        super().__init__(policy)
        self._rate = policy.fill_amount / policy.interval
        self._start = 0.0 if policy.delay_initial_fill else policy.bucket_capacity

    def claim(self, job: Job) -> BucketClaim:
        policy = self.policy
        amount = job.cost(policy.unit, policy.reserve, policy.bucket_capacity)
        keys = policy.max_keys if policy.limit_by_label_key else 1
        return BucketClaim(
            policy.name, self.key(job), amount, policy.bucket_capacity, self._rate, self._start, keys, policy.dry_run
        )


class ConcurrencyLimit(Limit[ConcurrencyLimiting]):
    """A ledger of requests in flight per label value."""

    kind: Kind = "concurrency"
    reason: Reason = "too_many_in_flight"

    @property
    def slots(self) -> int:
        return self.policy.max_concurrency

    def claim(self, job: Job) -> SlotClaim:
        policy = self.policy
        keys = policy.max_keys if policy.limit_by_label_key else 1
        return SlotClaim(
            policy.name,
            self.key(job),
            job.id,
            policy.max_concurrency,
            policy.max_inflight_duration,
            keys,
            policy.dry_run,
        )

    def refusal(self, short: Short, now: float) -> Refused:
        """When somebody finishes is not known, so a client is told to try soon, at most when the ledger would heal."""
        refused = super().refusal(short, now)
        return Refused(
            policy=refused.policy,
            kind=self.kind,
            reason=self.reason,
            status=refused.status,
            retry_after=None if refused.retry_after is None else min(1.0, refused.retry_after),
        )
