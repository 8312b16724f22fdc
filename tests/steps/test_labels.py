"""Labels of requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling.cel import compile_expression
from extproc.scheduling.labels import MAX_VALUE
from extproc.steps.head import RequestHead, digest
from extproc.steps.labels import Labelling, header_reader, labels_of, or_else, reader_of
from extproc.steps.parse import parse
from extproc.steps.request import Request
from extproc.steps.route import route
from extproc.steps.routes import Backend, HostRoutes, RouteRule
from extproc.steps.transform import transform

BODY = {"model": "theirs", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
CLAIMS = {
    "sub": "alice",
    "realm": {"team": "web", "level": 3.0, "roles": ["a", "b"]},
    "admin": True,
    "half": 0.5,
    "none": None,
}


def request_of(body: dict[str, Any] | None = None, **headers: str) -> Request:
    """A request that has been through route and transform."""
    given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    head = RequestHead(
        {":method": b"POST", ":path": b"/v1/chat/completions", ":authority": b"x.api:80", **given}, CLAIMS
    )
    head.source, head.source_labels = "checkout", {"team": "shop"}
    rule = RouteRule("r/vip", (Backend("provider/p", 1, model="ours", is_provider=True),))
    request = Request(head, HostRoutes("*.api", (rule,)), (rule,), 30_000, 0.0, lambda _model, size: (size, 0))
    request.raw = json.dumps(BODY if body is None else body).encode()
    assert (parse(request), route(request), transform(request)) == (None, None, None)
    return request


def labelling(*names: str) -> Labelling:
    readers = [(name, reader_of(name)) for name in names]
    return Labelling(tuple((name, read) for name, read in readers if read is not None))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "*.api"),
        ("route", "r/vip"),
        ("target", "provider/p"),
        ("model", "ours"),
        ("requested_model", "theirs"),
        ("source", "checkout"),
        ("operation", "chat_completions"),
        ("stream", "true"),
        ("body_size", str(len(json.dumps(BODY)))),
        ("http.request.header.user-type", "guest"),
        ("http.request.header.User-Type", "guest"),
        ("http.request.header.absent", None),
        ("source.team", "shop"),
        ("source.absent", None),
        ("claim.sub", "alice"),
        ("claim.realm.team", "web"),
        ("claim.realm.level", "3"),
        ("claim.realm.roles", "a,b"),
        ("claim.admin", "true"),
        ("claim.half", "0.5"),
        ("claim.none", None),
        ("claim.realm", None),
        ("claim.realm.team.deeper", None),
        ("claim.absent", None),
    ],
)
def test_a_label_of_every_kind(name: str, value: str | None) -> None:
    wanted = {"tenant": "checkout"} | ({} if value is None else {name: value})
    assert labels_of(request_of(user_type="guest"), labelling(name)) == wanted


@pytest.mark.parametrize("name", ["", "unknown", "claim.", "source.", "http.request.header.", "tenant"])
def test_names_that_mean_nothing_by_themselves(name: str) -> None:
    assert reader_of(name) is None


def test_a_credential_is_never_shown_but_tells_callers_apart() -> None:
    name = "http.request.header.authorization"
    one, same, other = (
        labels_of(request_of(authorization=f"Bearer {key}"), labelling(name))[name] for key in ("k1", "k1", "k2")
    )
    assert one == same != other
    assert "k1" not in one


def test_the_tenant_is_the_source_unless_a_label_says_otherwise() -> None:
    by_header = Labelling((("tenant", header_reader("x-tenant")),))
    assert labels_of(request_of(), Labelling()) == {"tenant": "checkout"}
    assert labels_of(request_of(), by_header) == {"tenant": "checkout"}
    assert labels_of(request_of(x_tenant="acme"), by_header) == {"tenant": "acme"}
    fallback = Labelling((("tenant", or_else(header_reader("x-tenant"), "free")),))
    assert labels_of(request_of(), fallback) == {"tenant": "free"}


def test_computed_labels_read_those_before_them_and_one_that_fails_leaves_no_header_in_its_place() -> None:
    found = Labelling(
        (("tier", header_reader("tier")),),
        {
            "team": compile_expression('labels.tenant + "!"'),
            "tier": compile_expression('labels["absent"]'),
            "tenant": compile_expression('labels["absent"]'),
        },
    )
    assert labels_of(request_of(tier="gold"), found) == {"tenant": "checkout", "team": "checkout!"}


def test_predicted_tokens_come_before_what_reads_them_and_after_the_tenant() -> None:
    seen: list[dict[str, str]] = []

    def predict(labels: Any) -> float:
        seen.append(dict(labels))
        return 41.6

    size = compile_expression('double(labels["predicted_tokens"]) > 40.0 ? "long" : "short"')
    found = Labelling(computed={"tenant": compile_expression('"acme"')}, predicts=True, computed_late={"size": size})
    assert labels_of(request_of(), found, predict) == {"tenant": "acme", "predicted_tokens": "42", "size": "long"}
    assert seen == [{"tenant": "acme"}]
    assert labels_of(request_of(), found) == {"tenant": "acme"}


@given(st.binary(max_size=1000).filter(lambda raw: not raw.isspace()))
def test_any_header_gives_a_short_label(raw: bytes) -> None:
    request = request_of()
    request.head.headers = {**request.head.headers, "x": raw}
    value = labels_of(request, labelling("http.request.header.x"))["http.request.header.x"]
    assert len(value.encode("utf-8", "surrogatepass")) <= MAX_VALUE


@pytest.mark.parametrize("said", ["Bearer k-1", "bearer k-1", "BEARER  k-1 ", "  Bearer\tk-1", "k-1"])
def test_the_scheme_and_spaces_of_a_credential_are_no_other_credential(said: str) -> None:
    assert digest(said) == digest("Bearer k-1") != digest("Bearer k-2")
