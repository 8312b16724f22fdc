"""Recorded traffic: when requests came, how long they and their answers were, and which prompt blocks they shared."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec


class TraceError(ValueError):
    """The file is no trace. The text names file and line."""


class TraceRequest(msgspec.Struct, frozen=True, gc=False):
    """One request of a trace."""

    arrival: float
    """Seconds since the first request."""
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """Chained hashes of the full blocks of the prompt."""


class Trace(msgspec.Struct, frozen=True):
    """Requests in the order of their arrival."""

    name: str
    requests: tuple[TraceRequest, ...]
    block_tokens: int
    """Tokens in a block."""

    @property
    def seconds(self) -> float:
        return self.requests[-1].arrival if self.requests else 0.0


class _Mooncake(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


class _Azure(msgspec.Struct):
    timestamp: str = msgspec.field(name="TIMESTAMP")
    context: int = msgspec.field(name="ContextTokens")
    generated: int = msgspec.field(name="GeneratedTokens")


_BLOCK = 512
"""Tokens in a block of Mooncake's traces."""


def read_trace(path: Path, limit: int | None = None) -> Trace:
    """Reads JSON lines, gzipped or not, of either kind that is published: Mooncake's (`timestamp` in ms,
    `input_length`, `output_length`, `hash_ids` of 512-token blocks) or Azure's (`TIMESTAMP`, `ContextTokens`,
    `GeneratedTokens`; no prefixes are known). Raises TraceError, and OSError where there is no such file.
    """
    requests: list[TraceRequest] = []
    for number, line in _lines(path):
        if limit is not None and len(requests) >= limit:
            break
        try:
            requests.append(_request(line))
        except (msgspec.MsgspecError, ValueError) as error:
            raise TraceError(f"{path}:{number}: {error}") from error
    if not requests:
        raise TraceError(f"{path}: no requests")
    requests.sort(key=lambda request: request.arrival)
    first = requests[0].arrival
    shifted = tuple(msgspec.structs.replace(request, arrival=request.arrival - first) for request in requests)
    return Trace(path.name.partition(".")[0], shifted, _BLOCK)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except (gzip.BadGzipFile, EOFError) as error:
        raise TraceError(f"{path}: {error}") from error


def _request(line: bytes) -> TraceRequest:
    if b'"ContextTokens"' in line:
        row = msgspec.json.decode(line, type=_Azure, strict=False)
        moment = datetime.fromisoformat(row.timestamp[:26]).replace(tzinfo=UTC)
        return _checked(TraceRequest(moment.timestamp(), row.context, row.generated))
    call = msgspec.json.decode(line, type=_Mooncake)
    full = tuple(call.hash_ids[: call.input_length // _BLOCK])
    return _checked(TraceRequest(call.timestamp / 1000, call.input_length, call.output_length, full))


def _checked(request: TraceRequest) -> TraceRequest:
    if request.prompt_tokens < 1 or request.output_tokens < 0:
        raise ValueError("a request has at least one prompt token and no negative output")
    return msgspec.structs.replace(request, output_tokens=max(1, request.output_tokens))


def compressed(trace: Trace, factor: float) -> Trace:
    """The same requests, `factor` times as fast."""
    return _retimed(trace, [request.arrival / factor for request in trace.requests])


def in_bursts(trace: Trace, size: int) -> Trace:
    """The same requests, every `size` of them at once, when the first of them came."""
    times = [trace.requests[index - index % size].arrival for index in range(len(trace.requests))]
    return _retimed(trace, times)


def at_once(trace: Trace) -> Trace:
    return _retimed(trace, [0.0] * len(trace.requests))


def _retimed(trace: Trace, times: Sequence[float]) -> Trace:
    requests = tuple(
        msgspec.structs.replace(request, arrival=time) for request, time in zip(trace.requests, times, strict=True)
    )
    return msgspec.structs.replace(trace, requests=requests)
