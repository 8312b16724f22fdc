"""One JSON line per decision: who asked for what, where it went, how it ended, what it cost. No bodies, no keys."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from extproc.accounting.record import ExchangeRecord
from extproc.telemetry.labels import clean

LOGGER = "sluice.audit"


class AuditLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. Durations are seconds; what never became known is left out."""

    time: str
    """When the exchange ended: ISO 8601, UTC."""
    ending: str
    status: int = 0
    operation: str = ""
    host: str = ""
    route: str = ""
    source: str = ""
    target: str = ""
    requested_model: str = ""
    target_model: str = ""
    endpoint: str = ""
    stream: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    tokens_estimated: bool = False
    seconds: float = 0.0
    first_token_seconds: float | None = None
    prompt_bytes: int = 0
    completion_bytes: int = 0
    findings: dict[str, int] = {}
    """By category and action, such as `EMAIL/mask`; those of the answer begin with `response/`."""
    denied_by: str = ""
    """`POLICY/CATEGORY` of what was refused."""
    policy: str = ""
    """Traffic policy that refused the request."""
    waited_seconds: float | None = None
    """How long traffic policies let it wait."""
    cache: str = ""
    """`hit`, `miss` or `bypass`."""
    saved_tokens: int = 0
    """What an answer out of the cache had cost once."""


class AuditLog:
    """A ledger sink that writes to the `sluice.audit` logger at INFO.

    The logger stays off, whatever its parents' level, until a level is set on itself. Strings from outside are cut to
    128 printable characters.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._logger = logging.getLogger(LOGGER)
        if self._logger.level == logging.NOTSET:
            self._logger.setLevel(logging.WARNING)
        self._encoder = msgspec.json.Encoder()

    def __call__(self, record: ExchangeRecord) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            line = _line(record, datetime.fromtimestamp(self._now(), UTC))
            self._logger.info("%s", self._encoder.encode(line).decode())


def _line(record: ExchangeRecord, at: datetime) -> AuditLine:
    usage = record.usage
    return AuditLine(
        time=at.isoformat(timespec="milliseconds"),
        ending=record.ending.value,
        status=record.status,
        operation=clean(record.operation),
        host=clean(record.host),
        route=clean(record.route),
        source=clean(record.source),
        target=clean(record.target),
        requested_model=clean(record.requested_model),
        target_model=clean(record.target_model),
        endpoint=clean(record.endpoint),
        stream=record.stream,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
        cached_tokens=0 if usage is None else usage.cached_tokens,
        cache_write_tokens=0 if usage is None else usage.cache_write_tokens,
        reasoning_tokens=0 if usage is None else usage.reasoning_tokens,
        tokens_estimated=record.usage_estimated,
        seconds=round(record.ended - record.started, 6),
        first_token_seconds=None if record.first_token is None else round(record.first_token - record.started, 6),
        prompt_bytes=record.prompt_bytes,
        completion_bytes=record.completion_bytes,
        findings=_findings(record),
        denied_by=record.denied_by,
        policy=record.policy,
        waited_seconds=round(record.waited, 6) if record.waited else None,
        cache=record.cache,
        saved_tokens=0 if record.saved is None else record.saved.total_tokens,
    )


def _findings(record: ExchangeRecord) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, category, action, direction), count in record.seen.items():
        name = f"{category}/{action}" if direction == "request" else f"response/{category}/{action}"
        found[name] = found.get(name, 0) + count
    return found
