"""What a load balancer does that knows nothing of its endpoints."""

from __future__ import annotations

import random
from collections.abc import Sequence

from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import LongestUnpicked, PickRequest, Policy, ScoredPolicy


class Random(Policy):
    """Each endpoint as likely as every other one."""

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: random.Random
    ) -> list[Endpoint]:
        return random.sample(list(endpoints), min(count, len(endpoints)))


class RoundRobin(ScoredPolicy):
    """One after the other."""

    def __init__(self) -> None:
        super().__init__([(LongestUnpicked(), 1.0)])
