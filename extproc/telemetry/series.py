"""Where figures accumulate between scrapes.

`prometheus_client`'s own histogram children hold a locked object per bucket and search the buckets one by one, which
costs ten times the memory and most of a record's time. These hold plain lists, and `exposition` turns them into
`prometheus_client`'s metric families at scrape time.

Written by the event loop only. A scrape in another thread may see a count whose sum follows with the next scrape.
"""

from __future__ import annotations

from bisect import bisect_left

TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
"""1, 4, 16 … 67108864: `gen_ai.client.token.usage` in the OpenTelemetry GenAI semantic conventions."""
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""`gen_ai.server.request.duration`, seconds, likewise."""
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""`gen_ai.server.time_to_first_token`, seconds, likewise."""
OUTPUT_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""`gen_ai.server.time_per_output_token`, seconds, likewise."""
MESSAGE_BUCKETS = (
    *(25e-6, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6),
    *(1.6e-3, 3.2e-3, 6.4e-3, 12.8e-3, 51.2e-3, 0.2, 1.0),
)
"""Seconds of handling one ext_proc message."""


class Distribution:
    """A histogram: observations per bucket and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        """Inclusive upper bounds, ascending; one more bucket takes what is above."""
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def __repr__(self) -> str:
        return f"<Distribution of {self.count}, sum {self.total:g}>"


class TokenTotals:
    """Tokens of one source, provider and model. The first two are pairs: reported, estimated."""

    __slots__ = ("cache_written", "cached", "completion", "prompt", "reasoning")

    def __init__(self) -> None:
        self.prompt = [0, 0]
        self.completion = [0, 0]
        self.cached = 0
        self.cache_written = 0
        self.reasoning = 0


class Series:
    """Everything measured under one set of GenAI labels."""

    __slots__ = ("duration", "errors", "first_token", "input", "labels", "output", "output_token", "totals")

    def __init__(self, labels: tuple[str, str, str, str, str], totals: TokenTotals) -> None:
        self.labels = labels
        """Operation, source, provider, requested model, target model."""
        self.totals = totals
        self.duration = Distribution(DURATION_BUCKETS)
        self.errors: dict[str, Distribution] = {}
        """Durations of what went wrong, by `error.type`."""
        self.first_token = Distribution(FIRST_TOKEN_BUCKETS)
        self.output_token = Distribution(OUTPUT_TOKEN_BUCKETS)
        self.input = Distribution(TOKEN_BUCKETS)
        self.output = Distribution(TOKEN_BUCKETS)
