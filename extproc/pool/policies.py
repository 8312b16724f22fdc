"""The policies by name, their parameters, and how a user's own one is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from extproc.pool.cache_forecast import CacheForecast, CacheForecastParameters
from extproc.pool.policy import Filter, Learner, LeastRequests, LongestUnpicked, Policy, ScoredPolicy, Scorer
from extproc.pool.roles import DynamicParameters, DynamicSplit, StaticParameters, StaticSplit
from extproc.pool.scorers import (
    FewestRunning,
    KvFree,
    LeastTokens,
    LoraAffinity,
    LoraReady,
    NotSaturated,
    QueueLength,
    SessionAffinity,
)
from extproc.pool.ttft import EarliestFirstToken

DEFAULT = "prefix-cache"
"""The policy of a pool that names none."""


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as a resource names it."""

    name: str = DEFAULT
    """A key of `POLICIES`, or `module:Class` of a user's own policy."""
    parameters: dict[str, Any] = {}
    """camelCase, as documented at the policy's parameters; for a user's own class its keyword arguments."""


class BadPolicy(ValueError):
    """No such policy, or parameters that it does not take. The text says what is allowed."""


class NoParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a policy that has none."""


class RequestParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Of `least-request`. A weight is against the policy's own score: 0 for the worst endpoint, 1 for the best."""

    session_weight: float = 0.0
    """How much a session's own endpoint is preferred. 1: it must be as bad as the worst to be left."""
    lora_weight: float = 1.0
    """How much an endpoint that has a request's LoRA adapter is preferred."""


class TokenParameters(CacheForecastParameters, frozen=True, kw_only=True):
    """Of `least-token`."""

    session_weight: float = 0.0
    """As for `least-request`."""
    lora_weight: float = 1.0
    """As for `least-request`."""


class PrefixParameters(TokenParameters, frozen=True, kw_only=True):
    """Of `prefix-cache`."""

    own_weight: float = 1.5
    """What the request's own uncached tokens count for, those queued before it being 1. Measured on Mooncake's traces:
    1 to 2 are within 2 % of each other in mean TTFT; higher values gain hits and lose balance."""
    request_seconds: float = 0.02
    """What every request at an endpoint adds to the estimate, as those that decode slow down its steps."""


class MetricParameters(RequestParameters, frozen=True, kw_only=True):
    """Of `llm-metric-based`."""

    queue_weight: float = 2.0
    kv_weight: float = 1.0
    running_weight: float = 1.0
    queue_limit: float = 5.0
    """Requests waiting in an engine from which on it is saturated."""
    kv_limit: float = 0.8
    """KV cache utilisation from which on it is saturated."""

    def __post_init__(self) -> None:
        if self.queue_limit <= 0 or self.kv_limit <= 0:
            raise ValueError("limits must be above 0")
        if max(self.queue_weight, self.kv_weight, self.running_weight) <= 0:
            raise ValueError("one of the weights of queue, KV and running must be above 0")


Parameters = TypeVar("Parameters")


class PolicyKind(Generic[Parameters]):
    """What a policy takes, and how it is made."""

    def __init__(self, parameters: type[Parameters], make: Callable[[Parameters], Policy]) -> None:
        self.parameters = parameters
        self._make = make

    def build(self, given: Mapping[str, Any]) -> Policy:
        """Raises msgspec.ValidationError."""
        return self._make(msgspec.convert(given, self.parameters))


def _preferences(affinities: RequestParameters | TokenParameters) -> list[tuple[Scorer, float]]:
    both: tuple[tuple[Scorer, float], ...] = (
        (SessionAffinity(), affinities.session_weight),
        (LoraAffinity(), affinities.lora_weight),
    )
    return [(scorer, weight) for scorer, weight in both if weight > 0]


def _scored(
    affinities: RequestParameters | TokenParameters,
    *scorers: tuple[Scorer, float],
    filters: tuple[Filter, ...] = (),
    learners: tuple[Learner, ...] = (),
) -> Policy:
    weighted = [(scorer, weight) for scorer, weight in scorers if weight > 0] + _preferences(affinities)
    return ScoredPolicy(weighted, filters=(LoraReady(), *filters), learners=learners)


def _least_request(parameters: RequestParameters) -> Policy:
    return _scored(parameters, (LeastRequests(), 1.0))


def _least_token(parameters: TokenParameters) -> Policy:
    forecast = CacheForecast(parameters)
    return _scored(parameters, (LeastTokens(forecast), 1.0), learners=(forecast,))


def _prefix_cache(parameters: PrefixParameters) -> Policy:
    return EarliestFirstToken(
        CacheForecast(parameters),
        own_weight=parameters.own_weight,
        request_seconds=parameters.request_seconds,
        preferences=_preferences(parameters),
    )


def _metric_based(parameters: MetricParameters) -> Policy:
    return _scored(
        parameters,
        (QueueLength(), parameters.queue_weight),
        (KvFree(), parameters.kv_weight),
        (FewestRunning(), parameters.running_weight),
        filters=(NotSaturated(parameters.queue_limit, parameters.kv_limit),),
    )


POLICIES: Mapping[str, PolicyKind[Any]] = {
    "round-robin": PolicyKind(NoParameters, lambda _: ScoredPolicy([(LongestUnpicked(), 1.0)])),
    "least-request": PolicyKind(RequestParameters, _least_request),
    "least-token": PolicyKind(TokenParameters, _least_token),
    "llm-metric-based": PolicyKind(MetricParameters, _metric_based),
    "prefix-cache": PolicyKind(PrefixParameters, _prefix_cache),
    "static-pd": PolicyKind(StaticParameters, StaticSplit),
    "dynamic-pd": PolicyKind(DynamicParameters, DynamicSplit),
}


def make_policy(config: PolicyConfig | str) -> Policy:
    """A new policy object. Raises BadPolicy."""
    if isinstance(config, str):
        config = PolicyConfig(name=config)
    if ":" in config.name:
        return _users_own(config)
    kind = POLICIES.get(config.name)
    if kind is None:
        raise BadPolicy(f"unknown policy {config.name!r}: use {', '.join(sorted(POLICIES))}, or module:Class")
    try:
        return kind.build(config.parameters)
    except msgspec.ValidationError as error:
        allowed = ", ".join(field.encode_name for field in msgspec.structs.fields(kind.parameters)) or "none"
        raise BadPolicy(f"{config.name}: {error}; its parameters are {allowed}") from error


def _users_own(config: PolicyConfig) -> Policy:
    module, _, name = config.name.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)(**config.parameters)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise BadPolicy(f"policy {config.name!r} cannot be made: {error}") from error
    if not isinstance(made, Policy):
        raise BadPolicy(f"policy {config.name!r} is no extproc.pool.policy.Policy")
    return made
