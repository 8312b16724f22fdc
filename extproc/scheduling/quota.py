"""A quota for all, in front of which requests wait their turn."""

from __future__ import annotations

import math

from extproc.scheduling.fair import Order
from extproc.scheduling.job import Job
from extproc.scheduling.line import Line, Standing, Waiter
from extproc.scheduling.outcome import Kind
from extproc.scheduling.policy import QuotaScheduling
from extproc.scheduling.state.claims import BucketClaim


class QuotaLine(Line[Waiter]):
    """One global token bucket. Cost is reserved on admission and settled with real usage."""

    kind: Kind = "quota"

    def __init__(self, policy: QuotaScheduling, order: Order | None = None) -> None:
        super().__init__(policy, policy.unit, policy.reserve, order)
        self._config = policy
        self._rate = policy.fill_amount / policy.interval
        self._start = 0.0 if policy.delay_initial_fill else policy.bucket_capacity

    def claim(self, job: Job) -> BucketClaim:
        config = self._config
        amount = job.cost(config.unit, config.reserve, config.bucket_capacity)
        return BucketClaim(config.name, "", amount, config.bucket_capacity, self._rate, self._start, dry=config.dry_run)

    def rate(self, now: float) -> float:
        return self._rate

    def expected_wait(self, standing: Standing, now: float) -> float | None:
        """Until the head can be granted, and then at the rate at which the bucket fills."""
        at, cost = self.ready
        if self._rate <= 0 or math.isinf(at):
            return None
        _, before = self.queue.ahead(standing.flow, standing.priority)
        return max(0.0, at - now) + max(0.0, before + standing.cost - cost) / self._rate
