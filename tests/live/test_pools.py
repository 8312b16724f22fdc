"""How full a pool is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from extproc.live.pools import Pools, _fullness
from extproc.pool.endpoint import EndpointView, State
from extproc.pool.waiting import SaturationLimits


def view(**figures: Any) -> EndpointView:
    unknown = {"idle": None, "engine": None, "running": None, "waiting": None, "kv_usage": None, "metrics_age": None}
    known = {"address": "a", "labels": {}, "state": State.HEALTHY, "reason": "", "state_age": 0.0, "in_flight": 0}
    return EndpointView(**{**unknown, **known, "tokens": 0, **figures})


@pytest.mark.parametrize(
    ("endpoint", "limits", "expected"),
    [
        (view(waiting=2.0, kv_usage=0.1), SaturationLimits(queue_depth=4, kv_usage=0.5), 0.5),
        (view(waiting=1.0, kv_usage=0.45), SaturationLimits(queue_depth=4, kv_usage=0.5), 0.9),
        (view(in_flight=3), SaturationLimits(in_flight=2), 1.5),
        (view(waiting=9.0), SaturationLimits(queue_depth=None, kv_usage=None), None),
        (view(), SaturationLimits(), None),
    ],
)
def test_the_nearest_limit_counts(endpoint: EndpointView, limits: SaturationLimits, expected: float | None) -> None:
    assert _fullness(endpoint, limits) == expected


async def test_a_pool_that_is_not_there_is_not_full() -> None:
    assert Pools(time.monotonic).saturation("gone") is None
