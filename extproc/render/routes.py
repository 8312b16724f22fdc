"""Routes to Envoy virtual hosts: target routes for processed requests, then the way of unprocessed ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from extproc.render.parts import CLOSED_CLUSTER, EXT_PROC, NAMESPACE, REASON_HEADER, Json, extension, seconds, typed
from extproc.render.unprocessed import Unprocessed, unprocessed_steps
from extproc.render.usage import ENVOY_COUNTS, counted_route
from extproc.resources.base import StringMatch
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.kinds.provider import LLMProvider, Timeouts
from extproc.resources.kinds.route import LLMRoute, RequestMatch, Rule
from extproc.resources.snapshot import Snapshot, target_name
from extproc.steps.protection import HEADER as PROTECTION_HEADER
from extproc.steps.protection import Protection, Rendered

ROUTE_CONFIGURATION = "gateway"
STALE_PREFIX = "stale/"
"""Names of routes for requests whose destination this Envoy does not know."""
CLOSED_PREFIX = "closed/"
"""Names of routes that answer 503 while the filter is away."""
OPEN_PREFIX = "open/"
KINDS = ("stream", "unary")

_PRIVATE_HEADERS = ["forwarded", "via", "x-envoy-external-address", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"]
"""What a provider outside need not know about the network inside."""
_PER_ROUTE = "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
_FAIL_CLOSED: Json = {EXT_PROC: typed(_PER_ROUTE, overrides={"failure_mode_allow": False})}
"""For answers that are looked into: the rest of one must not pass without the filter."""
_UNPROCESSED: Json = {
    "filter": NAMESPACE,
    "path": [{"key": "target"}],
    "value": {"present_match": True},
    "invert": True,
}
"""Metadata of a request that the filter has not sent anywhere."""
_SLACK = 5.0
"""Seconds by which the idle timeout of a request exceeds its timeout, so that the clearer error wins."""


def route_configuration(snapshot: Snapshot, counted: frozenset[str] = frozenset()) -> Json:
    """The whole routing table. A `*` host always exists, so that every request meets the filter and its limits.
    `counted`: pools of which Envoy may count streamed answers."""
    return _route_configuration(snapshot, counted, digest(snapshot))


def _route_configuration(snapshot: Snapshot, counted: frozenset[str], envoy: str) -> Json:
    """`envoy` is the digest that it will tell the filter."""
    rules_of = _rules_by_host(snapshot)
    return {
        "name": ROUTE_CONFIGURATION,
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [
            _virtual_host(host, rules, snapshot, counted, envoy) for host, rules in sorted(rules_of.items())
        ],
    }


def digest(snapshot: Snapshot) -> str:
    """Tells whether an Envoy was rendered from this configuration: of all that its configuration depends on, and the
    same on every machine and for every address of the filter."""
    gateway = snapshot.gateway.spec
    parts = (
        _route_configuration(snapshot, frozenset(), ""),
        [(each.spec.host, each.spec.effective_port, each.spec.protocol) for each in snapshot.providers.values()],
        [(name, pool.spec.membership, pool.spec.endpoints) for name, pool in sorted(snapshot.pools.items())],
        (gateway.listener, gateway.host_aliases, gateway.limits, gateway.jwt, gateway.trusted_ca),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


class _Served(msgspec.Struct, frozen=True):
    """A rule as this gateway serves it."""

    rule: Rule
    guarded: bool
    """Whether a security policy holds for any of its requests."""
    watched: frozenset[str]
    """Targets whose answers a security policy looks into."""


def _rules_by_host(snapshot: Snapshot) -> dict[str, list[_Served]]:
    """What this gateway serves: rules and matches meant for other gateways only are left out."""
    gateway = snapshot.gateway.metadata.name
    found: dict[str, list[_Served]] = {"*": []}
    for route in snapshot.effective_routes():
        if route.spec.gateways and gateway not in route.spec.gateways:
            continue
        rules = found.setdefault(route.spec.host.lower(), [])
        for rule in route.spec.rules:
            matches = [match for match in rule.matches if not match.gateways or gateway in match.gateways]
            if matches or not rule.matches:
                everywhere = [msgspec.structs.replace(match, gateways=[]) for match in matches]
                rules.append(_served(snapshot, route, msgspec.structs.replace(rule, matches=everywhere)))
    return found


def _served(snapshot: Snapshot, route: LLMRoute, rule: Rule) -> _Served:
    targets = [snapshot.resolve(ref) for ref in rule.backend_refs]
    policies = {target_name(target): snapshot.policies_for(route, rule, target) for target in targets}
    policies = {name: [each for each in found if not each.spec.dry_run] for name, found in policies.items()}
    watched = {name for name, found in policies.items() if any(each.spec.inspect.response for each in found)}
    return _Served(rule, any(policies.values()) or snapshot.closes(route.spec.host), frozenset(watched))


def _virtual_host(host: str, served: list[_Served], snapshot: Snapshot, counted: frozenset[str], envoy: str) -> Json:
    rules = [each.rule for each in served]
    watched = frozenset[str]().union(*(each.watched for each in served))
    guarded = {i for i, each in enumerate(served) if each.guarded}
    targets = {target_name(found): found for found in _targets(rules, snapshot)}
    routes = [_target_route(name, targets[name], kind) for name in sorted(targets) for kind in KINDS]
    idle = max((target.spec.timeouts.idle for target in targets.values()), default=Timeouts().idle)
    for route, name in zip(routes, (name for name in sorted(targets) for _ in KINDS), strict=True):
        if name in watched:
            route["typed_per_filter_config"] = _FAIL_CLOSED
    of_pools = [name for name, found in targets.items() if isinstance(found, InferencePool)]
    counting = {f"{name} stream" for name in of_pools if name.removeprefix("pool/") in counted}
    routes = [*(_counting_route(route) for route in routes if route["name"] in counting), *routes]
    steps = unprocessed_steps(rules, snapshot, guarded)
    for i, step in enumerate(steps):
        # Envoy takes the settings of the route that a request has when its stream to the filter begins.
        told = _told(envoy, step, watched=bool(watched))
        routes.append(_unprocessed_route(host, i, step, snapshot, idle) | {"typed_per_filter_config": told})
    closed = {"cluster": CLOSED_CLUSTER, "idle_timeout": seconds(idle)}
    routes.append({"name": STALE_PREFIX + host, "match": {"prefix": "/"}, "route": closed})
    for route in routes:
        route["request_body_buffer_limit"] = int(snapshot.gateway.spec.limits.request_body)
    return {"name": host, "domains": [host], "routes": routes}


def _told(envoy: str, step: Unprocessed, *, watched: bool) -> Json:
    """The filter's settings on a route for unprocessed requests, among them what Envoy tells it."""
    protection = Protection.OPEN if step.pool is not None else Protection.CLOSED
    said = Rendered(envoy, Protection.ANSWERS if watched else protection).written()
    overrides: Json = {"grpc_initial_metadata": [{"key": PROTECTION_HEADER, "value": said}]}
    if watched:
        overrides["failure_mode_allow"] = False
    return {EXT_PROC: typed(_PER_ROUTE, overrides=overrides)}


def _targets(rules: Iterable[Rule], snapshot: Snapshot) -> Iterable[LLMProvider | InferencePool]:
    return (snapshot.resolve(ref) for rule in rules for ref in rule.backend_refs)


def _target_route(name: str, target: LLMProvider | InferencePool, kind: str) -> Json:
    """Route of the requests that the filter has sent to `target`: no client can forge what it matches on."""
    timeouts = target.spec.timeouts
    if isinstance(target, LLMProvider):
        action, removed = _provider_action(target, kind), _PRIVATE_HEADERS
    else:
        action, removed = {"retry_policy": _pool_retries(target, kind)}, []
    action["cluster"] = name
    action["timeout"] = seconds(timeouts.stream if kind == "stream" else timeouts.unary)
    action["idle_timeout"] = seconds(_idle(target) if kind == "stream" else timeouts.unary + _SLACK)
    route: Json = {
        "name": f"{name} {kind}",
        "match": {"prefix": "/", "dynamic_metadata": [_metadata("target", name), _metadata("kind", kind)]},
        "route": action,
        # The header speaks for the gateway; an upstream must not.
        "response_headers_to_remove": [REASON_HEADER],
    }
    if removed:
        route["request_headers_to_remove"] = list(removed)
    return route


def _counting_route(route: Json) -> Json:
    """The same for requests whose answer Envoy counts; it has to stand in front."""
    marked = {"filter": NAMESPACE, "path": [{"key": ENVOY_COUNTS}], "value": {"bool_match": True}}
    match = {**route["match"], "dynamic_metadata": [*route["match"]["dynamic_metadata"], marked]}
    settings = {**route.get("typed_per_filter_config", {}), **counted_route()}
    return {**route, "name": f"{route['name']} counted", "match": match, "typed_per_filter_config": settings}


def _metadata(key: str, value: str) -> Json:
    return {"filter": NAMESPACE, "path": [{"key": key}], "value": {"string_match": {"exact": value}}}


def _provider_action(provider: LLMProvider, kind: str) -> Json:
    spec = provider.spec
    default_port = 443 if spec.protocol == "https" else 80
    host = spec.host if spec.effective_port == default_port else f"{spec.host}:{spec.effective_port}"
    action: Json = {"host_rewrite_literal": host}
    if kind == "unary" and spec.retries.attempts > 0:
        conditions = [*spec.retries.on]
        policy: Json = {"num_retries": spec.retries.attempts, "per_try_timeout": seconds(spec.timeouts.per_try)}
        if spec.retries.status_codes:
            policy["retriable_status_codes"] = [*spec.retries.status_codes]
            policy["retry_on"] = ",".join([*conditions, "retriable-status-codes"])
        else:
            policy["retry_on"] = ",".join(conditions)
        if 429 in spec.retries.status_codes:
            policy["rate_limited_retry_back_off"] = _as_asked(spec.timeouts.unary, spec.retries.attempts)
        action["retry_policy"] = policy
    return action


def _as_asked(timeout: float, attempts: int) -> Json:
    """The next attempt comes when `retry-after` says. Not in a pool, where it goes to another endpoint at once.

    All waits together take half of the request's time at most. Envoy adds up to half to each, and goes by its usual
    back-off where the header asks for more."""
    return {
        "reset_headers": [{"name": "retry-after", "format": "SECONDS"}],
        "max_interval": seconds(timeout / (3 * attempts)),
    }


def _pool_retries(pool: InferencePool, kind: str | None) -> Json:
    """`reset` covers an upstream that closes without a word. Failed endpoints are not picked again."""
    policy: Json = {
        "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
        "retriable_status_codes": [429, 503],
        "num_retries": pool.spec.retry_count,
        "retry_host_predicate": [
            extension(
                "envoy.retry_host_predicates.previous_hosts",
                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": 5,
    }
    if kind == "unary":
        policy["per_try_timeout"] = seconds(pool.spec.timeouts.per_try)
    if kind == "stream":  # an endpoint that falls silent: before its first byte, another one is tried
        policy["per_try_idle_timeout"] = seconds(pool.spec.timeouts.idle)
    return policy


def _idle(target: LLMProvider | InferencePool) -> float:
    """Silence after which a streamed request ends: of one attempt at a provider, of all of them in a pool."""
    if isinstance(target, LLMProvider):
        return target.spec.timeouts.idle
    return target.spec.timeouts.idle * (1 + target.spec.retry_count) + _SLACK


def _unprocessed_route(host: str, number: int, step: Unprocessed, snapshot: Snapshot, idle: float) -> Json:
    """Also the route that a request has while the filter looks at it, so its limits are those of the upload.

    It leads to a cluster even where the answer is a 503, because Envoy applies body limits and idle timeouts of a route
    only if it is no `direct_response`.
    """
    match = _match(step.match) | {"dynamic_metadata": [_UNPROCESSED]}
    name = f"{host}/{number}"
    if step.pool is None:
        closed = {"cluster": CLOSED_CLUSTER, "idle_timeout": seconds(idle)}
        return {"name": CLOSED_PREFIX + name, "match": match, "route": closed}
    pool = snapshot.pools[step.pool]
    timeouts = pool.spec.timeouts
    action = {
        "cluster": target_name(pool),
        "timeout": seconds(max(timeouts.stream, timeouts.unary)),
        "idle_timeout": seconds(max(idle, timeouts.unary + _SLACK)),
        "retry_policy": _pool_retries(pool, None),
    }
    return {
        "name": OPEN_PREFIX + name,
        "match": match,
        "route": action,
        "response_headers_to_remove": [REASON_HEADER],
    }


def _match(match: RequestMatch | None) -> Json:
    if match is None:
        return {"prefix": "/"}
    found = _path(match.path)
    if match.headers:
        found["headers"] = [_header(name.lower(), wanted) for name, wanted in sorted(match.headers.items())]
    return found


def _header(name: str, wanted: StringMatch) -> Json:
    if wanted.prefix == "":  # Envoy takes no empty prefix: any value will do
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": _string(wanted)}


def _path(wanted: StringMatch | None) -> Json:
    if wanted is None:
        return {"prefix": "/"}
    if wanted.exact is not None:
        return {"path": wanted.exact}
    if wanted.regex is not None:
        return {"safe_regex": {"regex": wanted.regex}}
    return {"prefix": wanted.prefix}


def _string(wanted: StringMatch) -> Json:
    if wanted.exact is not None:
        return {"exact": wanted.exact}
    if wanted.regex is not None:
        return {"safe_regex": {"regex": wanted.regex}}
    return {"prefix": wanted.prefix}
