"""A request's way through the steps without going it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.steps.explain import WrittenRequest, explained
from extproc.steps.live import Live
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
A, B = (Backend(f"provider/{name}", 1, model="ours", is_provider=True) for name in "ab")
RULE = RouteRule("r/0", (A, B))
LIVE = Live(RouteTable({"api": HostRoutes("api", (RULE,))}))


def asked(body: Any = CHAT, **fields: Any) -> WrittenRequest:
    return WrittenRequest(body=msgspec.Raw(msgspec.json.encode(body)), **fields)


def expect(_model: str, size: int) -> tuple[int, int]:
    return size * 10, 70


def test_it_tells_where_a_request_would_go_and_what_it_would_cost() -> None:
    found, job = explained(LIVE, asked(), expect, 0.0)
    assert (found.refused, found.route, found.target, found.model) == ("", "r/0", "provider/a", "ours")
    assert found.labels == {"tenant": "unknown"}
    assert job is not None
    assert found.prompt_tokens == job.prompt_tokens > 100
    assert found.predicted_tokens == 50


def test_it_changes_nobodys_turn() -> None:
    assert [explained(LIVE, asked(), expect, 0.0)[0].target for _ in range(3)] == ["provider/a"] * 3
    assert RULE.next_backend() is A
    assert explained(LIVE, asked(), expect, 0.0)[0].target == "provider/b"
    assert RULE.next_backend() is B


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        (asked(host="nowhere"), "404 route_not_found: No route for host 'nowhere'."),
        (asked({"messages": "x"}), "400 "),
        (WrittenRequest(), "400 empty_body"),
        (WrittenRequest(body=msgspec.Raw(b'"no json"')), "400 invalid_json"),
        (WrittenRequest(method="CONNECT"), "404 route_not_found"),
    ],
)
def test_why_a_request_does_not_get_to_the_policies(request_: WrittenRequest, refused: str) -> None:
    found, job = explained(LIVE, request_, expect, 0.0)
    assert job is None
    assert found.refused.startswith(refused)


def test_the_list_of_models_is_answered_before_any_policy() -> None:
    found, job = explained(LIVE, WrittenRequest(method="GET", path="/v1/models"), expect, 0.0)
    assert (found.refused, job) == ("", None)


def test_the_host_may_stand_among_the_headers() -> None:
    assert explained(LIVE, asked(headers={"Host": "nowhere"}), expect, 0.0)[0].refused.startswith("404 ")
    assert explained(LIVE, asked(headers={"Host": "api:80"}), expect, 0.0)[0].refused == ""


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["messages", "n", "x"]), inner),
    max_leaves=8,
)


@given(json_values, st.text(max_size=10), st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3))
def test_nothing_that_is_asked_makes_it_fail(body: Any, path: str, headers: dict[str, str]) -> None:
    explained(LIVE, asked(body, path=path, headers=headers, claims={"x": body}), expect, 0.0)
