"""The routing table in the form that requests use: everything compiled, nothing looked up by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from extproc.exchange.values import HeaderList
from extproc.pool.pool import Pool
from extproc.steps.head import RequestHead
from extproc.steps.matching import StringTest
from extproc.steps.protection import Protection
from extproc.steps.watch import Watch

KeySource = Callable[[], bytes | None]
"""Gives the key header's value at this moment, None while there is no key."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One destination of a rule, with everything that a request needs for it."""

    target: str
    """`provider/NAME` or `pool/NAME`."""
    weight: int
    model: str | None = None
    stream: bool | None = None
    fill_only: bool = False
    """True: `model` and `stream` only fill in what the client left out."""
    is_provider: bool = False
    key_header: str | None = None
    key: KeySource | None = None
    path: str | None = None
    """Path of chat completions at this destination."""
    include_usage: bool = True
    """Ask for the usage of streamed answers."""
    envoy_counts: bool = False
    """Envoy counts the tokens of its streamed answers, where nothing else has to read them."""
    pool: Pool | None = None
    sheddable: frozenset[str] = frozenset()
    """Objectives whose requests are refused where others wait."""
    adapters: frozenset[str] = frozenset()
    """Models that are LoRA adapters."""
    session_header: str | None = None
    """Header that names a session; the body's `user` does where it is absent."""
    watches: tuple[Watch, ...] = ()
    """Security policies that hold for this rule and destination."""
    protection: Protection = Protection.OPEN
    """What Envoy has to do for its requests without the filter."""


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions of one match, except the one on the model, which needs the body."""

    headers: tuple[tuple[str, StringTest], ...] = ()
    path: StringTest | None = None
    claims: tuple[tuple[tuple[str, ...], StringTest], ...] = ()
    source_labels: tuple[tuple[str, str], ...] = ()
    model: StringTest | None = None

    def head_fits(self, head: RequestHead) -> bool:
        """Whether all conditions but the model's hold."""
        for name, test in self.headers:
            value = head.text(name)
            if value is None or not test(value):
                return False
        if self.path is not None and not self.path(head.plain_path):
            return False
        for label, wanted in self.source_labels:
            if head.source_labels.get(label) != wanted:
                return False
        return all(_claim_fits(head.claims, path, test) for path, test in self.claims)


def _claim_fits(claims: Mapping[str, object], path: Sequence[str], test: StringTest) -> bool:
    value: object = claims
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    if isinstance(value, list):
        return any(isinstance(item, str) and test(item) for item in value)
    if isinstance(value, bool):
        return test("true" if value else "false")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # protobuf structs know only doubles
    return isinstance(value, str | int | float) and test(str(value))


@dataclass(slots=True)
class RouteRule:
    """One routing rule. Destinations take turns by smooth weighted round robin, so a 50/50 split alternates."""

    name: str
    """`ROUTE/RULE`, for logs and metrics."""
    backends: tuple[Backend, ...]
    matches: tuple[Match, ...] = ()
    prepend: str | None = None
    append: str | None = None
    defaults: Mapping[str, bytes] = field(default_factory=dict)
    caps: Mapping[str, float] = field(default_factory=dict)
    set_headers: HeaderList = ()
    remove_headers: tuple[str, ...] = ()
    response_set: HeaderList = ()
    response_remove: tuple[str, ...] = ()
    restore_model: bool = False
    pass_non_json: bool = False
    _credit: list[int] = field(default_factory=list)

    def head_fits(self, head: RequestHead) -> bool:
        return not self.matches or any(match.head_fits(head) for match in self.matches)

    def fits(self, head: RequestHead, model: str) -> bool:
        """Whether one match holds as a whole."""
        if not self.matches:
            return True
        return any((m.model is None or (model != "" and m.model(model))) and m.head_fits(head) for m in self.matches)

    def names_path(self, head: RequestHead) -> bool:
        """Whether a match that fits has a condition on the path."""
        return any(match.path is not None and match.head_fits(head) for match in self.matches)

    def copy(self) -> RouteRule:
        """The same rule at the same turn; what becomes of the one does not change the other's turns."""
        return replace(self, _credit=list(self._credit))

    def next_backend(self) -> Backend:
        """The destination whose turn it is (the smooth weighted round robin of nginx)."""
        backends = self.backends
        if len(backends) == 1:
            return backends[0]
        if not self._credit:
            self._credit = [0] * len(backends)
        credit = self._credit
        total = 0
        best = -1
        for i, backend in enumerate(backends):
            if backend.weight == 0:
                continue
            credit[i] += backend.weight
            total += backend.weight
            if best < 0 or credit[i] > credit[best]:
                best = i
        credit[best] -= total
        return backends[best]


@dataclass(frozen=True, slots=True)
class HostRoutes:
    """What one host serves."""

    host: str
    rules: tuple[RouteRule, ...]
    models: tuple[str, ...] = ()
    """For `GET /v1/models`, in order."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Host to rules: exact names first, then the longest `*.suffix`, then `*`."""

    exact: Mapping[str, HostRoutes]
    suffixes: tuple[tuple[str, HostRoutes], ...] = ()
    """`.example.com` and its routes, longest first."""
    default: HostRoutes | None = None

    def find(self, host: str) -> HostRoutes | None:
        routes = self.exact.get(host)
        if routes is None:
            for suffix, found in self.suffixes:
                if host.endswith(suffix) and len(host) > len(suffix):
                    return found
            return self.default
        return routes
