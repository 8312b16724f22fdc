"""Reads the few figures that matter out of an engine's Prometheus page, without parsing the page.

A page is some 100 KB of histograms, and its figures are asked for several times a second per endpoint. So the lines are
looked up by name with the byte search of the interpreter.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from extproc.pool.engines.page import Memory, Page
from extproc.pool.load import EngineLoad

_LIMITS = {"running": 1e6, "waiting": 1e6, "kv_usage": 1.0, "block_size": 1e6, "num_blocks": 1e10, "max_adapters": 1e6}
_LIMIT_OF_TOTALS = 1e16
_NOT_SUMMED = ("kv_usage", "block_size")
_BRACE = ord("{")
_MAX_ADAPTERS = 1024


class _Adapters(NamedTuple):
    running: tuple[str, ...] | None
    waiting: tuple[str, ...] | None
    limit: float | None


class _Reading(NamedTuple):
    value: float | None


_NO_ADAPTERS = _Adapters(None, None, None)
_NO_GEOMETRY: dict[str, float | None] = {}


class EngineDialect(msgspec.Struct, frozen=True, kw_only=True):
    """Names under which one engine prints its figures."""

    engine: str
    metrics: dict[str, tuple[bytes, ...]]
    """Field of `EngineLoad` -> names of the metric, today's first."""
    all_tokens_per_s: bytes = b""
    """Metric of prompt and generated tokens together, for an engine that prints no rate of the prompt's alone."""
    info: bytes = b""
    """Metric whose labels hold the geometry of the cache."""
    info_labels: dict[str, bytes] = {}
    """Field of `EngineLoad` -> label of `info`."""
    adapters: bytes = b""
    """Metric in vLLM's shape whose labels list the LoRA adapters and whose value is the time at which they did."""
    replica: bytes = b""
    """Label that tells replicas apart where series of one replica repeat the same figure. Empty: every series counts.
    """
    breakdown: bytes = b""
    """Label that is empty on the total, and set on series that only split it up."""


DIALECTS: tuple[EngineDialect, ...] = (
    EngineDialect(
        engine="vllm",
        metrics={
            "running": (b"vllm:num_requests_running",),
            "waiting": (b"vllm:num_requests_waiting",),
            "kv_usage": (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
            "prompt_tokens_total": (b"vllm:prompt_tokens_total",),
            "generated_tokens_total": (b"vllm:generation_tokens_total",),
        },
        info=b"vllm:cache_config_info",
        info_labels={"block_size": b"block_size", "num_blocks": b"num_gpu_blocks"},
        adapters=b"vllm:lora_requests_info",
    ),
    EngineDialect(
        engine="sglang",
        metrics={
            "running": (b"sglang:num_running_reqs",),
            "waiting": (b"sglang:num_queue_reqs",),
            "kv_usage": (b"sglang:token_usage",),
            "prompt_tokens_total": (b"sglang:prompt_tokens_total",),
            "generated_tokens_total": (b"sglang:generation_tokens_total",),
            "generated_per_s": (b"sglang:gen_throughput",),
        },
        info=b"sglang:cache_config_info",
        info_labels={"block_size": b"page_size", "num_blocks": b"num_pages"},
        replica=b"dp_rank",
        breakdown=b"priority",
    ),
    EngineDialect(
        engine="trtllm",
        metrics={
            "running": (b"trtllm_num_requests_running",),
            "waiting": (b"trtllm_num_requests_waiting",),
            "kv_usage": (b"trtllm_kv_cache_utilization",),
            "block_size": (b"trtllm_kv_cache_tokens_per_block",),
            "num_blocks": (b"trtllm_kv_cache_max_blocks",),
        },
    ),
    EngineDialect(
        engine="bladellm",
        metrics={
            "running": (b"decode_batch_size_mean",),
            "waiting": (b"wait_queue_size_mean",),
            "kv_usage": (b"block_usage_gpu_mean",),
            "generated_per_s": (b"tps_out",),
        },
        all_tokens_per_s=b"tps_total",
    ),
)
_ORDERS = {first.engine: tuple(sorted(DIALECTS, key=lambda dialect: dialect is not first)) for first in DIALECTS}
_TELLING = ("running", "waiting", "kv_usage")
"""Fields by which a dialect is recognised: one of them is there whenever load is worth reading."""


def likeliest(engine: str) -> tuple[EngineDialect, ...]:
    """All dialects, that of an engine seen before first: on a page of another one, each absent name costs a search."""
    return _ORDERS.get(engine, DIALECTS)


def parse_metrics(
    text: bytes, now: float, dialects: tuple[EngineDialect, ...] = DIALECTS, memory: Memory | None = None
) -> EngineLoad | None:
    """The load that `text` tells, or None where no dialect fits. Never raises, whatever the bytes.

    `memory` is best the same for all pages of one engine.

    Series of one metric are summed over models and ranks; of the KV use the highest counts. A series that is no sane
    number (NaN, infinite, negative, absurd, not a number) makes its field unknown.
    """
    page = Page(text, Memory() if memory is None else memory)
    for dialect in dialects:
        readings = {field: _read(page, dialect, field) for field in _TELLING}
        if any(readings.values()):
            break
    else:
        return None
    for field in dialect.metrics:
        if field not in readings:
            readings[field] = _read(page, dialect, field)
    fields = {field: None if reading is None else reading.value for field, reading in readings.items()}
    if dialect.all_tokens_per_s:
        fields["prompt_per_s"] = _prompt_rate(page, dialect, fields["generated_per_s"])
    if dialect.info:
        fields.update(page.evaluate(dialect.info, lambda lines: _geometry(lines, dialect)) or _NO_GEOMETRY)
    adapters = (page.evaluate(dialect.adapters, _adapters) if dialect.adapters else None) or _NO_ADAPTERS
    return EngineLoad(
        engine=dialect.engine,
        taken_at=now,
        source="scrape",
        **fields,
        running_adapters=adapters.running,
        waiting_adapters=adapters.waiting,
        max_adapters=adapters.limit,
    )


def _read(page: Page, dialect: EngineDialect, field: str) -> _Reading | None:
    """None where the metric of `field` is not on the page."""
    for name in dialect.metrics.get(field, ()):
        reading: _Reading | None = page.evaluate(name, lambda lines: _Reading(_combined(lines, dialect, field)))
        if reading is not None:
            return reading
    return None


def _combined(lines: list[bytes], dialect: EngineDialect, field: str) -> float | None:
    limit = _LIMITS.get(field, _LIMIT_OF_TOTALS)
    if len(lines) == 1:
        return _number(_value(lines[0]), limit)
    replicas: dict[object, float] = {}
    for index, line in enumerate(lines):
        if dialect.breakdown and _label(line, dialect.breakdown):
            continue
        value = _number(_value(line), limit)
        if value is None:
            return None
        replica: object = index if not dialect.replica else _label(line, dialect.replica)
        replicas[replica] = max(value, replicas.get(replica, 0.0))
    if not replicas:
        return None
    return max(replicas.values()) if field in _NOT_SUMMED else sum(replicas.values())


def _prompt_rate(page: Page, dialect: EngineDialect, generated: float | None) -> float | None:
    lines = page.series(dialect.all_tokens_per_s)
    total = _combined(lines, dialect, "prompt_per_s") if lines else None
    return None if total is None or generated is None else max(0.0, total - generated)


def _geometry(lines: list[bytes], dialect: EngineDialect) -> dict[str, float | None]:
    """Block size of the first rank, blocks of all of them."""
    sizes: dict[str, list[float | None]] = {
        field: [_number(_label(line, label), _LIMITS[field]) for line in lines]
        for field, label in dialect.info_labels.items()
    }
    total = sum(value or 0.0 for value in sizes["num_blocks"])
    return {
        "block_size": next(iter(sizes["block_size"]), None) or None,
        "num_blocks": total if total and None not in sizes["num_blocks"] else None,
    }


def _adapters(lines: list[bytes]) -> _Adapters:
    """Each change of the adapters is a series of its own; the one with the latest time tells how things are."""
    newest, latest = b"", -1.0
    for line in lines:
        value = _number(_value(line), _LIMIT_OF_TOTALS)
        if value is not None and value > latest:
            newest, latest = line, value
    if not newest:
        return _NO_ADAPTERS
    limit = _number(_label(newest, b"max_lora"), _LIMITS["max_adapters"])
    return _Adapters(_names(newest, b"running_lora_adapters"), _names(newest, b"waiting_lora_adapters"), limit)


def _names(line: bytes, label: bytes) -> tuple[str, ...]:
    """A comma-separated label, at most `_MAX_ADAPTERS` of its names."""
    parts = _label(line, label).decode(errors="replace").split(",", _MAX_ADAPTERS)[:_MAX_ADAPTERS]
    return tuple([name for part in parts if (name := part.strip())])


def _value(rest: bytes) -> bytes:
    """The value in what follows a name. A timestamp or an exemplar may stand after it."""
    if rest[0] == _BRACE:
        close = rest.find(b"} ")
        if close < 0:
            return b""
        rest = rest[close + 2 :]
    parts = rest.split(None, 1)
    return parts[0] if parts else b""


def _label(rest: bytes, name: bytes) -> bytes:
    """The label's value as printed, escapes included; empty where there is none."""
    at = rest.find(b'{%b="' % name)
    if at < 0:
        at = rest.find(b',%b="' % name)
    if at < 0:
        return b""
    begin = at + len(name) + 3
    return rest[begin : rest.find(b'"', begin)]


def _number(text: bytes, limit: float) -> float | None:
    """None unless the text is a number from 0 to `limit`, which no NaN is."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= limit else None
