"""Gauges per pool endpoint, read from the pools at scrape time, so that endpoints which left are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from prometheus_client.core import GaugeMetricFamily

from extproc.telemetry.labels import clean


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as its pool sees it. None is a figure the engine has not reported, or not recently."""

    pool: str
    address: str
    up: bool
    in_flight: int
    """Exchanges sent there and not ended, counted here."""
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    """KV-cache utilisation, 0 to 1."""
    metrics_age: float | None = None
    """Seconds since the engine's figures were read."""


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One pool as a whole."""

    pool: str
    waiting: int
    oldest_wait: float = 0.0
    """Seconds that whoever waits longest has waited."""
    prefix_blocks: int | None = None
    """Pairs of a prompt's block and an endpoint that holds it; None where the policy remembers none."""
    prefix_bytes: int = 0


_GAUGES = {
    "up": "1 while the endpoint takes requests, else 0.",
    "in_flight": "Exchanges that this gateway has running on the endpoint.",
    "running": "Requests that the engine reports as running.",
    "waiting": "Requests that the engine reports as waiting.",
    "kv_usage": "KV-cache utilisation that the engine reports, 0 to 1.",
    "metrics_age": "Seconds since the engine's figures were read.",
}
_SUFFIX = {"kv_usage": "kv_usage_ratio", "metrics_age": "metrics_age_seconds"}


def pool_families(pools: Iterable[PoolStatus]) -> Iterator[GaugeMetricFamily]:
    """`sluice_pool_*{pool}`."""
    waiting = GaugeMetricFamily("sluice_pool_waiting", "Requests that wait for an endpoint.", labels=("pool",))
    oldest = GaugeMetricFamily(
        "sluice_pool_oldest_wait_seconds", "How long the request that waits longest has waited.", labels=("pool",)
    )
    blocks = GaugeMetricFamily(
        "sluice_pool_prefix_blocks",
        "Prompt blocks known to be in engines' caches.",
        labels=("pool",),
    )
    memory = GaugeMetricFamily(
        "sluice_pool_prefix_bytes", "Memory that the policy's index of blocks takes, estimated.", labels=("pool",)
    )
    for pool in pools:
        label = (clean(pool.pool),)
        waiting.add_metric(label, pool.waiting)
        oldest.add_metric(label, pool.oldest_wait)
        if pool.prefix_blocks is not None:
            blocks.add_metric(label, pool.prefix_blocks)
            memory.add_metric(label, pool.prefix_bytes)
    yield from (waiting, oldest, blocks, memory)


def endpoint_families(endpoints: Iterable[EndpointStatus]) -> Iterator[GaugeMetricFamily]:
    """`sluice_endpoint_*{pool, endpoint}`. Unknown figures have no sample."""
    statuses = tuple(endpoints)
    for field, help_text in _GAUGES.items():
        name = f"sluice_endpoint_{_SUFFIX.get(field, field)}"
        family = GaugeMetricFamily(name, help_text, labels=("pool", "endpoint"))
        for status in statuses:
            value = getattr(status, field)
            if value is not None:
                family.add_metric((clean(status.pool), clean(status.address)), float(value))
        yield family
