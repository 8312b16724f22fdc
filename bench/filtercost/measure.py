"""Runs the loads, variant by variant in short interleaved rounds, and keeps what each cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bench.filtercost.bed import Bed, Lane
from bench.filtercost.bodies import chat_request
from bench.filtercost.variants import Load, Variant
from bench.filtercost.wrk import SCRIPT, LoadError, LoadResult, run_counted, run_wrk

MESSAGES_BEFORE_EVENTS = 3
"""Request headers, request body and response headers; what follows are pieces of the answer."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One variant under one load for one round. A unit is a request, or a message with a piece of a streamed answer."""

    rate: float
    """Units per second."""
    p50: float
    """Seconds from the request to the end of its answer."""
    p99: float
    filter_cpu: float
    """Seconds of processor time per unit."""
    envoy_cpu: float
    messages: float
    """Messages to the filter per request, for streamed answers per event."""


Samples = dict[Variant, list[Sample]]
"""The rounds of one load; round i of one variant was next to round i of the others."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One load."""

    load: Load
    samples: Samples
    resident: dict[Variant, float]
    """Megabytes of each variant's filter after the load."""

    def median(self, variant: Variant, figure: Callable[[Sample], float]) -> float:
        return statistics.median(figure(sample) for sample in self.samples[variant])

    def ratio(self, variant: Variant, to: Variant) -> float:
        """Median over the rounds of the filter's processor time, relative to another variant's in the same round."""
        pairs = zip(self.samples[variant], self.samples[to], strict=True)
        return statistics.median(mine.filter_cpu / other.filter_cpu for mine, other in pairs)

    def added(self, variant: Variant, to: Variant, figure: Callable[[Sample], float]) -> float:
        """Median over the rounds of what a figure has grown by."""
        pairs = zip(self.samples[variant], self.samples[to], strict=True)
        return statistics.median(figure(mine) - figure(other) for mine, other in pairs)


def measure(bed: Bed, load: Load) -> Measured:
    """Raises LoadError if requests fail, RuntimeError if a variant does not do what it is there for."""
    body = chat_request(load.body, stream=load.stream)
    (bed.place / "body.json").write_bytes(body)
    (bed.place / "load.lua").write_text(SCRIPT, encoding="utf-8")
    for variant in load.variants:
        bed.check(variant, body)
    samples: Samples = {variant: [] for variant in load.variants}
    for number in range(load.rounds):
        # Every variant is once first and once last, so that no one always follows the same other.
        at = number % len(load.variants)
        for variant in (*load.variants[at:], *load.variants[:at]):
            samples[variant].append(_round(bed, load, variant, body))
    filters = {variant: bed.lanes[variant.lane].filter for variant in load.variants}
    resident = {variant: child.resident_megabytes() for variant, child in filters.items() if child is not None}
    return Measured(load, samples, resident)


def _round(bed: Bed, load: Load, variant: Variant, body: bytes) -> Sample:
    lane = bed.lanes[variant.lane]
    before = _reading(bed, lane)
    if load.count is not None:
        result = run_counted(lane.port, host=variant.host, body=body, count=load.count)
    else:
        files = {"body": bed.place / "body.json", "script": bed.place / "load.lua"}
        result = run_wrk(lane.port, host=variant.host, **files, connections=load.connections, seconds=load.seconds)
    used = _reading(bed, lane).since(before)
    return sample(used, result, stream=load.stream, native=variant.native)


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment, or how far they have moved."""

    streams: int
    messages: int
    events: int
    """Sent by the destination."""
    filter_cpu: float
    """Seconds of processor time."""
    envoy_cpu: float

    def since(self, before: Reading) -> Reading:
        return Reading(
            self.streams - before.streams,
            self.messages - before.messages,
            self.events - before.events,
            self.filter_cpu - before.filter_cpu,
            self.envoy_cpu - before.envoy_cpu,
        )


def sample(used: Reading, result: LoadResult, *, stream: bool, native: bool = False) -> Sample:
    """What one round has cost per unit. Raises LoadError if not a single unit was seen."""
    if not stream:
        units, messages = result.requests, used.messages / used.streams if used.streams else 0.0
    elif used.streams and not native:  # Envoy may have read two events at once: what costs is the message
        units = used.messages - MESSAGES_BEFORE_EVENTS * used.streams
        messages = units / used.events if used.events else 0.0
    else:
        units, messages = used.events, used.messages / used.events if used.events else 0.0
    if units <= 0:
        raise LoadError(f"nothing was answered within {result.seconds:.1f} s")
    return Sample(
        rate=units / result.seconds,
        p50=result.p50,
        p99=result.p99,
        filter_cpu=used.filter_cpu / units,
        envoy_cpu=used.envoy_cpu / units,
        messages=messages,
    )


def _reading(bed: Bed, lane: Lane) -> Reading:
    filter_cpu = lane.filter.cpu_seconds() if lane.filter is not None else 0.0
    return Reading(*lane.messages(), bed.seen()["events"], filter_cpu, lane.envoy.cpu_seconds())
