"""Checks of `LLMRoute`: hosts, rules, matches and the destinations they name."""

from __future__ import annotations

from collections.abc import Iterator

from extproc.resources.addresses import bad_host
from extproc.resources.checks.scope import Located, Scope
from extproc.resources.kinds.route import BackendRef, LLMRoute, RequestMatch, Rule
from extproc.resources.problems import Problem, nearest
from extproc.resources.shape import Path

_KINDS = {"provider_host": "providerHost", "provider": "provider", "pool": "pool", "backend_ref": "backendRef"}


def check_routes(scope: Scope) -> Iterator[Problem]:
    """All checks of all routes."""
    hosts: dict[str, Located] = {}
    for at, route in scope.of(LLMRoute):
        host = route.spec.host
        if host != "*" and (bad := bad_host(host.removeprefix("*."), ": a route takes every port of its host")):
            yield at.error(("spec", "host"), *bad)
        if (other := hosts.setdefault(host.lower(), at)) is not at:
            message = f"LLMRoute/{other.resource.metadata.name} has this host already"
            yield at.error(("spec", "host"), message, f"put the rules into one route, see {other.place}")
        yield from _rules(scope, at, route)


def _rules(scope: Scope, at: Located, route: LLMRoute) -> Iterator[Problem]:
    rules = route.spec.rules
    if not rules:
        yield at.error(("spec", "rules"), "a route needs at least one rule")
    names: set[str] = set()
    default: int | None = None
    for index, rule in enumerate(rules):
        path: Path = ("spec", "rules", index)
        if default is not None:
            hint = f"`rules[{default}]` before it has no conditions and takes every request"
            yield at.warning(path, "this rule is never reached", hint)
        elif not rule.matches or any(match == RequestMatch() for match in rule.matches):
            default = index
        if rule.name and rule.name in names:
            yield at.warning((*path, "name"), "another rule of this route has this name")
        names.add(rule.name)
        yield from _destinations(scope, at, rule, path)
        for position, match in enumerate(rule.matches):
            yield from _match(scope, at, match, (*path, "matches", position))


def _destinations(scope: Scope, at: Located, rule: Rule, path: Path) -> Iterator[Problem]:
    refs = rule.backend_refs
    if not refs:
        yield at.error((*path, "backendRefs"), "a rule needs at least one destination")
    elif not any(ref.weight for ref in refs):
        yield at.error((*path, "backendRefs"), "all weights are 0, so no destination gets requests")
    for index, ref in enumerate(refs):
        place: Path = (*path, "backendRefs", index)
        given = [outside for inside, outside in _KINDS.items() if getattr(ref, inside) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(f'`{kind}`' for kind in given)}" if given else "found none"
            yield at.error(place, f"give exactly one of {', '.join(f'`{kind}`' for kind in _KINDS.values())}", found)
        else:
            yield from _exists(scope, at, ref, place)


def _exists(scope: Scope, at: Located, ref: BackendRef, path: Path) -> Iterator[Problem]:
    """The destination is there, and only one."""
    providers = scope.snapshot.providers
    hosts = [provider.spec.host for provider in providers.values()]
    if ref.provider_host is not None:
        place, kind, name, known = "providerHost", "LLMProvider with host", ref.provider_host, set(hosts)
    elif ref.provider is not None:
        place, kind, name, known = "provider", "LLMProvider", ref.provider, set(providers)
    else:
        name = ref.pool if ref.pool is not None else ref.backend_ref.name if ref.backend_ref else ""
        place, kind, known = (
            "pool" if ref.pool is not None else "backendRef",
            "InferencePool",
            set(scope.snapshot.pools),
        )
    if name not in known:
        if scope.complete:
            yield at.error((*path, place), f"there is no {kind} `{name}`", nearest(name, known))
    elif place == "providerHost" and hosts.count(name) > 1:
        sharing = sorted(each for each, provider in providers.items() if provider.spec.host == name)
        hint = f"write `provider:` with one of {', '.join(sharing)}"
        yield at.error((*path, place), f"{len(sharing)} providers have this host", hint)


def _match(scope: Scope, at: Located, match: RequestMatch, path: Path) -> Iterator[Problem]:
    if not scope.complete:
        return
    spec = scope.snapshot.gateway.spec
    assigned: dict[str, set[str]] = {}
    for source in spec.sources:
        for label, value in source.labels.items():
            assigned.setdefault(label, set()).add(value)
    for label, value in match.source_labels.items():
        place: Path = (*path, "sourceLabels", label)
        if label not in assigned:
            hint = nearest(label, assigned) or "give the Gateway `spec.sources` with labels"
            yield at.error(place, "no source of the Gateway has this label", hint)
        elif value not in assigned[label]:
            yield at.error(
                place, f"no source of the Gateway has this label with value `{value}`", nearest(value, assigned[label])
            )
    if match.claims and not spec.jwt:
        hint = "name the issuer in `spec.jwt` of the Gateway"
        yield at.error((*path, "claims"), "claims are known only from verified tokens", hint)
