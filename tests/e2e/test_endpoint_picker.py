"""Sluice as the endpoint picker of a gateway that knows nothing of it but the protocol.

Envoy's configuration is written by hand, the filter and the cluster's policy as docs/endpoint-picker.md shows them. It
has one listener for each failure mode, and hints at a subset where a request's `x-subset` says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import yaml

from bench.engine.faults import Faults
from bench.engine.server import EngineServer
from tests.support.chat import Chat, chat
from tests.support.documents import blocks
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, manifest, pool, route, write_manifests
from tests.support.processes import BIN, Process, free_port, http_status, wait_until
from tests.support.raw import NoReplyError, RawConnection

MODEL = "qwen3-8b"
HTTP = "envoy.extensions.filters.http"
HEADER_TO_METADATA = {
    "name": "envoy.filters.http.header_to_metadata",
    "typed_config": {
        "@type": f"type.googleapis.com/{HTTP}.header_to_metadata.v3.Config",
        "request_rules": [
            {
                "header": "x-subset",
                "on_header_present": {
                    "metadata_namespace": "envoy.lb.subset_hint",
                    "key": "x-gateway-destination-endpoint-subset",
                    "type": "STRING",
                },
                "remove": True,
            }
        ],
    },
}
DENIED = {
    "name": "envoy.filters.http.rbac",
    "typed_config": {
        "@type": f"type.googleapis.com/{HTTP}.rbac.v3.RBAC",
        "rules": {
            "action": "DENY",
            "policies": {
                "marked": {
                    "permissions": [{"header": {"name": "x-denied", "present_match": True}}],
                    "principals": [{"any": True}],
                }
            },
        },
    },
}
RATE_LIMIT = {
    "@type": f"type.googleapis.com/{HTTP}.local_ratelimit.v3.LocalRateLimit",
    "stat_prefix": "front",
}
LIMITED = {"name": "envoy.filters.http.local_ratelimit", "typed_config": RATE_LIMIT}
ALWAYS = {"default_value": {"numerator": 100}}
ONE_AN_HOUR = {
    "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"},
    "filter_enabled": ALWAYS,
    "filter_enforced": ALWAYS,
}
ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": f"type.googleapis.com/{HTTP}.router.v3.Router"},
}
ROUTE = {"cluster": "engines", "timeout": "0s"}
ONCE = {"name": "x-once", "present_match": True}
RETRY = {
    "retry_on": "connect-failure,reset,retriable-status-codes",
    "retriable_status_codes": [503],
    "num_retries": 2,
}


@dataclass
class Picked:
    """A gateway, its picker, and the engines behind it."""

    picker: Gateway
    engines: list[EngineServer]
    closed: int
    """Port of the listener that fails closed."""
    open: int
    command: list[str] = field(default_factory=list)

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.closed}/v1", api_key="x", max_retries=0)

    def in_flight(self) -> dict[str, int]:
        (found,) = json.loads(self.picker.admin_text("/endpoints"))
        return {one["address"]: one["in_flight"] for one in found["endpoints"] if one["in_flight"]}

    def idle(self) -> None:
        wait_until(lambda: not self.in_flight(), "all load to be given back")

    def start_picker(self) -> None:
        self.picker.filter = Process(self.command, self.picker.directory.parent / "picker.log")
        self.picker.filter.wait_ready(lambda: http_status(f"{self.picker.admin}/readyz") == 200, "the picker")
        wait_until(
            lambda: (
                {one["state"] for one in json.loads(self.picker.admin_text("/endpoints"))[0]["endpoints"]}
                == {"healthy"}
            ),
            "the engines to be known",
        )


@pytest.fixture(scope="module")
def picked(far_side: FarSide, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Picked]:
    place = tmp_path_factory.mktemp("picker")
    engines = [far_side.engine() for _ in range(2)]
    picker_port, admin_port, closed, open_ = (free_port() for _ in range(4))
    (place / "config").mkdir()
    write_manifests(
        place / "config",
        pool(
            "engines",
            [engine.address for engine in engines],
            models=[MODEL],
            retryCount=1,
            saturation={"maxInFlight": 1},
            queue={"sheddable": ["batch"]},
            metrics={"interval": "100ms"},
        ),
        route(
            "everything",
            "*",
            {
                "matches": [{"model": {"exact": "alias"}}],
                "backendRefs": [{"pool": "engines", "model": MODEL}],
                "responseModel": "requested",
            },
            {"backendRefs": [{"pool": "engines"}]},
        ),
        manifest("Gateway", "test", admin={"port": admin_port}),
    )
    (place / "envoy.yaml").write_text(yaml.safe_dump(envoy(picker_port, closed, open_, engines)), encoding="utf-8")
    picker = Gateway(place / "config", closed, admin_port, None)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "extproc", "serve", "-c", str(picker.directory)]
    found = Picked(picker, engines, closed, open_, [*command, "--listen", f"127.0.0.1:{picker_port}"])
    run = [str(BIN / "envoy"), "-c", str(place / "envoy.yaml"), "--concurrency", "1", "--disable-hot-restart"]
    with ExitStack() as stack:
        found.start_picker()
        stack.callback(lambda: found.picker.filter.__exit__(None, None, None))
        proxy = stack.enter_context(Process([*run, "-l", "warning"], place / "envoy.log"))
        proxy.wait_ready(lambda: http_status(f"http://127.0.0.1:{closed}/v1/models") == 200, "the gateway")
        yield found


def envoy(picker: int, closed: int, open_: int, engines: list[EngineServer]) -> dict[str, Any]:
    ext_proc, policy, health = (
        yaml.safe_load(block.text) for block in blocks("text") if "endpoint-picker" in block.page
    )
    return {
        "static_resources": {
            "listeners": [listener(ext_proc, closed, fail_open=False), listener(ext_proc, open_, fail_open=True)],
            "clusters": [
                cluster("picker", [picker], {"http2_protocol_options": {}}) | health,
                cluster("engines", [one.port for one in engines], {"http_protocol_options": {"enable_trailers": True}})
                | policy,
            ],
        }
    }


def listener(ext_proc: dict[str, Any], port: int, *, fail_open: bool) -> dict[str, Any]:
    # A timer that ran at all would end nearly every request: the docs say that none does.
    settings = {"failure_mode_allow": fail_open, "message_timeout": "0.001s"}
    ext_proc = {**ext_proc, "typed_config": ext_proc["typed_config"] | settings}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "http_protocol_options": {"enable_trailers": True},
        "http_filters": [DENIED, LIMITED, HEADER_TO_METADATA, ext_proc, ROUTER],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "any",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/", "headers": [ONCE]}, "route": ROUTE},
                        {
                            "match": {"prefix": "/", "headers": [{"name": "x-limited", "present_match": True}]},
                            "route": ROUTE,
                            "typed_per_filter_config": {LIMITED["name"]: RATE_LIMIT | ONE_AN_HOUR},
                        },
                        {"match": {"prefix": "/"}, "route": {**ROUTE, "retry_policy": RETRY}},
                    ],
                }
            ]
        },
    }
    return {
        "name": f"listener-{port}",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def cluster(name: str, ports: list[int], http: dict[str, Any]) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    hosts = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports
    ]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
        "typed_extension_protocol_options": {
            options: {"@type": f"type.googleapis.com/{options}", "explicit_http_config": http}
        },
    }


@contextmanager
def long_stream(picked: Picked) -> Iterator[Chat]:
    """A request whose answer has begun, and runs until its connection is closed."""
    with Chat(picked.closed, model=MODEL, stream=True, max_tokens=30_000, ignore_eos=True) as stream:
        assert stream.head()[0] == 200
        stream.text()
        yield stream


def seen(picked: Picked) -> list[int]:
    return [engine.recorder.seen for engine in picked.engines]


class TestClient:
    def test_json(self, picked: Picked) -> None:
        answer = picked.client().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "你好"}], max_tokens=5
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5
        picked.idle()

    def test_streaming(self, picked: Picked) -> None:
        stream = picked.client().chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 20
        assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 1
        picked.idle()
        assert picked.picker.metric("gen_ai_server_time_to_first_token_seconds_count") > 0

    def test_both_bodies_are_edited_on_the_way(self, picked: Picked) -> None:
        request = picked.client().chat.completions.create
        messages: Any = [{"role": "user", "content": "hi"}]
        assert request(model="alias", messages=messages, max_tokens=5).model == "alias"
        chunks = list(request(model="alias", messages=messages, max_tokens=5, stream=True))
        assert {chunk.model for chunk in chunks} == {"alias"}
        assert len(chunks) > 2

    def test_models(self, picked: Picked) -> None:
        assert [one.id for one in picked.client().models.list().data] == ["alias", MODEL]

    def test_a_body_of_two_megabytes(self, picked: Picked) -> None:
        before = seen(picked)
        reply = chat(picked.closed, model=MODEL, max_tokens=2, user="x" * 2_000_000)
        assert reply.status == 200, reply
        assert sum(seen(picked)) == sum(before) + 1

    def test_a_body_in_chunks_with_trailers(self, picked: Picked) -> None:
        body = json.dumps({"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-once: 1\r\ntransfer-encoding: chunked\r\n\r\n"
        with RawConnection(picked.closed) as connection:
            connection.send(head)
            for start in range(0, len(body), 7):
                piece = body[start : start + 7]
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.send(b"0\r\nx-sum: 1\r\n\r\n")
            reply = connection.reply()
            assert reply.status == 200, reply
            assert reply.json["usage"]["completion_tokens"] == 2

    def test_a_refusal_has_its_error_body(self, picked: Picked) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            picked.client().chat.completions.create(model=MODEL, messages="hi")  # type: ignore[arg-type]
        assert caught.value.body is not None
        assert caught.value.response.headers["x-sluice-reason"] == "wrong_type"


class TestChoice:
    def test_the_idle_engine_is_next(self, picked: Picked) -> None:
        for _ in range(4):
            with long_stream(picked):
                (taken,) = picked.in_flight()
                before = {engine.address: engine.recorder.seen for engine in picked.engines}
                assert chat(picked.closed, model=MODEL, max_tokens=2).status == 200
                after = {engine.address: engine.recorder.seen for engine in picked.engines}
                assert {address for address in after if after[address] > before[address]} == set(before) - {taken}
            picked.idle()

    def test_the_gateway_may_limit_the_choice(self, picked: Picked) -> None:
        for engine in picked.engines * 2:
            before = engine.recorder.seen
            assert chat(picked.closed, model=MODEL, max_tokens=2, headers={"x-subset": engine.address}).status == 200
            assert engine.recorder.seen == before + 1
        for _ in range(3):
            reply = chat(picked.closed, model=MODEL, headers={"x-subset": "10.9.9.9:1,10.9.9.9:2"})
            assert (reply.status, reply.error["code"]) == (503, "no_endpoints")
        assert picked.picker.filter.output().count("subset hint") == 1

    def test_the_load_counts_where_the_gateway_says_it_was_served(self, picked: Picked) -> None:
        broken, good = picked.engines
        broken.faults = Faults(status=503)
        try:
            for _ in range(3):
                with long_stream(picked):
                    assert picked.in_flight() == {good.address: 1}
                picked.idle()
        finally:
            broken.faults = Faults()

    def test_a_request_waits_while_all_are_busy(self, picked: Picked) -> None:
        with ExitStack() as stack:
            busy = [stack.enter_context(long_stream(picked)) for _ in range(2)]
            with Chat(picked.closed, model=MODEL, max_tokens=2) as waiting:
                wait_until(lambda: picked.picker.metric("sluice_exchanges_in_flight") == 3, "the third request")
                batch = {"x-gateway-inference-objective": "batch"}
                reply = chat(picked.closed, model=MODEL, max_tokens=2, headers=batch)
                assert (reply.status, reply.error["code"]) == (429, "shed")
                busy[0].reset()
                assert waiting.reply().status == 200
        picked.idle()


class TestFiltersInFront:
    """What they answer by themselves opens the stream to the picker, and reaches the client as it is."""

    def test_a_denial(self, picked: Picked) -> None:
        reply = chat(picked.closed, model=MODEL, headers={"x-denied": "1"})
        assert (reply.status, reply.body) == (403, b"RBAC: access denied")

    def test_a_rate_limit(self, picked: Picked) -> None:
        replies = [chat(picked.closed, model=MODEL, max_tokens=2, headers={"x-limited": "1"}) for _ in range(2)]
        assert [reply.status for reply in replies] == [200, 429]
        assert replies[1].body == b"local_rate_limited"

    def test_a_reply_without_a_body(self, picked: Picked) -> None:
        with RawConnection(picked.closed) as connection:
            connection.send(b"HEAD /v1/models HTTP/1.1\r\nhost: x\r\nx-denied: 1\r\n\r\n")
            assert connection.reply("HEAD").status == 403

    def test_the_picker_counts_them(self, picked: Picked) -> None:
        before = picked.picker.metric("sluice_exchanges_total", ending="replied_by_envoy")
        chat(picked.closed, model=MODEL, headers={"x-denied": "1"})
        wait_until(
            lambda: picked.picker.metric("sluice_exchanges_total", ending="replied_by_envoy") == before + 1,
            "the denial to be counted",
        )


class TestFailure:
    def test_the_gateways_failure_mode_holds_while_the_picker_is_away(self, picked: Picked) -> None:
        with ExitStack() as stack:
            under_way = stack.enter_context(long_stream(picked))
            picked.picker.filter.kill()
            with pytest.raises(NoReplyError):
                while under_way.event() is not None:
                    pass
        wait_until(lambda: chat(picked.open, model=MODEL, max_tokens=2).status == 200, "the gateway to notice it")
        before = seen(picked)
        for _ in range(4):
            assert chat(picked.open, model=MODEL, max_tokens=2).status == 200
        assert [after - one for after, one in zip(seen(picked), before, strict=True)] == [2, 2], "round robin"
        for _ in range(4):
            assert chat(picked.closed, model=MODEL, max_tokens=2).status >= 500
        assert sum(seen(picked)) == sum(before) + 4
        picked.start_picker()
        wait_until(lambda: chat(picked.closed, model=MODEL, max_tokens=2).status == 200, "the gateway to find it")
