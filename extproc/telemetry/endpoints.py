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


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of one pool."""

    pool: str
    waiting: int
    oldest_wait: float = 0.0
    """Seconds that whoever waits longest has waited."""


_GAUGES = {
    "up": "1 while the endpoint takes requests, else 0.",
    "in_flight": "Exchanges that this gateway has running on the endpoint.",
    "running": "Requests that the engine reports as running.",
    "waiting": "Requests that the engine reports as waiting.",
    "kv_usage": "KV-cache utilisation that the engine reports, 0 to 1.",
    "metrics_age": "Seconds since the engine's figures were read.",
}
_SUFFIX = {"kv_usage": "kv_usage_ratio", "metrics_age": "metrics_age_seconds"}


def queue_families(queues: Iterable[QueueStatus]) -> Iterator[GaugeMetricFamily]:
    """`sluice_pool_*{pool}`."""
    waiting = GaugeMetricFamily("sluice_pool_waiting", "Requests that wait for an endpoint.", labels=("pool",))
    oldest = GaugeMetricFamily(
        "sluice_pool_oldest_wait_seconds", "How long the request that waits longest has waited.", labels=("pool",)
    )
    for queue in queues:
        waiting.add_metric((clean(queue.pool),), queue.waiting)
        oldest.add_metric((clean(queue.pool),), queue.oldest_wait)
    yield from (waiting, oldest)


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
