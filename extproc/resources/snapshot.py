"""One immutable view of the whole configuration; a request uses one from its start to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from extproc.resources.base import API_VERSIONS, Metadata
from extproc.resources.kinds.gateway import Gateway
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.kinds.provider import LLMProvider, OpenAIConfig
from extproc.resources.kinds.route import BackendRef, LLMRoute, LLMRouteSpec, Rule
from extproc.resources.kinds.security import LLMSecurityPolicy
from extproc.resources.kinds.selectors import ANY_SERVICE
from extproc.resources.kinds.traffic import TrafficPolicy

Resource = LLMProvider | LLMRoute | InferencePool | LLMSecurityPolicy | TrafficPolicy | Gateway


def default_gateway() -> Gateway:
    """The gateway of a configuration that names none."""
    return Gateway(api_version=API_VERSIONS[0], kind="Gateway", metadata=Metadata(name="default"))


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All resources, keyed by name, cross-checked: every reference in it resolves."""

    gateway: Gateway = msgspec.field(default_factory=default_gateway)
    providers: Mapping[str, LLMProvider] = {}
    routes: Mapping[str, LLMRoute] = {}
    pools: Mapping[str, InferencePool] = {}
    security: Mapping[str, LLMSecurityPolicy] = {}
    traffic: Mapping[str, TrafficPolicy] = {}
    """By `KIND/NAME`."""
    directory: Path = Path()
    """What relative file names in the manifests are relative to."""

    def effective_routes(self) -> Iterator[LLMRoute]:
        """Every route, and for a provider whose host no route names, one that sends its host to it."""
        yield from self.routes.values()
        named = {route.spec.host for route in self.routes.values()}
        for provider in self.providers.values():
            host = provider.spec.host
            if host in named:
                continue
            named.add(host)
            rule = Rule(backend_refs=[BackendRef(provider=provider.metadata.name)])
            yield LLMRoute(
                api_version=provider.api_version,
                kind="LLMRoute",
                metadata=Metadata(name=provider.metadata.name, namespace=provider.metadata.namespace),
                spec=LLMRouteSpec(host=host, rules=[rule]),
            )

    def policies_for(self, route: LLMRoute, rule: Rule, target: LLMProvider | InferencePool) -> list[LLMSecurityPolicy]:
        """Security policies that hold for requests of a rule to one of its targets, in the order of their names."""
        names = {"host": route.spec.host, "route": route.metadata.name, "rule": f"{route.metadata.name}/{rule.name}"}
        fitting = (each for _, each in sorted(self.security.items()))
        return [each for each in fitting if each.spec.targets.fit(**names, target=target_name(target))]

    def names(self) -> frozenset[tuple[str, str]]:
        """Every resource but the gateway, as kind and name."""
        rooms = {"p": self.providers, "r": self.routes, "i": self.pools, "s": self.security, "t": self.traffic}
        return frozenset((room, name) for room, found in rooms.items() for name in found)

    def closes(self, host: str) -> bool:
        """Whether a traffic policy wants the requests of a route's host refused while the filter is away."""
        strict = (each for each in self.traffic.values() if each.spec.filter_away == "closed" and not each.spec.dry_run)
        for policy in strict:
            services = {selector.service.lower() for selector in policy.spec.selectors} or {""}
            if not services.isdisjoint({*ANY_SERVICE, host.lower()}):
                return True
        return False

    def resolve(self, ref: BackendRef) -> LLMProvider | InferencePool:
        """The destination of a reference. Raises KeyError for one that does not exist."""
        if ref.pool is not None:
            return self.pools[ref.pool]
        if ref.backend_ref is not None:
            return self.pools[ref.backend_ref.name]
        if ref.provider is not None:
            return self.providers[ref.provider]
        for provider in self.providers.values():
            if provider.spec.host == ref.provider_host:
                return provider
        raise KeyError(ref.provider_host)


def target_name(target: LLMProvider | InferencePool) -> str:
    """The name that dynamic metadata, Envoy routes and clusters share: `provider/NAME` or `pool/NAME`."""
    room = "provider" if isinstance(target, LLMProvider) else "pool"
    return f"{room}/{target.metadata.name}"


def provider_settings(provider: LLMProvider, rule: str) -> OpenAIConfig:
    """Settings of a provider for one rule: the rule's own values over the defaults, field by field."""
    configs = provider.spec.configs
    default = configs.default_config.open_ai_config
    specific = configs.route_specific_configs.get(rule)
    if specific is None:
        return default
    own = specific.open_ai_config
    return OpenAIConfig(
        model=default.model if own.model is None else own.model,
        stream=default.stream if own.stream is None else own.stream,
        api_key=default.api_key if own.api_key is None else own.api_key,
        mode=own.mode,
    )
