"""What is known of an exchange beside its bytes: claims, the record of it, and what the access log says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.exchange.exchange import Exchange
from extproc.exchange.values import LocalReply, Metadata
from extproc.payload.usage import Usage
from extproc.scheduling.ticket import Hit
from extproc.steps.request import Request

Facts = Mapping[str, float | bool]
"""Numbers and flags, for the namespace `sluice` of dynamic metadata."""


def flatten_claims(claims: Any) -> Any:
    """Claims of every JWT provider in one mapping; each provider's payload sits under the provider's name."""
    if not claims:
        return None
    return {name: value for payload in claims.values() if isinstance(payload, dict) for name, value in payload.items()}


def note_request(record: ExchangeRecord, request: Request) -> None:
    """What the steps have found out."""
    record.requested_model = request.requested_model
    record.target_model = request.target_model
    record.prompt_bytes = request.prompt_bytes
    record.stream = request.stream
    if request.rule is not None:
        record.route = request.rule.name
    if request.backend is not None:
        record.target = request.backend.target
    if request.endpoints:
        record.endpoint = request.endpoints.partition(",")[0]


def complete(record: ExchangeRecord, exchange: Exchange, request: Request | None, now: float) -> None:
    """How it ended, and what passed until then."""
    record.ended = now
    record.status = exchange.status
    record.ending = exchange.ending or Ending.CLIENT_GONE
    record.usage = exchange.usage
    record.completion_bytes, record.events = exchange.completion_bytes, exchange.events
    record.unseen = exchange.counted_by_envoy
    record.first_token, record.last_token = exchange.first_token, exchange.last_token
    if request is not None and (guarding := request.guarding) is not None:
        record.seen, record.guard_failures = guarding.seen, guarding.failures
        record.denied_by = guarding.denied_by
    if request is not None and (admission := request.admission) is not None:
        record.policy, record.cache = admission.policy, admission.cache
        record.waited = admission.waited(now)
        if isinstance(admission.outcome, Hit):
            entry = admission.outcome.entry
            record.saved = Usage(entry.prompt_tokens, entry.completion_tokens)


def refusal_facts(record: ExchangeRecord, answer: LocalReply, request: Request | None) -> Metadata:
    """What the access log says of an exchange that Sluice answers itself."""
    admission = None if request is None else request.admission
    facts = {
        "reason": answer.ending.value,
        "route": record.route,
        "source": record.source,
        "requested_model": record.requested_model,
        "policy": admission.policy if admission is not None else "",
        "cache": admission.cache if admission is not None else "",
    }
    return {"sluice": {name: value for name, value in facts.items() if value}}


def log_facts(record: ExchangeRecord) -> Facts:
    """What the access log says of an answer."""
    facts: dict[str, float | bool] = {}
    usage = record.usage
    if usage is not None:
        facts["prompt_tokens"] = usage.prompt_tokens
        facts["completion_tokens"] = usage.completion_tokens
        facts["cached_tokens"] = usage.cached_tokens
        facts["cache_write_tokens"] = usage.cache_write_tokens
        facts["usage_estimated"] = record.usage_estimated
    if record.stream and record.first_token is not None:
        facts["time_to_first_token_ms"] = round((record.first_token - record.started) * 1000, 1)
    return facts
