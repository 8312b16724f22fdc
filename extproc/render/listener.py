"""The gateway's listener: entrance hygiene, token checks, the filter, the router and the access log."""

from __future__ import annotations

from extproc.render.parts import (
    DESTINATION,
    DESTINATION_NAMESPACE,
    EXT_PROC,
    FILTER_CLUSTER,
    JWT_NAMESPACE,
    NAMESPACE,
    REASON_HEADER,
    Json,
    extension,
    key_set_cluster,
    seconds,
    socket_address,
    typed,
)
from extproc.render.replies import local_replies
from extproc.render.usage import USAGE_NAMESPACE, counting, without_event
from extproc.resources.kinds.gateway import AccessLog, GatewaySpec, JwtProvider
from extproc.resources.snapshot import Snapshot

LISTENER = "gateway"
STAT_PREFIX = "gateway"

_HTTP = "envoy.extensions.filters.http"
_NAME = "envoy.filters.http"
_ORIGINAL_PATH = "sluice.path"
_ORIGINAL_AUTHORITY = "sluice.authority"

LOG_FIELDS = {
    "time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "authority": f"%FILTER_STATE({_ORIGINAL_AUTHORITY}:PLAIN)%",
    "path": f"%FILTER_STATE({_ORIGINAL_PATH}:PLAIN)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "reason": f"%RESP({REASON_HEADER})%",
    "upstream_host": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
} | {
    name: f"%DYNAMIC_METADATA({NAMESPACE}:{name})%"
    for name in (
        "source",
        "route",
        "target",
        "kind",
        "provider",
        "requested_model",
        "model",
        "endpoint",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "usage_estimated",
        "time_to_first_token_ms",
    )
}
"""Field name to Envoy format. Path and authority are the client's; those sent on may differ."""


def listener(snapshot: Snapshot, *, counts: bool = False) -> Json:
    """The listener without its routes: `http_manager` finds the place where they belong.
    `counts`: Envoy counts the tokens of streamed answers."""
    spec = snapshot.gateway.spec
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=STAT_PREFIX,
        **_entrance(spec.listener.trusted_hops),
        local_reply_config=local_replies(int(spec.limits.request_body)),
        http_filters=_http_filters(snapshot, counts=counts),
    )
    if spec.access_log.enabled:
        manager["access_log"] = [_access_log(spec.access_log)]
    return {
        "name": LISTENER,
        "address": socket_address(spec.listener.address, spec.listener.port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def http_manager(found: Json) -> Json:
    """The HTTP connection manager inside a listener, which takes `rds` or `route_config`."""
    manager: Json = found["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def _entrance(trusted_hops: int) -> Json:
    """What a client may send, and what must not come from one."""
    return {
        "use_remote_address": True,
        "xff_num_trusted_hops": trusted_hops,
        "generate_request_id": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "normalize_path": True,
        "merge_slashes": True,
        "strip_trailing_host_dot": True,
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "localhost"},
        "common_http_protocol_options": {"headers_with_underscores_action": "ALLOW"},
        # Routes replace the stream's timeout; this one holds where no route is found.
        "stream_idle_timeout": "300s",
        "request_headers_timeout": "60s",
        "early_header_mutation_extensions": [
            extension(
                "envoy.http.early_header_mutation.header_mutation",
                "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                mutations=[
                    {"remove_on_match": {"key_matcher": {"prefix": "x-sluice-"}}},
                    {"remove": DESTINATION},
                    {"remove": "x-prefiller-host-port"},
                ],
            )
        ],
    }


def _http_filters(snapshot: Snapshot, *, counts: bool) -> list[Json]:
    spec = snapshot.gateway.spec
    filters = [
        _remember(),
        *((without_event(), _filter(spec, counts=True), counting()) if counts else (_filter(spec, counts=False),)),
        extension(f"{_NAME}.router", f"{_HTTP}.router.v3.Router", **_QUIET),
    ]
    if spec.jwt:
        filters.insert(1, _jwt(spec.jwt, snapshot))
    return filters


_QUIET = {"suppress_envoy_headers": True}
"""Envoy's timings and timeouts are no business of clients and providers."""


def _remember() -> Json:
    """Keeps path and authority for the access log before anything rewrites them. Queries may hold credentials."""
    kept = {_ORIGINAL_PATH: "%PATH(NQ:PATH)%", _ORIGINAL_AUTHORITY: "%REQ(:AUTHORITY)%"}
    return extension(
        f"{_NAME}.set_filter_state",
        f"{_HTTP}.set_filter_state.v3.Config",
        on_request_headers=[
            {
                "object_key": key,
                "factory_key": "envoy.string",
                "format_string": {"text_format_source": {"inline_string": form}},
            }
            for key, form in kept.items()
        ],
    )


def _filter(spec: GatewaySpec, *, counts: bool) -> Json:
    """ext_proc. Response headers are sent only where the filter's first reply overrides the mode to ask for them.

    With SEND here, Envoy's answers to malformed requests would be held for the filter and lost when Envoy closes the
    connection right after them; and every reply while the filter is away would try it once more.
    """
    retries = {
        "retry_on": "unavailable,connect-failure,reset",
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.050s"},
    }
    return extension(
        EXT_PROC,
        f"{_HTTP}.ext_proc.v3.ExternalProcessor",
        stat_prefix="sluice",
        grpc_service={"envoy_grpc": {"cluster_name": FILTER_CLUSTER}, "retry_policy": retries},
        # A request that the filter has not processed finds only the routes for unprocessed requests.
        failure_mode_allow=True,
        processing_mode={
            "request_header_mode": "SEND",
            "request_body_mode": "BUFFERED",
            "request_trailer_mode": "SKIP",
            "response_header_mode": "SKIP",
            "response_body_mode": "NONE",
            "response_trailer_mode": "SKIP",
        },
        allow_mode_override=True,
        message_timeout=seconds(spec.limits.message_timeout),
        max_message_timeout="3600s",
        mutation_rules={"allow_all_routing": True, "allow_envoy": True},
        metadata_options={
            "receiving_namespaces": {"untyped": [NAMESPACE, DESTINATION_NAMESPACE]},
            "forwarding_namespaces": {
                "untyped": [JWT_NAMESPACE, DESTINATION_NAMESPACE],
                **({"typed": [USAGE_NAMESPACE]} if counts else {}),
            },
        },
    )


def _jwt(providers: list[JwtProvider], snapshot: Snapshot) -> Json:
    """A token that is present must be valid; one must be present if any provider requires it."""
    either: list[Json] = [{"provider_name": provider.name} for provider in providers]
    if not any(provider.required for provider in providers):
        either.append({"allow_missing": {}})
    required = either[0] if len(either) == 1 else {"requires_any": {"requirements": either}}
    return extension(
        f"{_NAME}.jwt_authn",
        f"{_HTTP}.jwt_authn.v3.JwtAuthentication",
        providers={provider.name: _jwt_provider(provider, snapshot) for provider in providers},
        rules=[{"match": {"prefix": "/"}, "requires": required}],
    )


def _jwt_provider(provider: JwtProvider, snapshot: Snapshot) -> Json:
    found: Json = {"issuer": provider.issuer, "payload_in_metadata": provider.name}
    if provider.by_url:
        found["remote_jwks"] = {
            "http_uri": {"uri": provider.jwks, "cluster": key_set_cluster(provider), "timeout": "5s"},
            "cache_duration": seconds(provider.jwks_refresh),
            # before the first request, and again before the keys get old; a server that is away delays the start only
            "async_fetch": {"failed_refetch_duration": "1s"},
        }
    elif provider.jwks.startswith("file:"):
        file = (snapshot.directory / provider.jwks.removeprefix("file:")).absolute()
        found["local_jwks"] = {"filename": str(file)}
    else:
        found["local_jwks"] = {"inline_string": provider.jwks}
    if provider.audiences:
        found["audiences"] = list(provider.audiences)
    return found


def _access_log(log: AccessLog) -> Json:
    fields = {name: form for name, form in (LOG_FIELDS | log.fields).items() if form}
    return extension(
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=log.path,
        log_format={"json_format": fields},
    )
