"""Snapshot to live objects: the small piece that each of them needs, compiled once per configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network

import msgspec

from extproc.live.memory import default_body_budget
from extproc.payload.operations.table import chat_path
from extproc.pool.pool import Pool
from extproc.resources.base import HeaderEdits, StringMatch
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.kinds.provider import LLMProvider
from extproc.resources.kinds.route import BackendRef, LLMRoute, RequestMatch
from extproc.resources.kinds.route import Rule as RuleSpec
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot, provider_settings, target_name
from extproc.steps import matching
from extproc.steps.admission import RequestFlow
from extproc.steps.identity import CallerSource, Identity
from extproc.steps.live import Live
from extproc.steps.matching import StringTest
from extproc.steps.protection import Protection
from extproc.steps.routes import Backend, HostRoutes, KeySource, Match, RouteRule, RouteTable
from extproc.steps.watch import Watch


def build(
    snapshot: Snapshot,
    secrets: SecretStore,
    pools: Mapping[str, Pool],
    watches: Mapping[str, Watch] | None = None,
    flow: RequestFlow | None = None,
    queueing: float = 0.0,
    counted: frozenset[str] = frozenset(),
    digest: str = "",
) -> Live:
    """Everything that requests look at. `pools` holds the live pool of every `InferencePool` by name, `watches` the
    live form of every `LLMSecurityPolicy`, `flow` that of the traffic policies, which let wait `queueing` seconds,
    `counted` the pools for which Envoy counts, `digest` tells what Envoy has to be rendered from."""
    gateway = snapshot.gateway.spec
    builder = _Builder(snapshot, secrets, pools, watches or {}, counted)
    hosts = [builder.host(route) for route in snapshot.effective_routes() if _is_for(route, snapshot)]
    exact = {routes.host: routes for routes in hosts if not routes.host.startswith("*")}
    suffixes = [(routes.host[1:], routes) for routes in hosts if routes.host.startswith("*.")]
    sources = tuple(
        CallerSource(entry.name, tuple(ip_network(cidr, strict=False) for cidr in entry.cidrs), entry.labels)
        for entry in gateway.sources
    )
    header = gateway.telemetry.source_header
    return Live(
        table=RouteTable(
            exact=exact,
            suffixes=tuple(sorted(suffixes, key=lambda item: -len(item[0]))),
            default=next((routes for routes in hosts if routes.host == "*"), None),
        ),
        identity=Identity(sources, header.lower() if header else None),
        body_limit=gateway.limits.request_body,
        bodies_limit=gateway.limits.bodies_in_flight or default_body_budget(),
        response_limit=gateway.limits.response_body,
        longest_wait=queueing + max((float(pool.spec.queue.timeout) for pool in snapshot.pools.values()), default=0.0),
        reads_claims=bool(gateway.jwt),
        flow=flow,
        digest=digest,
    )


def _is_for(route: LLMRoute, snapshot: Snapshot) -> bool:
    gateways = route.spec.gateways
    return not gateways or snapshot.gateway.metadata.name in gateways


class _Builder:
    def __init__(
        self,
        snapshot: Snapshot,
        secrets: SecretStore,
        pools: Mapping[str, Pool],
        watches: Mapping[str, Watch],
        counted: frozenset[str],
    ) -> None:
        self._snapshot = snapshot
        self._secrets = secrets
        self._pools = pools
        self._watches = watches
        self._counted = counted

    def host(self, route: LLMRoute) -> HostRoutes:
        rules = tuple(self._rule(route, i, rule) for i, rule in enumerate(route.spec.rules))
        models = dict.fromkeys(name for rule in route.spec.rules for name in self._models(rule))
        return HostRoutes(route.spec.host.lower(), rules, tuple(models))

    def _rule(self, route: LLMRoute, index: int, rule: RuleSpec) -> RouteRule:
        gateway = self._snapshot.gateway.metadata.name
        fitting = [match for match in rule.matches if not match.gateways or gateway in match.gateways]
        prompt = rule.system_prompt
        return RouteRule(
            name=f"{route.metadata.name}/{rule.name or index}",
            backends=tuple(self._watched(route, rule, ref) for ref in rule.backend_refs),
            # a rule whose every match is for other gateways must not become a default
            matches=tuple(_match(match) for match in fitting) or ((_NEVER,) if rule.matches else ()),
            prepend=prompt.prepend if prompt else None,
            append=prompt.append if prompt else None,
            defaults={name: msgspec.json.encode(value) for name, value in rule.parameters.defaults.items()},
            caps=rule.parameters.caps,
            set_headers=_pairs(rule.request_headers),
            remove_headers=tuple(name.lower() for name in rule.request_headers.remove),
            response_set=_pairs(rule.response_headers),
            response_remove=tuple(name.lower() for name in rule.response_headers.remove),
            restore_model=rule.response_model == "requested",
            pass_non_json=rule.non_json_bodies == "pass",
        )

    def _watched(self, route: LLMRoute, rule: RuleSpec, ref: BackendRef) -> Backend:
        """The backend with the security policies that are attached to it."""
        backend = self._backend(rule, ref)
        fitting = self._snapshot.policies_for(route, rule, self._snapshot.resolve(ref))
        watches = tuple(self._watches[policy.metadata.name] for policy in fitting)
        closed = self._snapshot.closes(route.spec.host)
        return replace(backend, watches=watches, protection=_protection(watches, closed=closed))

    def _backend(self, rule: RuleSpec, ref: BackendRef) -> Backend:
        target = self._snapshot.resolve(ref)
        name = target_name(target)
        if isinstance(target, InferencePool):
            served = target.spec
            return Backend(
                name,
                ref.weight,
                model=ref.model,
                envoy_counts=target.metadata.name in self._counted,
                pool=self._pools[target.metadata.name],
                sheddable=frozenset(served.queue.sheddable),
                adapters=frozenset(served.adapters),
                session_header=served.session_header.lower() if served.session_header else None,
            )
        settings = provider_settings(target, rule.name)
        spec = target.spec
        key = None
        if spec.authentication == "key":
            key = _key_source(self._secrets, settings.api_key or "", spec.key_header.prefix)
        return Backend(
            name,
            ref.weight,
            model=ref.model or settings.model,
            stream=settings.stream,
            fill_only=settings.mode == "default" and ref.model is None,
            is_provider=True,
            key_header=spec.key_header.name.lower() if key else None,
            key=key,
            path=None if spec.path is None else chat_path(spec.path),
            include_usage=spec.include_usage,
        )

    def _models(self, rule: RuleSpec) -> Iterator[str]:
        """Names that a client can ask for under a rule: those it matches by, else those of its destinations."""
        exact = [match.model.exact for match in rule.matches if match.model and match.model.exact]
        if exact:
            yield from exact
            return
        for ref in rule.backend_refs:
            target = self._snapshot.resolve(ref)
            if ref.model:
                yield ref.model
            elif isinstance(target, LLMProvider):
                yield from filter(None, (provider_settings(target, rule.name).model,))
            else:
                yield from target.spec.models


def _protection(watches: Sequence[Watch], *, closed: bool) -> Protection:
    """`closed`: a traffic policy wants it."""
    strict = [watch for watch in watches if not watch.dry_run]
    if any(watch.reader is not None for watch in strict):
        return Protection.ANSWERS
    return Protection.CLOSED if strict or closed else Protection.OPEN


_NEVER = Match(path=lambda _path: False)


def _match(match: RequestMatch) -> Match:
    return Match(
        headers=tuple((name.lower(), _test(condition)) for name, condition in match.headers.items()),
        path=_test(match.path) if match.path else None,
        claims=tuple((tuple(name.split(".")), _test(condition)) for name, condition in match.claims.items()),
        source_labels=tuple(match.source_labels.items()),
        model=_test(match.model) if match.model else None,
    )


def _test(condition: StringMatch) -> StringTest:
    if condition.exact is not None:
        return matching.exact(condition.exact)
    if condition.prefix is not None:
        return matching.prefix(condition.prefix)
    return matching.regex(condition.regex or "")


def _pairs(edits: HeaderEdits) -> tuple[tuple[str, bytes], ...]:
    return tuple((name.lower(), value.encode()) for name, value in edits.set.items())


def _key_source(secrets: SecretStore, reference: str, prefix: str) -> KeySource:
    secrets.load([reference])

    def key() -> bytes | None:
        secret = secrets.resolve(reference)
        return None if secret is None else (prefix + secret.reveal()).encode()

    return key
