"""Labels of a request: what policies match on, count by and share by. Only those that some policy uses are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from extproc.scheduling.cel import Expression, compute
from extproc.scheduling.labels import clip
from extproc.steps.head import CLIENT_CREDENTIALS, RequestHead, digest
from extproc.steps.routes import Backend, HostRoutes, RouteRule


class Labelled(Protocol):
    """What labels are read from: a request that has been through `route` and `transform`."""

    head: RequestHead
    routes: HostRoutes
    rule: RouteRule | None
    backend: Backend | None
    requested_model: str
    target_model: str
    stream: bool
    raw: bytes
    body: bytes


Reader = Callable[[Labelled], str | None]
"""Gives a label's value; None where the request has none."""
Predict = Callable[[Mapping[str, str]], float]
"""From the labels known so far to the tokens that the answer will probably have."""

HEADER, CLAIM, SOURCE = "http.request.header.", "claim.", "source."
"""Prefixes of labels that are read by name: a header, a claim of a verified token, a label of the gateway's source."""
TENANT = "tenant"
PREDICTED = "predicted_tokens"
FIXED: Mapping[str, Reader] = {
    "host": lambda request: request.routes.host,
    "route": lambda request: request.rule.name if request.rule is not None else None,
    "target": lambda request: request.backend.target if request.backend is not None else None,
    "model": lambda request: clip(request.target_model) or None,
    "requested_model": lambda request: clip(request.requested_model) or None,
    "source": lambda request: clip(request.head.source),
    "operation": lambda request: request.head.operation.name,
    "stream": lambda request: "true" if request.stream else "false",
    "body_size": lambda request: str(len(request.body or request.raw)),
}
"""Labels that every request can have, beside `TENANT` and `PREDICTED`. `host` is the route's, so it is bounded."""


@dataclass(frozen=True, slots=True)
class Labelling:
    """How labels are found, compiled once per configuration, in this order."""

    readers: tuple[tuple[str, Reader], ...] = ()
    computed: Mapping[str, Expression] = field(default_factory=dict)
    predicts: bool = False
    """Whether `PREDICTED` is used."""
    computed_late: Mapping[str, Expression] = field(default_factory=dict)
    """Those that need `PREDICTED`."""


def labels_of(request: Labelled, labelling: Labelling, predict: Predict | None = None) -> dict[str, str]:
    """The labels of a request. `TENANT` is always among them: the source
    where nothing else says who it is. Without `predict` there is no `PREDICTED`."""
    tenant = clip(request.head.tenant)
    labels = {TENANT: tenant}
    for name, read in labelling.readers:
        value = read(request)
        if value is not None:
            labels[name] = value
    if labelling.computed:
        compute(labels, labelling.computed)
        labels.setdefault(TENANT, tenant)
    if labelling.predicts and predict is not None:
        labels[PREDICTED] = str(round(predict(labels)))
    if labelling.computed_late:
        compute(labels, labelling.computed_late)
        labels.setdefault(TENANT, tenant)
    return labels


def reader_of(name: str) -> Reader | None:
    """How a label that nobody has declared is found; None for a name that means nothing."""
    if name in FIXED:
        return FIXED[name]
    if name.startswith(HEADER) and len(name) > len(HEADER):
        return header_reader(name.removeprefix(HEADER))
    if name.startswith(CLAIM) and len(name) > len(CLAIM):
        return claim_reader(name.removeprefix(CLAIM))
    if name.startswith(SOURCE) and len(name) > len(SOURCE):
        label = name.removeprefix(SOURCE)
        return lambda request: request.head.source_labels.get(label)
    return None


def header_reader(header: str) -> Reader:
    """Of a request header, in any spelling. Labels are shown and shared, so of a credential there is a digest only."""
    name = header.lower()
    show = digest if name in CLIENT_CREDENTIALS else clip

    def read(request: Labelled) -> str | None:
        value = request.head.text(name)
        return None if value is None else show(value)

    return read


def claim_reader(path: str) -> Reader:
    """Of a claim, `realm.team` for one inside another. A list is its items with commas between them."""
    names = path.split(".")

    def read(request: Labelled) -> str | None:
        value: object = request.head.claims
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return _claim_text(value)

    return read


def or_else(read: Reader, value: str) -> Reader:
    """A reader with a value for requests that have none of their own."""

    def read_or(request: Labelled) -> str:
        found = read(request)
        return value if found is None else found

    return read_or


def _claim_text(value: object) -> str | None:
    if isinstance(value, list):
        return clip(",".join(filter(None, map(_claim_text, value))))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # protobuf structs know only doubles
    return clip(str(value)) if isinstance(value, str | int | float) else None
