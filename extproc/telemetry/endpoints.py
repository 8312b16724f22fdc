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


_GAUGES = {
    "up": "1 while the endpoint takes requests, else 0.",
    "in_flight": "Exchanges that this gateway has running on the endpoint.",
    "running": "Requests that the engine reports as running.",
    "waiting": "Requests that the engine reports as waiting.",
    "kv_usage": "KV-cache utilisation that the engine reports, 0 to 1.",
    "metrics_age": "Seconds since the engine's figures were read.",
}
_SUFFIX = {"kv_usage": "kv_usage_ratio", "metrics_age": "metrics_age_seconds"}


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
