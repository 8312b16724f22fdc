"""`LLMRoute`: which requests of a host go to which provider or pool, and what changes on the way."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from extproc.resources.base import HeaderEdits, Metadata, Spec, StringMatch


class RequestMatch(Spec, frozen=True, kw_only=True):
    """All conditions given must hold."""

    headers: dict[str, StringMatch] = {}
    """By header name, in any case."""
    path: StringMatch | None = None
    model: StringMatch | None = None
    """The model that the request asks for."""
    source_labels: dict[str, str] = {}
    """Labels of the caller, as `Gateway` `spec.sources` assigns them."""
    claims: dict[str, StringMatch] = {}
    """Claims of the verified JWT; a dot reaches into objects (`realm.tenant`). Needs `Gateway` `spec.jwt`."""
    gateways: list[str] = []
    """Names of gateways this match holds for; empty means all."""


class ObjectReference(Spec, frozen=True, kw_only=True):
    """Kubernetes-style reference to an `InferencePool`."""

    name: str
    group: str = ""
    kind: Literal["InferencePool"] = "InferencePool"
    namespace: str | None = None
    port: int | None = None


class BackendRef(Spec, frozen=True, kw_only=True):
    """One destination: exactly one of `providerHost`, `provider`, `pool` and `backendRef`."""

    provider_host: str | None = None
    """`host` of an `LLMProvider`."""
    provider: str | None = None
    """Name of an `LLMProvider`, where several share a host."""
    pool: str | None = None
    """Name of an `InferencePool`."""
    backend_ref: ObjectReference | None = None
    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    """Share of the rule's requests, relative to the sum of the weights."""
    model: str | None = None
    """Target model for this destination; overrides the provider's configuration."""


class SystemPrompt(Spec, frozen=True, kw_only=True):
    """Text put around the first system message of a chat; a chat without one gets one."""

    prepend: str | None = None
    append: str | None = None


class Parameters(Spec, frozen=True, kw_only=True):
    """Top-level fields of the request body."""

    defaults: dict[str, Any] = {}
    """Filled in where the client left the field out."""
    caps: dict[str, float] = {}
    """Upper limits of numeric fields, such as `max_tokens`: a larger value is lowered, a missing one is set."""


class Rule(Spec, frozen=True, kw_only=True):
    """One routing rule. A rule without `matches` is the default and matches every request."""

    name: str = ""
    matches: list[RequestMatch] = []
    """Any one of them is enough."""
    backend_refs: list[BackendRef]
    system_prompt: SystemPrompt | None = None
    parameters: Parameters = field(default_factory=Parameters)
    request_headers: HeaderEdits = field(default_factory=HeaderEdits)
    response_headers: HeaderEdits = field(default_factory=HeaderEdits)
    response_model: Literal["target", "requested"] = "target"
    """`requested` puts the model name that the client asked for back into the answer, also when it is streamed."""
    non_json_bodies: Literal["reject", "pass"] = "reject"
    """`pass` lets a body whose content type is not JSON (audio, images, forms) through unread."""


class LLMRouteSpec(Spec, frozen=True, kw_only=True):
    host: str
    """Host that clients call; `*` takes every host that no other route names, `*.example.com` its subdomains."""
    gateways: list[str] = []
    """Accepted for compatibility with Istio; names of gateways this route is for, empty means all."""
    rules: list[Rule]
    """Tried in order; the first one that matches decides."""


class LLMRoute(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["LLMRoute"]
    metadata: Metadata
    spec: LLMRouteSpec
