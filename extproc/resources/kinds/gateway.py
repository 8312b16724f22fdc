"""`Gateway`: where Envoy listens, what is logged and measured, and the limits of everything."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from extproc.resources.base import Duration, Metadata, Size, Spec
from extproc.resources.kinds.labels import Label
from extproc.resources.kinds.provider import Port


class Listener(Spec, frozen=True, kw_only=True):
    """Envoy's address for clients."""

    address: str = "127.0.0.1"
    port: Port = 10000
    trusted_hops: Annotated[int, Meta(ge=0, le=10)] = 0
    """Proxies in front of Envoy whose `x-forwarded-for` entries are believed when the client's address is told."""


class Admin(Spec, frozen=True, kw_only=True):
    """Sluice's own HTTP address: health, metrics, effective configuration."""

    address: str = "127.0.0.1"
    port: Port = 10001


class AgentTls(Spec, frozen=True, kw_only=True):
    """PEM files (relative to the manifest). They are read again when they change."""

    cert: str
    """The gateway's certificate, with those between it and its authority."""
    key: str
    client_ca: str | None = None
    """Authorities, one of which must have issued an agent's own certificate. Default: agents need none."""


class Agents(Spec, frozen=True, kw_only=True):
    """Where agents beside the engines report their load, and who may."""

    address: str = "127.0.0.1"
    port: Port = 10002
    token: str
    """What every agent has to know: `${NAME}` from the environment, or `${file:PATH}`."""
    tls: AgentTls | None = None
    insecure: bool = False
    """`true` allows an address that other machines reach without `tls`; token and reports are then readable on the way.
    """
    report_interval: Duration = Duration(0.1)
    """Agents report changes at most this often."""
    heartbeat: Duration = Duration(1)
    """An agent with nothing to report says at least this often that it is there."""
    missed_heartbeats: Annotated[int, Meta(ge=1, le=100)] = 3
    """An endpoint leaves when its agent has been silent for this many heartbeats."""


class Limits(Spec, frozen=True, kw_only=True):
    """Sizes and times beyond which a request gets a clear error."""

    request_body: Size = Size(32 * 2**20)
    """Larger request bodies, and compressed ones that decode to more, get 413."""
    response_body: Size = Size(32 * 2**20)
    """A JSON answer that has to be edited is held up to this size; a larger one passes unedited."""
    bodies_in_flight: Size | None = None
    """Bytes of request bodies that are held at one time, over all requests; beyond it 503. Absent: a sixteenth of the
    memory, at least 64 MiB and at most 4 GiB."""
    message_timeout: Duration = Duration(5)
    """How long Envoy waits for the filter before a request counts as unprocessed."""
    drain_timeout: Duration = Duration(30)
    """How long running requests may take to finish after SIGTERM."""


class AccessLog(Spec, frozen=True, kw_only=True):
    """One JSON line per request, written by Envoy."""

    path: str = "/dev/stdout"
    fields: dict[str, str] = {}
    """Field name to Envoy format string, added to the defaults; an empty string removes a default field."""
    enabled: bool = True


class Telemetry(Spec, frozen=True, kw_only=True):
    source_header: str | None = None
    """Request header whose value becomes the `source` label; without it, the name from `sources`."""
    audit_log: bool = False
    """One JSON line per request on standard error: what was decided, for whom, with how many tokens. Never any text."""
    max_label_values: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Distinct values that a metric label may take; further ones are counted as `other`."""


class Source(Spec, frozen=True, kw_only=True):
    """Callers known by address. The first entry that fits names the caller."""

    name: str
    cidrs: list[str] = []
    """Empty fits every caller: the last entry, or the only one of a sidecar."""
    labels: dict[str, str] = {}
    """What `sourceLabels` of a route match is compared with."""


class JwtProvider(Spec, frozen=True, kw_only=True):
    """Tokens that Envoy verifies; routes can match on their claims."""

    name: str
    issuer: str
    jwks: str
    """The key set as JSON, `file:PATH` (relative to the manifest; read again when it is replaced), or an `https://` or
    `http://` URL."""
    jwks_refresh: Duration = Duration(300)
    """How often Envoy gets the keys of a URL anew."""
    audiences: list[str] = []
    required: bool = False
    """`true` refuses requests without a valid token (401)."""

    @property
    def by_url(self) -> bool:
        return self.jwks.startswith(("https://", "http://"))


class Predictor(Spec, frozen=True, kw_only=True):
    """The prediction of how long answers will be, which is learned from the gateway's own traffic."""

    file: str | None = None
    """Where it is kept over restarts (relative to the manifest). Default: every start begins anew."""


class SharedState(Spec, frozen=True, kw_only=True):
    """Redis, where several filters share what the traffic policies count. Without it every filter counts for itself."""

    redis: str
    """`redis://HOST:PORT/DB`, `rediss://` for TLS, or `${NAME}` from the environment, `${file:PATH}` for one with a
    password."""
    timeout: Duration = Duration(0.05)
    """An answer that takes longer is not waited for: the filter goes on by itself with its share of every limit."""
    prefix: str = "sluice"
    """Of all keys. Gateways with the same prefix share."""


class GatewaySpec(Spec, frozen=True, kw_only=True):
    listener: Listener = field(default_factory=Listener)
    admin: Admin = field(default_factory=Admin)
    agents: Agents | None = None
    """Without it, no agent can report."""
    limits: Limits = field(default_factory=Limits)
    access_log: AccessLog = field(default_factory=AccessLog)
    telemetry: Telemetry = field(default_factory=Telemetry)
    sources: list[Source] = []
    jwt: list[JwtProvider] = []
    labels: dict[str, Label] = {}
    """Labels of requests by name, beside those that every request has. `tenant` is the name of the source by default.
    """
    predictor: Predictor = field(default_factory=Predictor)
    shared_state: SharedState | None = None
    """Without it, traffic policies keep their state in the memory of each filter."""
    usage: Literal["auto", "envoy", "filter"] = "auto"
    """Who counts the tokens of streamed answers of pools. `envoy`: Envoy (1.40), where nothing else has to read the
    answer. `filter`: Sluice always. `auto`: Envoy under `sluice run`, where pool and policies do not need the time of
    the first token, which Envoy does not tell."""
    host_aliases: dict[str, str] = {}
    """Provider host to `IP:PORT`, for networks without DNS; certificates are still checked against the host."""
    trusted_ca: str | None = None
    """PEM bundle that provider certificates are checked with (relative to the manifest). Default: the system's."""


class Gateway(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["Gateway"]
    metadata: Metadata
    spec: GatewaySpec = field(default_factory=GatewaySpec)
