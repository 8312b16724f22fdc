"""Envoy's own replies as OpenAI error objects. The filter's answers pass as they are."""

from __future__ import annotations

from typing import Literal

import msgspec

from extproc.render.parts import REASON_HEADER, Json, extension
from extproc.render.routes import CLOSED_PREFIX, STALE_PREFIX

ErrorType = Literal["invalid_request_error", "authentication_error", "server_error"]


class _Reply(msgspec.Struct, frozen=True):
    """One kind of local reply: which ones (a CEL expression or Envoy's response flags), and what they become."""

    code: str
    type: ErrorType
    message: str
    when: str | tuple[str, ...]
    status: int | None = None
    """Status to send; None keeps Envoy's."""
    retry_after: int | None = None


_UNREACHABLE = ("DF", "LH", "LR", "NC", "UC", "UF", "UH", "UPE", "UR", "URX")
_TOO_LATE = ("DT", "SI", "UMSDR", "UT")

_REPLIES = (
    _Reply(
        "stale_envoy",
        "server_error",
        "Envoy does not know the destination of this request, as it was rendered from an older configuration: run "
        "`sluice render envoy` again and restart Envoy with what it writes.",
        f"response.code == 503 && xds.route_name.startsWith('{STALE_PREFIX}')",
    ),
    _Reply(
        "filter_unavailable",
        "server_error",
        "The gateway cannot process requests at the moment; try again.",
        f"response.code == 503 && response.code_details == 'no_healthy_upstream'"
        f" && xds.route_name.startsWith('{CLOSED_PREFIX}')",
        retry_after=1,
    ),
    _Reply(
        "filter_unavailable",
        "server_error",
        "The gateway cannot process requests at the moment; try again.",
        "response.code_details.startsWith('ext_proc')",
        status=503,
        retry_after=1,
    ),
    _Reply(
        "body_too_large",
        "invalid_request_error",
        "The request body is larger than the gateway's limit of {limit} bytes.",
        "response.code == 413",
    ),
    _Reply(
        "invalid_token",
        "authentication_error",
        "%LOCAL_REPLY_BODY%",
        # Envoy says 403 of a token for another audience.
        "response.code == 401 || response.code_details.startsWith('jwt_authn')",
        status=401,
    ),
    _Reply(
        "upgrade_unsupported",
        "invalid_request_error",
        "The gateway does not serve this protocol upgrade.",
        "response.code_details == 'upgrade_failed'",
    ),
    _Reply(
        "request_timeout",
        "invalid_request_error",
        "The request did not arrive completely in time.",
        "response.code == 408",
    ),
    _Reply(
        "unsupported_transfer_encoding",
        "invalid_request_error",
        "The only transfer encoding that the gateway knows is `chunked`.",
        "response.code == 501",
    ),
    _Reply(
        "upstream_overloaded",
        "server_error",
        "Too many requests are on their way to the destination; try again.",
        ("UO",),
        retry_after=1,
    ),
    _Reply("upstream_timeout", "server_error", "The destination did not answer in time.", _TOO_LATE),
    _Reply("upstream_unavailable", "server_error", "The destination could not be reached.", _UNREACHABLE),
    _Reply(
        "route_not_found",
        "invalid_request_error",
        "The gateway serves nothing here.",
        "response.code == 404",
    ),
    _Reply(
        "headers_too_large", "invalid_request_error", "The request's headers are too large.", "response.code == 431"
    ),
    _Reply(
        "upgrade_required", "invalid_request_error", "The gateway speaks HTTP/1.1 and HTTP/2.", "response.code == 426"
    ),
    _Reply(
        "bad_request",
        "invalid_request_error",
        "The request is not valid HTTP.",
        "response.code >= 400 && response.code < 500",
    ),
    _Reply("gateway_error", "server_error", "The gateway failed to handle the request.", "true"),
)


def reply_codes() -> tuple[str, ...]:
    """Every `code` and `x-sluice-reason` that Envoy's own replies can carry."""
    return tuple(dict.fromkeys(reply.code for reply in _REPLIES))


def local_replies(body_limit: int) -> Json:
    """`local_reply_config`. The first mapper that fits decides.

    The first of all changes nothing: it keeps what the filter answered, errors with a reason and what is no error.
    """
    own = {"filter": _expression(f"response.code < 400 || '{REASON_HEADER}' in response.headers")}
    return {"mappers": [own, *(_mapper(reply, body_limit) for reply in _REPLIES)]}


def _mapper(reply: _Reply, body_limit: int) -> Json:
    headers = {REASON_HEADER: reply.code}
    if reply.retry_after is not None:
        headers["retry-after"] = str(reply.retry_after)
    message = reply.message.format(limit=body_limit)
    error = {"message": message, "type": reply.type, "code": reply.code, "param": None}
    found: Json = {
        "filter": _expression(reply.when) if isinstance(reply.when, str) else _flags(reply.when),
        "headers_to_add": [
            {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for name, value in headers.items()
        ],
        # Envoy's encoder writes the JSON, so a substituted body is escaped as it has to be.
        "body_format_override": {"json_format": {"error": error}},
    }
    if reply.status is not None:
        found["status_code"] = reply.status
    return found


def _flags(flags: tuple[str, ...]) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _expression(text: str) -> Json:
    expression = extension(
        "envoy.access_loggers.extension_filters.cel",
        "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        expression=text,
    )
    return {"extension_filter": expression}
