"""Every way an exchange can end, and the one table that maps each way to status, error type and message."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Ending(StrEnum):
    """How an exchange ended. The value is a stable code: `x-sluice-reason`, the error's `code`, a metric label."""

    COMPLETED = "completed"
    """The answer went through to its end, whatever its status."""
    ANSWERED = "answered"
    """Sluice itself answered as asked, such as the list of models."""
    CLIENT_GONE = "client_gone"
    """Envoy ended the stream before the answer did: the client left, or the upstream broke off."""
    REPLIED_BY_ENVOY = "replied_by_envoy"
    """Envoy answered in place of the destination: no connection, a timeout, a body over the limit."""

    INVALID_BODY = "invalid_body"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_BODIES = "too_many_bodies"
    """The bodies of all requests together take as much memory as they may."""
    NOT_JSON = "not_json"
    ROUTE_NOT_FOUND = "route_not_found"
    MODEL_NOT_FOUND = "model_not_found"
    KEY_MISSING = "provider_key_missing"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    OPERATION_NOT_OPEN = "operation_not_open"
    """It is no inference, and no rule names its path: a provider's key is not lent for it."""
    NO_ENDPOINTS = "no_endpoints"
    UNREADABLE_ANSWER = "unreadable_answer"
    """The answer had to be edited, and its content encoding is corrupt or decodes to more than the limit."""
    CONTENT_DENIED = "content_denied"
    """A security policy refused what the request holds."""
    ANSWER_DENIED = "answer_denied"
    """A security policy ended the answer because of what it holds."""
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    EVICTED = "evicted"
    """It had to leave a queue for a request with a higher priority."""
    RAMPED_OUT = "ramped_out"
    """A load ramp does not let it through yet."""
    RATE_LIMITED = "rate_limited"
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    EXCEEDS_QUOTA = "exceeds_quota"
    """It costs more than its quota ever allows at once."""
    CACHED = "cached"
    """Answered from the cache: no destination was asked."""
    STALE_ENVOY = "stale_envoy"
    """Envoy was rendered from another configuration and cannot protect the request."""
    INTERNAL = "internal_error"


class Refusal(msgspec.Struct, frozen=True):
    """HTTP form of an ending in which Sluice answers instead of the destination."""

    status: int
    type: str
    retry_after: int | None = None
    """Seconds, for endings that pass by themselves."""


REFUSALS: Mapping[Ending, Refusal] = {
    Ending.INVALID_BODY: Refusal(400, "invalid_request_error"),
    Ending.NOT_JSON: Refusal(415, "invalid_request_error"),
    Ending.UNSUPPORTED_ENCODING: Refusal(415, "invalid_request_error"),
    Ending.BODY_TOO_LARGE: Refusal(413, "invalid_request_error"),
    Ending.TOO_MANY_BODIES: Refusal(503, "server_error", retry_after=1),
    Ending.ROUTE_NOT_FOUND: Refusal(404, "invalid_request_error"),
    Ending.MODEL_NOT_FOUND: Refusal(404, "invalid_request_error"),
    Ending.KEY_MISSING: Refusal(503, "server_error"),
    Ending.METHOD_NOT_ALLOWED: Refusal(405, "invalid_request_error"),
    Ending.OPERATION_NOT_OPEN: Refusal(403, "permission_error"),
    Ending.NO_ENDPOINTS: Refusal(503, "server_error", retry_after=1),
    Ending.UNREADABLE_ANSWER: Refusal(502, "server_error"),
    Ending.CONTENT_DENIED: Refusal(403, "invalid_request_error"),
    Ending.ANSWER_DENIED: Refusal(403, "invalid_request_error"),
    Ending.QUEUE_FULL: Refusal(429, "rate_limit_error", retry_after=1),
    Ending.QUEUE_TIMEOUT: Refusal(503, "server_error", retry_after=1),
    Ending.EVICTED: Refusal(503, "server_error", retry_after=1),
    Ending.RAMPED_OUT: Refusal(403, "permission_error"),
    Ending.RATE_LIMITED: Refusal(429, "rate_limit_error"),
    Ending.TOO_MANY_IN_FLIGHT: Refusal(429, "rate_limit_error", retry_after=1),
    Ending.EXCEEDS_QUOTA: Refusal(429, "rate_limit_error"),
    Ending.STALE_ENVOY: Refusal(503, "server_error"),
    Ending.INTERNAL: Refusal(500, "server_error"),
}


class _ErrorObject(msgspec.Struct, frozen=True):
    message: str
    type: str
    code: str
    param: str | None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _ErrorObject


def error_body(
    ending: Ending, message: str, *, code: str | None = None, param: str | None = None, kind: str | None = None
) -> bytes:
    """OpenAI's error object as JSON. `code` refines the ending's own code, such as `duplicate_key`; `kind` takes the
    place of its type, where the status is another one than usual."""
    error = _ErrorObject(message, kind or REFUSALS[ending].type, code or ending.value, param)
    return msgspec.json.encode(_ErrorBody(error))
