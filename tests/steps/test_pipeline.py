"""From a request's bytes to the decision or the refusal, through all steps."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from extproc.exchange.endings import Ending
from extproc.exchange.values import Decision, LocalReply
from extproc.steps import matching
from extproc.steps.head import RequestHead
from extproc.steps.parse import refuse_announced
from extproc.steps.pipeline import decide
from extproc.steps.request import Request
from extproc.steps.route import open_route
from extproc.steps.routes import Backend, HostRoutes, Match, RouteRule, RouteTable
from tests.support.courses import at_once

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
OURS = Backend("provider/p", 1, model="ours", is_provider=True, key_header="authorization", key=lambda: b"Bearer K")


def outcome(
    *rules: RouteRule,
    body: bytes | dict[str, Any] = CHAT,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    models: tuple[str, ...] = (),
    **headers: str,
) -> Decision | LocalReply:
    head = RequestHead(
        {
            ":method": method.encode(),
            ":path": path.encode(),
            ":authority": b"api:80",
            **{name.replace("_", "-"): value.encode() for name, value in headers.items()},
        }
    )
    opened = open_route(RouteTable({"api": HostRoutes("api", rules, models)}), head)
    if isinstance(opened, LocalReply):
        return opened
    request = Request(head, *opened, body_limit=30_000, now=0.0, expect=lambda _model, size: (size, 0))
    request.raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return at_once(decide(request))


def decided(*rules: RouteRule, **request: Any) -> Decision:
    decision = outcome(*rules, **request)
    assert isinstance(decision, Decision), decision
    return decision


def refused(*rules: RouteRule, **request: Any) -> tuple[int, str]:
    answer = outcome(*rules, **request)
    assert isinstance(answer, LocalReply), answer
    return answer.status, json.loads(answer.body)["error"]["code"]


def sent(*rules: RouteRule, **request: Any) -> Any:
    """The body as the destination gets it."""
    decision = decided(*rules, **request)
    assert decision.body is not None
    assert dict(decision.set_headers)["content-length"] == b"%d" % len(decision.body)
    return json.loads(decision.body)


def rule(backend: Backend = OURS, **settings: Any) -> RouteRule:
    return RouteRule("r/0", (backend,), **settings)


def backend(**changes: Any) -> Backend:
    values = {"target": "provider/p", "weight": 1, "is_provider": True, **changes}
    return Backend(**values)


def test_a_bare_chat_gets_model_key_and_path() -> None:
    decision = decided(rule(backend(model="ours", path="/base/v1/chat/completions", stream=False)), path="/")
    assert json.loads(decision.body or b"") == {**CHAT, "model": "ours", "stream": False}
    assert dict(decision.set_headers)[":path"] == b"/base/v1/chat/completions"
    assert decision.metadata["sluice"]["target"] == "provider/p"
    assert decision.metadata["sluice"]["provider"] == "p"
    assert decision.metadata["sluice"]["kind"] == "unary"


@pytest.mark.parametrize(
    ("asked", "configured", "path"),
    [
        ("/", "/base/v1/chat/completions", "/base/v1/chat/completions"),
        ("/v1/chat/completions", "/base/v1/chat/completions", "/base/v1/chat/completions"),
        ("/base/v1/chat/completions?a=b", "/base/v1/chat/completions", "/base/v1/chat/completions?a=b"),
        ("/v1/embeddings", "/base/v1/chat/completions", "/base/v1/embeddings"),
        ("/base/v1/embeddings", "/base/v1/chat/completions", "/base/v1/embeddings"),
        ("/v1/embeddings", "/chat/completions", "/embeddings"),
        ("/v1/files", "/api/v3/chat/completions", "/api/v3/files"),
        ("/v1/messages", "/anthropic/v1/messages", "/anthropic/v1/messages"),
        ("/api/chat", "/v1/chat/completions", "/api/chat"),
        ("/other", "/base/v1/chat/completions", "/other"),
        ("/v1/embeddings", None, "/v1/embeddings"),
    ],
)
def test_other_operations_live_beside_chat_completions(asked: str, configured: str | None, path: str) -> None:
    body = {"input": "x"} if "embeddings" in asked else CHAT
    decision = decided(rule(backend(path=configured)), path=asked, body=body)
    assert dict(decision.set_headers)[":path"].decode() == path


def test_the_clients_credentials_never_reach_a_provider() -> None:
    credentials = {"authorization": "Bearer client", "x_api_key": "client", "cookie": "a=b"}
    decision = decided(rule(), **credentials)
    assert dict(decision.set_headers)["authorization"] == b"Bearer K"
    assert set(decision.remove_headers) == {"x-api-key", "cookie"}
    keyless = decided(rule(backend()), **credentials)
    assert set(keyless.remove_headers) == {"authorization", "x-api-key", "cookie"}


def test_a_missing_key_is_a_503() -> None:
    assert refused(rule(backend(key_header="authorization", key=lambda: None))) == (503, "provider_key_missing")


@pytest.mark.parametrize(
    ("configured", "client", "model", "stream"),
    [
        (backend(model="ours", stream=True), {"model": "mine", "stream": False}, "ours", True),
        (backend(model="ours", stream=False), {}, "ours", False),
        (backend(model="ours", stream=True, fill_only=True), {"model": "mine", "stream": False}, "mine", False),
        (backend(model="ours", stream=True, fill_only=True), {}, "ours", True),
        (backend(), {"model": "mine", "stream": True}, "mine", True),
    ],
)
def test_model_and_stream_override_or_fill_in(
    configured: Backend, client: dict[str, Any], model: str, stream: bool
) -> None:
    decision = decided(rule(configured), body={**CHAT, **client})
    body = {**CHAT, **client} if decision.body is None else json.loads(decision.body)
    assert body["model"] == model
    assert body.get("stream", False) is stream
    assert decision.metadata["sluice"]["kind"] == ("stream" if stream else "unary")


@pytest.mark.parametrize(
    ("options", "sent_options", "strip"),
    [
        (None, {"include_usage": True}, True),
        ({"include_usage": False, "other": 1}, {"include_usage": True, "other": 1}, True),
        ({"include_usage": True}, None, False),
    ],
)
def test_usage_is_asked_for_when_streaming(
    options: dict[str, Any] | None, sent_options: dict[str, Any] | None, strip: bool
) -> None:
    body = {**CHAT, "model": "ours", "stream": True, **({"stream_options": options} if options else {})}
    decision = decided(rule(), body=body, accept_encoding="gzip")
    assert decision.plan.strip_usage is strip
    assert ("accept-encoding" in decision.remove_headers) is strip
    if sent_options is None:
        assert decision.body is None
    else:
        assert json.loads(decision.body or b"")["stream_options"] == sent_options


def test_stream_options_go_when_the_answer_is_no_longer_streamed() -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    assert "stream_options" not in sent(rule(backend(stream=False)), body=body)


def test_bytes_that_nobody_edits_stay() -> None:
    body = b'{"n": 1e400, "i":12345678901234567890,\t"messages" :[{"role":"user","content":"\\u4f60"}],"model":"x" }'
    decision = decided(rule(), body=body)
    assert decision.body == body.replace(b'"x"', b'"ours"')


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ({}, {"max_tokens": 100, "temperature": 0.1}),
        ({"max_tokens": 500}, {"max_tokens": 100, "temperature": 0.1}),
        ({"max_tokens": 50, "temperature": 1}, {"max_tokens": 50, "temperature": 1}),
        ({"max_completion_tokens": 500}, {"max_completion_tokens": 100, "temperature": 0.1}),
    ],
)
def test_parameters_are_defaulted_and_capped(client: dict[str, Any], expected: dict[str, Any]) -> None:
    settings = rule(backend(), defaults={"temperature": b"0.1"}, caps={"max_tokens": 100.0})
    decision = decided(settings, body={**CHAT, **client})
    body = {**CHAT, **client} if decision.body is None else json.loads(decision.body)
    assert body == {**CHAT, **expected}


def test_a_cap_on_something_that_is_no_number_is_refused() -> None:
    settings = rule(backend(), caps={"max_tokens": 100.0})
    assert refused(settings, body={**CHAT, "max_tokens": "lots"}) == (400, "wrong_type")


def test_a_system_prompt_is_put_around_the_clients_own() -> None:
    settings = rule(backend(), prepend="Be brief.", append="Be kind.")
    with_own = [{"role": "system", "content": "You are a cat."}, *CHAT["messages"]]
    content = sent(settings, body={"messages": with_own})["messages"][0]["content"]
    assert content.startswith("Be brief.")
    assert "You are a cat." in content
    assert content.endswith("Be kind.")
    assert sent(settings)["messages"][0]["role"] == "system"


def test_a_compressed_body_is_read_and_sent_on_decoded() -> None:
    decision = decided(rule(), body=gzip.compress(json.dumps(CHAT).encode()), content_encoding="gzip")
    assert json.loads(decision.body or b"")["model"] == "ours"
    assert "content-encoding" in decision.remove_headers


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"body": gzip.compress(b" " * 40_000), "content_encoding": "gzip"}, 413, "body_too_large"),
        ({"content_encoding": "snappy"}, 415, "unsupported_encoding"),
        ({"body": b"\x1f\x8bgarbage", "content_encoding": "gzip"}, 400, "invalid_encoding"),
        ({"body": b"--x", "content_type": "multipart/form-data; boundary=x"}, 415, "not_json"),
        ({"body": b'{"messages":[],"messages":[]}'}, 400, "duplicate_key"),
        ({"body": b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}"}, 400, "too_deep"),
        ({"body": b""}, 400, "empty_body"),
        ({"body": {"messages": "hi"}}, 400, "wrong_type"),
        ({"body": {"prompt": "hi"}}, 400, "missing_field"),
        ({"body": {**CHAT, "stream": "yes"}}, 400, "wrong_type"),
        ({"body": {**CHAT, "stream": True, "stream_options": []}}, 400, "wrong_type"),
        ({"body": {**CHAT, "model": "m" * 257}}, 400, "invalid_value"),
        ({"body": b" " * 30_001}, 413, "body_too_large"),
        ({"method": "CONNECT"}, 404, "route_not_found"),
    ],
)
def test_bad_input_gets_a_clear_error(request_: dict[str, Any], status: int, code: str) -> None:
    assert refused(rule(), **request_) == (status, code)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"content-length": b"10001"}, 413), ({"content-length": b"10000"}, None), ({}, None)],
)
def test_a_body_is_refused_by_the_length_that_it_announces(headers: dict[str, bytes], status: int | None) -> None:
    answer = refuse_announced(RequestHead(headers), 10_000)
    assert (answer and answer.status) == status


def test_a_form_as_curl_sends_it_is_json_after_all() -> None:
    decision = decided(rule(), content_type="application/x-www-form-urlencoded")
    assert dict(decision.set_headers)["content-type"] == b"application/json"


def test_files_pass_untouched_where_the_rule_allows_it() -> None:
    named = rule(pass_non_json=True, matches=(Match(path=matching.prefix("/v1/audio")),))
    decision = decided(named, body=b"\xff\xfb", content_type="audio/mpeg", path="/v1/audio")
    assert decision.body is None
    assert dict(decision.set_headers)["authorization"] == b"Bearer K"


def model_rule(name: str, **settings: Any) -> RouteRule:
    return rule(backend(target=f"provider/{name}"), matches=(Match(model=matching.exact(name)),), **settings)


def test_rules_go_in_order_and_the_model_chooses() -> None:
    rules = (model_rule("a"), model_rule("b"), rule(backend(target="provider/rest")))
    for model, target in (("a", "provider/a"), ("b", "provider/b"), ("c", "provider/rest")):
        assert decided(*rules, body={**CHAT, "model": model}).metadata["sluice"]["target"] == target
    assert decided(*rules).metadata["sluice"]["target"] == "provider/rest"


def test_an_unknown_model_is_named() -> None:
    assert refused(model_rule("a"), body={**CHAT, "model": "z"}) == (404, "model_not_found")
    assert refused(model_rule("a")) == (400, "missing_model")


def test_no_rule_and_no_host_are_404() -> None:
    only = rule(matches=(Match(headers=(("user-type", matching.exact("subscriber")),)),))
    assert refused(only) == (404, "route_not_found")
    assert isinstance(outcome(only, user_type="subscriber"), Decision)


@pytest.mark.parametrize(
    ("claims", "fits"),
    [
        ({"tenant": {"id": "t1"}}, True),
        ({"tenant": {"id": ["t0", "t1"]}}, True),
        ({"tenant": {"id": "t2"}}, False),
        ({"tenant": "t1"}, False),
        ({}, False),
    ],
)
def test_claims_are_matched_through_dots(claims: dict[str, Any], fits: bool) -> None:
    match = Match(claims=((("tenant", "id"), matching.exact("t1")),))
    assert match.head_fits(RequestHead({}, claims)) is fits


def test_weights_share_exactly_and_take_turns() -> None:
    shares = RouteRule(
        "r/0", (backend(target="a", weight=4), backend(target="b", weight=1), backend(target="c", weight=0))
    )
    turns = [shares.next_backend().target for _ in range(100)]
    assert (turns.count("a"), turns.count("b"), turns.count("c")) == (80, 20, 0)
    assert "aaaaa" not in "".join(turns)


def test_the_answer_keeps_the_requested_model_where_asked() -> None:
    restoring = rule(restore_model=True)
    assert decided(restoring, body={**CHAT, "model": "mine"}).plan.model == "mine"
    assert decided(restoring, body={**CHAT, "model": "ours"}).plan.model is None
    assert decided(restoring).plan.model is None


def test_the_list_of_models_is_the_hosts() -> None:
    answer = outcome(rule(), path="/v1/models", method="GET", body=b"", models=("a", "b"))
    assert isinstance(answer, LocalReply)
    assert answer.ending is Ending.ANSWERED
    assert [model["id"] for model in json.loads(answer.body)["data"]] == ["a", "b"]


def test_a_get_without_a_body_goes_on() -> None:
    named = rule(matches=(Match(path=matching.exact("/v1/batches")),))
    assert decided(named, method="GET", path="/v1/batches", body=b"").body is None


def test_hosts_are_found_exactly_then_by_suffix_then_by_default() -> None:
    exact, suffix, longer, default = (HostRoutes(name, ()) for name in ("a.b.c", "*.c", "*.b.c", "*"))
    table = RouteTable({"a.b.c": exact}, ((".b.c", longer), (".c", suffix)), default)
    found = [table.find(host) for host in ("a.b.c", "x.b.c", "x.c", ".c", "elsewhere")]
    assert found == [exact, longer, suffix, default, default]


def test_header_edits_of_a_rule() -> None:
    edits = rule(set_headers=(("x-internal-team", b"a"),), remove_headers=("x-internal-*", "x-secret", "x-absent"))
    decision = decided(edits, x_internal_a="1", x_secret="1", x_internal="1")
    assert ("x-internal-team", b"a") in decision.set_headers
    assert set(decision.remove_headers) == {"x-internal-a", "x-secret"}


def test_a_bare_post_is_a_chat_also_for_a_pool_and_a_provider_without_a_path() -> None:
    for target in (backend(stream=True), backend(target="pool/p", is_provider=False, stream=True)):
        decision = decided(rule(target), path="/")
        assert dict(decision.set_headers)[":path"] == b"/v1/chat/completions"
        assert json.loads(decision.body or b"")["stream_options"] == {"include_usage": True}
    assert refused(rule(), path="/", body={"prompt": "hi"}) == (400, "missing_field")


def test_a_configured_stream_is_not_written_into_embeddings() -> None:
    body = sent(rule(backend(model="ours", stream=False)), path="/v1/embeddings", body={"input": "x"})
    assert body == {"input": "x", "model": "ours"}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/files", (403, "operation_not_open")),
        ("DELETE", "/v1/responses/resp_1", (403, "operation_not_open")),
        ("POST", "/v1/organization/projects", (403, "operation_not_open")),
        ("DELETE", "/v1/chat/completions", (405, "method_not_allowed")),
        ("POST", "/v1/models", (405, "method_not_allowed")),
    ],
)
def test_a_providers_key_is_lent_for_inference_only(method: str, path: str, expected: tuple[int, str]) -> None:
    asked: dict[str, Any] = {"method": method, "path": path, "body": b"" if method != "POST" else CHAT}
    assert refused(rule(), **asked) == expected
    named = RouteRule("r/0", (OURS,), matches=(Match(path=matching.prefix("/v1/")),))
    assert isinstance(outcome(named, **asked), Decision)
    keyless = rule(backend(key=None, key_header=None))
    assert isinstance(outcome(keyless, **asked), Decision)
