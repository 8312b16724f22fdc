"""Recorded traffic: when requests came, how long they and their answers were, and which prompt blocks they shared."""

from __future__ import annotations

import csv
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
    `GeneratedTokens`; no prefixes are known), or CSV whose first line has the column names of Azure or BurstGPT
    (`Timestamp` in seconds, `Request tokens`, `Response tokens`). Raises TraceError,
    and OSError where there is no such file.
    """
    requests: list[TraceRequest] = []
    columns: list[str] | None = None
    for number, line in _lines(path):
        if limit is not None and len(requests) >= limit:
            break
        try:
            if number == 1 and not line.lstrip(_BOM).startswith(b"{"):
                columns = _columns(line)
                continue
            requests.append(_request(line) if columns is None else _row(columns, line))
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
        return _checked(TraceRequest(_moment(row.timestamp), row.context, row.generated))
    call = msgspec.json.decode(line, type=_Mooncake)
    full = tuple(call.hash_ids[: call.input_length // _BLOCK])
    return _checked(TraceRequest(call.timestamp / 1000, call.input_length, call.output_length, full))


_BOM = b"\xef\xbb\xbf"
_CSV = (("TIMESTAMP", "ContextTokens", "GeneratedTokens"), ("Timestamp", "Request tokens", "Response tokens"))
"""Columns of time, prompt and output: Azure's and BurstGPT's."""


def _columns(line: bytes) -> list[str]:
    names = next(csv.reader([line.removeprefix(_BOM).decode()]))
    if not any(set(wanted) <= set(names) for wanted in _CSV):
        known = " or ".join(",".join(wanted) for wanted in _CSV)
        raise ValueError(f"neither JSON lines nor CSV with the columns {known}")
    return names


def _row(columns: list[str], line: bytes) -> TraceRequest:
    values = next(csv.reader([line.decode()]))
    if len(values) != len(columns):
        raise ValueError(f"{len(values)} values for {len(columns)} columns")
    row = dict(zip(columns, values, strict=True))
    time, prompt, output = (row[name] for name in next(wanted for wanted in _CSV if wanted[0] in row))
    moment = float(time) if "Timestamp" in row else _moment(time)
    return _checked(TraceRequest(moment, int(prompt), int(output)))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text[:26]).replace(tzinfo=UTC).timestamp()


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
