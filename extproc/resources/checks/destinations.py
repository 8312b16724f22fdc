"""Checks of `LLMProvider` and `InferencePool`: hosts, keys, addresses."""

from __future__ import annotations

from collections.abc import Iterator

from extproc.pool.policies import POLICIES, BadPolicy, make_policy
from extproc.resources import addresses
from extproc.resources.checks.scope import Located, Scope
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.kinds.provider import LLMProvider, OpenAIConfig
from extproc.resources.kinds.route import LLMRoute
from extproc.resources.problems import Problem, nearest
from extproc.resources.secrets import BadSecretError, find, parse_reference
from extproc.resources.shape import Path
from extproc.resources.snapshot import provider_settings

_DEFAULT: Path = ("spec", "configs", "defaultConfig", "openAIConfig")
_SPECIFIC: Path = ("spec", "configs", "routeSpecificConfigs")
_ALSO_CALLED = {"pd-split": "static-pd"}
"""Other names of policies, too far from ours to be taken for a slip."""


def check_providers(scope: Scope) -> Iterator[Problem]:
    """All checks of all providers."""
    by_host: dict[str, Located] = {}
    routed = {route.spec.host for _, route in scope.of(LLMRoute)}
    for at, provider in scope.of(LLMProvider):
        host = provider.spec.host
        if bad := addresses.bad_host(host, " and `port:` beside it"):
            yield at.error(("spec", "host"), *bad)
        if (other := by_host.setdefault(host, at)) is not at and host not in routed and scope.complete:
            hint = "add an LLMRoute for the host that says `provider:`"
            message = f"requests for this host go to LLMProvider/{other.resource.metadata.name}, which has it too"
            yield at.warning(("spec", "host"), message, hint)
        yield from _rule_settings(scope, at, provider)
        yield from _keys(scope, at, provider)


def _policy(at: Located, pool: InferencePool) -> Iterator[Problem]:
    config = pool.spec.policy_config
    if config.name not in POLICIES and ":" not in config.name:
        meant = _ALSO_CALLED.get(config.name)
        hint = f"means `{meant}`" if meant is not None else nearest(config.name, POLICIES)
        yield at.error(("spec", "policy"), f"unknown policy {config.name!r}", hint)
        return
    try:
        make_policy(config)
    except BadPolicy as error:
        yield at.error(("spec", "policy"), str(error))
    if pool.spec.session_header and not config.parameters.get("sessionWeight") and ":" not in config.name:
        message = f"{config.name} keeps no sessions together, as its `sessionWeight` is 0"
        yield at.warning(
            ("spec", "sessionHeader"), message, "write `policy: {name: …, parameters: {sessionWeight: 0.3}}`"
        )


def check_pools(scope: Scope) -> Iterator[Problem]:
    """All checks of all pools."""
    for at, pool in scope.of(InferencePool):
        path: Path = ("spec", "endpoints")
        yield from _policy(at, pool)
        if not pool.spec.endpoints and pool.spec.membership == "static":
            hint = "list them, or write `membership: agents` for those that agents register"
            yield at.error(path, "a pool needs at least one endpoint", hint)
        first: dict[str, int] = {}
        for index, endpoint in enumerate(pool.spec.endpoints):
            place: Path = (*path, index, "address")
            try:
                addresses.split(endpoint.address)
            except ValueError as error:
                yield at.error(place, f"not a valid address: {error}")
            if (other := first.setdefault(endpoint.address.lower(), index)) != index:
                yield at.error(place, f"the same address as `endpoints[{other}]`")


def _rule_settings(scope: Scope, at: Located, provider: LLMProvider) -> Iterator[Problem]:
    """Settings for rules that exist."""
    if not scope.complete:
        return
    names = {rule.name for _, rule in scope.rules_of(provider) if rule.name}
    for name in provider.spec.configs.route_specific_configs:
        if name not in names:
            hint = nearest(name, names)
            yield at.warning((*_SPECIFIC, name), "no rule of this name sends requests to this provider", hint)


def _keys(scope: Scope, at: Located, provider: LLMProvider) -> Iterator[Problem]:
    """Every way of calling the provider has a key that can be read."""
    configs = provider.spec.configs
    settings: dict[Path, OpenAIConfig] = {_DEFAULT: configs.default_config.open_ai_config}
    for name, config in configs.route_specific_configs.items():
        settings[(*_SPECIFIC, name, "openAIConfig")] = config.open_ai_config
    for path, each in settings.items():
        if each.api_key is not None:
            yield from check_key(scope, at, (*path, "apiKey"), each.api_key)
    if provider.spec.authentication == "none" or settings[_DEFAULT].api_key is not None:
        return
    if not scope.complete:
        return
    rules = [rule for _, rule in scope.rules_of(provider)]
    without = [rule for rule in rules if provider_settings(provider, rule.name).api_key is None]
    if rules and not without:
        return
    users = sorted({f"rule `{rule.name}`" if rule.name else "a rule without a name" for rule in without})
    message = f"no apiKey for {', '.join(users)}" if users else "no apiKey"
    hint = "write `apiKey: ${NAME}` here, or `authentication: none` into the spec"
    yield at.error(_DEFAULT, message, hint)


def check_key(scope: Scope, at: Located, path: Path, text: str) -> Iterator[Problem]:
    """Whether there is a key where a reference points. Keys in manifests are allowed, with a warning."""
    literal = parse_reference(text).source == "literal"
    if literal and text.strip().startswith("$"):
        hint = "`${NAME}` reads the environment, `${file:PATH}` a file"
        yield at.error(path, "not a reference to a key", hint)
        return
    try:
        find(text, scope.environ, scope.snapshot.directory)
    except BadSecretError as error:
        yield at.error(path, str(error), "" if literal else _set_hint(text))
        return
    if literal:
        hint = "write `${NAME}` to read the environment or `${file:PATH}` to read a file"
        yield at.warning(path, "a key in a manifest is easily copied and committed", hint)


def _set_hint(text: str) -> str:
    reference = parse_reference(text)
    return "" if reference.source == "file" else "set it, or write `${file:PATH}` to read a file"
