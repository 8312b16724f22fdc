"""Reads the few figures that matter out of an engine's Prometheus page, without parsing the page.

A page is some 100 KB of histograms, and its figures are asked for several times a second per endpoint. So the lines are
looked up by name with the byte search of the interpreter. The exposition format prints all series of a metric as one
group.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from extproc.pool.load import EngineLoad

_HEAD = 8192
"""Bytes in which gauges usually are. A hit there is cheap; a name that is absent is found out faster from the end."""
_LIMITS = {"running": 1e6, "waiting": 1e6, "kv_usage": 1.0, "block_size": 1e6, "num_blocks": 1e10}
_LIMIT_OF_TOTALS = 1e16
_BRACE = ord("{")
_MAX_SERIES = 1024
"""Series read of one metric. More than that is no engine."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """Names under which one engine prints its figures."""

    engine: str
    metrics: dict[str, tuple[bytes, ...]]
    """Field of `EngineLoad` -> names of the metric, today's first."""
    info: bytes = b""
    """Metric whose labels hold the geometry of the cache."""
    info_labels: dict[str, bytes] = {}
    """Field of `EngineLoad` -> label of `info`."""
    replica: bytes = b""
    """Label that tells replicas apart where series of one replica repeat the same figure. Empty: every series counts.
    """
    breakdown: bytes = b""
    """Label that is empty on the total, and set on series that only split it up."""


DIALECTS: tuple[Dialect, ...] = (
    Dialect(
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
    ),
    Dialect(
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
)
_TELLING = ("running", "waiting", "kv_usage")
"""Fields by which a dialect is recognised: one of them is there whenever load is worth reading."""


def parse_metrics(text: bytes, now: float, dialects: tuple[Dialect, ...] = DIALECTS) -> EngineLoad | None:
    """The load that `text` tells, or None where no dialect fits. Never raises, whatever the bytes.

    Series of one metric are summed over models and ranks; of the KV use the highest counts. A series that is no sane
    number (NaN, infinite, negative, absurd, not a number) makes its field unknown.
    """
    if text[:1] != b"#":
        text = b"\n" + text  # every name is looked for at the start of a line
    for dialect in dialects:
        found = {field: _read(text, dialect, field) for field in _TELLING}
        if any(lines for lines, _ in found.values()):
            break
    else:
        return None
    fields = {field: value for field, (_, value) in found.items()}
    for field in dialect.metrics:
        if field not in fields:
            fields[field] = _read(text, dialect, field)[1]
    if dialect.info:
        fields.update(_geometry(text, dialect))
    return EngineLoad(engine=dialect.engine, taken_at=now, **fields)


def _read(text: bytes, dialect: Dialect, field: str) -> tuple[bool, float | None]:
    """Whether the metric of `field` is on the page, and its value."""
    for name in dialect.metrics.get(field, ()):
        lines = list(_series(text, name))
        if lines:
            return True, _combined(lines, dialect, field)
    return False, None


def _series(text: bytes, name: bytes) -> Iterator[bytes]:
    """What follows `name` on each line of its group: labels, value."""
    needle = b"\n" + name
    at = text.find(needle, 0, _HEAD)
    if at < 0:
        if text.rfind(needle) < 0:
            return
        at = text.find(needle)
    size = len(needle)
    for _ in range(_MAX_SERIES):
        begin = at + size
        end = text.find(b"\n", begin)
        if end < 0:
            end = len(text)
        if text[begin : begin + 1] in (b"{", b" ", b"\t"):
            yield text[begin:end]
            if not text.startswith(needle, end):
                return
            at = end
        else:  # a longer name that begins with this one
            at = text.find(needle, end)
            if at < 0:
                return


def _combined(lines: list[bytes], dialect: Dialect, field: str) -> float | None:
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
    return max(replicas.values()) if field == "kv_usage" else sum(replicas.values())


def _geometry(text: bytes, dialect: Dialect) -> dict[str, float | None]:
    """Block size of the first rank, blocks of all of them."""
    lines = list(_series(text, dialect.info))
    sizes: dict[str, list[float | None]] = {
        field: [_number(_label(line, label), _LIMITS[field]) for line in lines]
        for field, label in dialect.info_labels.items()
    }
    total = sum(value or 0.0 for value in sizes["num_blocks"])
    return {
        "block_size": next(iter(sizes["block_size"]), None) or None,
        "num_blocks": total if total and None not in sizes["num_blocks"] else None,
    }


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
