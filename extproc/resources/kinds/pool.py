"""`InferencePool`: endpoints of one model server that can stand in for each other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from extproc.pool.policies import PolicyConfig
from extproc.resources.base import Duration, Metadata, Spec
from extproc.resources.kinds.provider import ConnectionPool, OutlierDetection, Timeouts


class PoolEndpoint(Spec, frozen=True, kw_only=True):
    """One model server, or the DNS name behind which all of them are."""

    address: str
    """`IP:PORT` (`[IPv6]:PORT`), or `NAME:PORT`, of which every address in DNS is an endpoint."""
    labels: dict[str, str] = {}


class EngineMetrics(Spec, frozen=True, kw_only=True):
    """How the engines' own load figures are read."""

    path: str = "/metrics"
    interval: Duration = Duration(0.2)
    timeout: Duration = Duration(1)
    stale_after: Duration = Duration(2)
    """Older figures count as unknown."""


class PoolPolicy(Spec, frozen=True, kw_only=True):
    """A policy with parameters."""

    name: str
    """`round-robin`, `least-request`, `least-token`, `llm-metric-based`, `prefix-cache`, `static-pd`, `dynamic-pd`, or
    `module:Class` of a policy of your own."""
    parameters: dict[str, Any] = {}


class Saturation(Spec, frozen=True, kw_only=True):
    """From when on an endpoint gets no further request. While all are saturated, requests wait in the gateway.

    A figure that the engine does not report fills nothing; null switches a limit off."""

    queue_depth: Annotated[int, Meta(ge=1)] | None = 5
    """Requests waiting in the engine."""
    kv_cache_utilization: Annotated[float, Meta(gt=0, le=1)] | None = 0.95
    """Share of the engine's KV cache in use."""
    max_in_flight: Annotated[int, Meta(ge=1)] | None = None
    """Requests that this gateway has at the endpoint."""


class Queue(Spec, frozen=True, kw_only=True):
    """Where requests wait while every endpoint is saturated, first come first served."""

    max_size: Annotated[int, Meta(ge=0, le=100_000)] = 512
    """A request beyond it gets 429 `queue_full`."""
    timeout: Duration = Duration(10)
    """Longest wait; after it a request gets 503 `queue_timeout`."""
    try_period: Duration = Duration(1)
    """A waiting request tries again this often, besides whenever an endpoint becomes free."""
    sheddable: list[str] = []
    """Values of `x-gateway-inference-objective` whose requests get 429 `shed` instead of waiting."""


class InferencePoolSpec(Spec, frozen=True, kw_only=True):
    endpoints: list[PoolEndpoint] = []
    membership: Literal["static", "agents"] = "static"
    """`agents`: those that agents register are endpoints as well, and `endpoints` may be empty."""
    models: list[str] = []
    """Model names listed by `GET /v1/models`; requests are not limited to them."""
    adapters: list[str] = []
    """Names of LoRA adapters among the models; a request for one goes preferably where it is loaded."""
    policy: str | PoolPolicy = "prefix-cache"
    """How endpoints are chosen: a name, or a name with parameters. See the guide on choosing a policy."""
    session_header: str | None = None
    """Request header that names a conversation or user, for policies that keep sessions together. Without it, the
    body's `user` does."""
    metrics: EngineMetrics = field(default_factory=EngineMetrics)
    retry_count: Annotated[int, Meta(ge=0, le=5)] = 2
    """Attempts on other endpoints after a connect failure, a reset before the answer, 503 or 429."""
    failure_mode: Literal["open", "closed"] = "open"
    """While the filter is away: `open` lets Envoy go round robin over the pool, `closed` answers 503."""
    saturation: Saturation = field(default_factory=Saturation)
    queue: Queue = field(default_factory=Queue)
    timeouts: Timeouts = field(default_factory=Timeouts)
    connection_pool: ConnectionPool = field(default_factory=ConnectionPool)
    outlier_detection: OutlierDetection | None = None

    @property
    def policy_config(self) -> PolicyConfig:
        """The policy as the pool takes it."""
        if isinstance(self.policy, str):
            return PolicyConfig(name=self.policy)
        return PolicyConfig(name=self.policy.name, parameters=self.policy.parameters)


class InferencePool(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["InferencePool"]
    metadata: Metadata
    spec: InferencePoolSpec
