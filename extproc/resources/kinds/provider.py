"""`LLMProvider`: an API reachable by host, with a model and a key."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from extproc.resources.base import Duration, Metadata, Spec

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Percent = Annotated[int, Meta(ge=0, le=100)]


class OpenAIConfig(Spec, frozen=True, kw_only=True):
    """What the provider is asked for, whatever the client wrote."""

    model: str | None = None
    """Target model. Absent: the client's own."""
    stream: bool | None = None
    """Absent: as the client asks."""
    api_key: str | None = None
    """`${NAME}` reads the environment, `${file:PATH}` a file (relative to this manifest's directory) that is
    watched, so that a key rotates without a restart."""
    mode: Literal["override", "default"] = "override"
    """`override` replaces the client's model and stream; `default` only fills in what is missing."""


class ProviderConfig(Spec, frozen=True, kw_only=True):
    """Settings for one way of calling the provider."""

    open_ai_config: OpenAIConfig = field(name="openAIConfig", default_factory=OpenAIConfig)


class ProviderConfigs(Spec, frozen=True, kw_only=True):
    """The default settings and those of single routing rules."""

    default_config: ProviderConfig = field(default_factory=ProviderConfig)
    route_specific_configs: dict[str, ProviderConfig] = {}
    """Keyed by the name of an `LLMRoute` rule; what is absent there comes from `defaultConfig`."""


class KeyHeader(Spec, frozen=True, kw_only=True):
    """Where the provider expects its key."""

    name: str = "authorization"
    prefix: str = "Bearer "


class Timeouts(Spec, frozen=True, kw_only=True):
    """How long a request may take, by kind."""

    stream: Duration = Duration(300)
    """A request with `stream: true`, from first to last byte."""
    unary: Duration = Duration(120)
    """Any other request, all its attempts together."""
    per_try: Duration = Duration(60)
    """One attempt of a request that is not streamed."""
    idle: Duration = Duration(300)
    """Longest silence before and within a streamed answer; a long prefill is silent too. In a pool, an endpoint that
    has not begun to answer by then is given up for another one."""


class Retries(Spec, frozen=True, kw_only=True):
    """Retries of requests that are not streamed. Streamed requests are never retried at a provider."""

    attempts: Annotated[int, Meta(ge=0, le=10)] = 2
    """Retries after the first attempt."""
    on: list[Literal["gateway-error", "connect-failure", "reset", "refused-stream", "5xx", "retriable-4xx"]] = field(
        default_factory=lambda: ["gateway-error", "connect-failure"]
    )
    status_codes: list[Annotated[int, Meta(ge=400, le=599)]] = []
    """Further status codes that are retried, such as 429."""


class ConnectionPool(Spec, frozen=True, kw_only=True):
    """Limits of the connections to this destination; beyond them a request gets 503."""

    max_connections: Positive = 1024
    max_pending_requests: Positive = 1024
    max_requests: Positive = 4096
    max_retries: Positive = 1024
    """Retried requests at one time, from the retry to their end: those of a lost endpoint are all retried at once."""
    max_requests_per_connection: Positive | None = None
    connect_timeout: Duration = Duration(5)
    idle_timeout: Duration = Duration(90)
    tcp_keepalive_time: Duration | None = None
    tcp_keepalive_interval: Duration | None = None


class OutlierDetection(Spec, frozen=True, kw_only=True):
    """When a destination address is taken out for a while."""

    consecutive_5xx: Positive = field(name="consecutive5xxErrors", default=5)
    consecutive_gateway_errors: Positive | None = None
    count_too_many_requests: bool = True
    """Count 429 as an error too."""
    interval: Duration = Duration(30)
    base_ejection_time: Duration = Duration(60)
    max_ejection_percent: Percent = 50


class LLMProviderSpec(Spec, frozen=True, kw_only=True):
    """An external provider of an OpenAI-style API."""

    host: str
    """DNS name of the provider: the certificate is checked against it, and clients may use it as `Host`."""
    path: str | None = None
    """Path of the provider's chat completions, such as `/compatible-mode/v1/chat/completions`. A request to `/` goes
    there; other operations (`/v1/embeddings`, …) go to the same base. Absent: paths stay as the client wrote them."""
    port: Port | None = None
    """Default 443, or 80 for `protocol: http`."""
    protocol: Literal["https", "http"] = "https"
    authentication: Literal["key", "none"] = "key"
    """`none` for services that need no key; the client's own `Authorization` is removed all the same."""
    key_header: KeyHeader = field(default_factory=KeyHeader)
    include_usage: bool = True
    """Ask for the usage of streamed answers (`stream_options.include_usage`). `false` for providers that refuse the
    field; their streamed answers are then counted by estimate."""
    configs: ProviderConfigs = field(default_factory=ProviderConfigs)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: Retries = field(default_factory=Retries)
    connection_pool: ConnectionPool = field(default_factory=ConnectionPool)
    outlier_detection: OutlierDetection | None = None

    @property
    def effective_port(self) -> int:
        return self.port or (443 if self.protocol == "https" else 80)


class LLMProvider(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["LLMProvider"]
    metadata: Metadata
    spec: LLMProviderSpec
