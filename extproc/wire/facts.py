"""What is read from Envoy's dynamic metadata, and what is written there for the access log."""

from __future__ import annotations

from typing import Any

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.values import Answer, Metadata


def flatten_claims(claims: Any) -> Any:
    """Claims of every JWT provider in one mapping; each provider's payload sits under the provider's name."""
    if not claims:
        return None
    return {name: value for payload in claims.values() if isinstance(payload, dict) for name, value in payload.items()}


def refusal_facts(record: ExchangeRecord, answer: Answer) -> Metadata:
    """What the access log says of an exchange that Sluice answers itself."""
    facts = {
        "reason": answer.ending.value,
        "route": record.route,
        "source": record.source,
        "requested_model": record.requested_model,
    }
    return {"sluice": {name: value for name, value in facts.items() if value}}


def log_facts(record: ExchangeRecord) -> Metadata:
    """What the access log says of a finished answer."""
    facts: dict[str, str | float | bool] = {"reason": record.ending.value}
    usage = record.usage
    if usage is not None:
        facts["prompt_tokens"] = usage.prompt_tokens
        facts["completion_tokens"] = usage.completion_tokens
        facts["cached_tokens"] = usage.cached_tokens
        facts["usage_estimated"] = record.usage_estimated
    if record.stream and record.first_token is not None:
        facts["time_to_first_token_ms"] = round((record.first_token - record.started) * 1000, 1)
    return {"sluice": facts}
