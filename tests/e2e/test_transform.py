"""What providers get in place of what clients wrote, and what clients get in place of what providers wrote."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any

import pytest

from bench.certs import Certificates
from bench.provider import ProviderServer
from tests.e2e.talk import HELLO, Reply, Seen, hello, last, send
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, provider, route

HOST = "api.example.com"


def rule(host: str, to: str = "plain", **more: Any) -> Manifest:
    """A route of one rule, reached by its host."""
    return route(host.partition(".")[0], host, {"backendRefs": [{"provider": to}], **more})


ROUTES = [
    rule("fill.test", "fill"),
    rule("override.test", "override"),
    rule("streaming.test", "streaming"),
    rule("untouched.test", matches=[{"path": {"prefix": "/"}}]),
    rule("renamed.test", "renamed"),
    rule("prompt.test", systemPrompt={"prepend": "Be brief.", "append": "说中文。"}),
    rule(
        "parameters.test", parameters={"defaults": {"temperature": 0.2, "user": "sluice"}, "caps": {"max_tokens": 50}}
    ),
    rule(
        "headers.test",
        requestHeaders={"set": {"x-team": "search", "user-agent": "sluice"}, "remove": ["x-secret", "x-internal-*"]},
        responseHeaders={"set": {"x-served-by": "sluice"}, "remove": ["x-request-cost", "openai-*"]},
    ),
    rule("restored.test", "renamed", responseModel="requested"),
    rule("files.test", nonJsonBodies="pass"),
]


@dataclass(frozen=True)
class World:
    gateway: Gateway
    provider: ProviderServer

    def send(self, host: str, body: Any, path: str = "/v1/chat/completions", **headers: str) -> Reply:
        return send(self.gateway, body, path, host=host, **headers)

    def seen(self, host: str, body: Any, path: str = "/v1/chat/completions", **headers: str) -> Seen:
        """What arrives at the provider of a request that succeeds."""
        reply = self.send(host, body, path, **headers)
        assert reply.status == 200, reply
        return last(self.provider)


@pytest.fixture(scope="module")
def world(far_side: FarSide, gateways: Gateways, certificates: Certificates) -> World:
    acme = far_side.provider(certificates, hosts=[HOST])
    gateway = gateways.start(
        provider("plain", HOST, port=443),
        provider("fill", HOST, port=443, model="configured", stream=False, mode="default"),
        provider("override", HOST, port=443, model="configured", stream=False),
        provider("streaming", HOST, port=443, model="configured", stream=True),
        provider("renamed", HOST, port=443, model="target"),
        *ROUTES,
        trustedCa=str(certificates.ca),
        hostAliases={HOST: acme.address},
    )
    return World(gateway, acme)


class TestModelAndStream:
    @pytest.mark.parametrize(
        ("client", "wanted"),
        [
            ({}, ("configured", False)),
            ({"model": "own"}, ("own", False)),
            ({"model": "own", "stream": True}, ("own", True)),
            ({"stream": True}, ("configured", True)),
            ({"model": None, "stream": None}, ("configured", False)),
        ],
    )
    def test_default_mode_fills_what_is_missing(
        self, world: World, client: dict[str, Any], wanted: tuple[str, bool]
    ) -> None:
        body = world.seen("fill.test", hello(**client)).json
        assert (body["model"], body["stream"]) == wanted

    @pytest.mark.parametrize("client", [{}, {"model": "own"}, {"model": "own", "stream": True}])
    def test_override_replaces(self, world: World, client: dict[str, Any]) -> None:
        reply = world.send("override.test", hello(**client))
        body = last(world.provider).json
        assert (body["model"], body["stream"]) == ("configured", False)
        assert reply.headers["content-type"] == "application/json"

    def test_stream_options_go_with_the_stream(self, world: World) -> None:
        """Providers refuse them in a request that is not streamed."""
        body = hello(stream=True, stream_options={"include_usage": True})
        assert "stream_options" not in world.seen("override.test", body).json

    def test_a_stream_can_be_configured(self, world: World) -> None:
        reply = world.send("streaming.test", hello())
        assert reply.events[-1] == "[DONE]"
        assert all(event == "[DONE]" or event["choices"] for event in reply.events), "nobody asked for usage"
        assert last(world.provider).json["stream"] is True


class TestBytes:
    ODD = (
        b'{ "big":1e400,"id":12345678901234567890 ,\t"deep":{"b":1,"a":[1.0,-0,1E5,{"a":1,"a":2}]},\r\n'
        rb'"text":"\u4f60\/\ud83d\ude00\u0000<\u003c","model" : "own", "messages":[],"\u00e9":null, "empty":{} }'
    )

    def test_a_body_that_nobody_edits(self, world: World) -> None:
        seen = world.seen("untouched.test", self.ODD, "/v1/rerank?a=b%20c")
        assert seen.body.encode() == self.ODD
        assert (seen.path, seen.headers["content-length"]) == ("/v1/rerank?a=b%20c", str(len(self.ODD)))

    def test_the_rest_of_a_body_that_is_edited(self, world: World) -> None:
        seen = world.seen("renamed.test", self.ODD, "/v1/rerank")
        assert seen.body.encode() == self.ODD.replace(b'"own"', b'"target"')

    def test_an_answer_that_nobody_edits(self, world: World) -> None:
        """An unknown path is echoed: the answer's bytes must be what the provider sent, also after counting."""
        reply = world.send("untouched.test", self.ODD, "/v1/rerank")
        assert reply.json["body"].encode() == self.ODD
        assert reply.headers["content-length"] == str(len(reply.body))

    def test_a_compressed_request_arrives_decoded(self, world: World) -> None:
        packed = gzip.compress(json.dumps(hello(model="own")).encode())
        seen = world.seen("renamed.test", packed, content_encoding="gzip")
        assert seen.json == hello(model="target")
        assert "content-encoding" not in seen.headers

    def test_a_large_body(self, world: World) -> None:
        text = "模型" * 2**20
        reply = world.send("renamed.test", {"model": "own", "input": text}, "/v1/rerank")
        assert json.loads(reply.json["body"]) == {"model": "target", "input": text}


class TestOtherBodies:
    FORM = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n\x00\xff\xfe{"model"\r\n--x--\r\n'
    KIND = "multipart/form-data; boundary=x"

    def test_they_pass_unread_where_the_route_allows_it(self, world: World) -> None:
        seen = world.seen("files.test", self.FORM, "/v1/audio/transcriptions", content_type=self.KIND)
        assert seen.body == self.FORM.decode("utf-8", "backslashreplace")
        assert seen.headers["content-type"] == self.KIND
        assert seen.headers["authorization"] == "Bearer sk-simulated"
        assert world.seen("files.test", hello(model="own")).json["model"] == "own"

    def test_they_are_refused_elsewhere(self, world: World) -> None:
        reply = world.send("untouched.test", self.FORM, "/v1/audio/transcriptions", content_type=self.KIND)
        assert (reply.status, reply.error["code"]) == (415, "not_json")

    def test_requests_without_a_body_pass(self, world: World) -> None:
        reply = send(world.gateway, path="/v1/files?limit=1", host="untouched.test", method="GET")
        assert (reply.status, reply.json["method"], reply.json["path"]) == (200, "GET", "/v1/files?limit=1")


class TestSystemPrompt:
    @pytest.mark.parametrize(
        ("client", "wanted"),
        [
            ([], [{"role": "system", "content": "Be brief.\n\n说中文。"}]),
            (
                [{"role": "system", "content": "You sell tea."}],
                [{"role": "system", "content": "Be brief.\n\nYou sell tea.\n\n说中文。"}],
            ),
            (
                [{"role": "developer", "content": [{"type": "text", "text": "tea"}]}],
                [
                    {
                        "role": "developer",
                        "content": [{"type": "text", "text": text} for text in ("Be brief.", "tea", "说中文。")],
                    }
                ],
            ),
        ],
    )
    def test_it_goes_around_the_clients(
        self, world: World, client: list[dict[str, Any]], wanted: list[dict[str, Any]]
    ) -> None:
        seen = world.seen("prompt.test", {"model": "m", "messages": [*client, *HELLO]})
        assert seen.json["messages"] == [*wanted, *HELLO]


class TestParameters:
    def test_defaults_fill_what_is_missing(self, world: World) -> None:
        body = world.seen("parameters.test", hello(model="m", temperature=0)).json
        assert (body["temperature"], body["user"]) == (0, "sluice")
        assert world.seen("parameters.test", hello(model="m")).json["temperature"] == 0.2

    @pytest.mark.parametrize(
        ("client", "wanted"),
        [
            ({}, {"max_tokens": 50}),
            ({"max_tokens": 500}, {"max_tokens": 50}),
            ({"max_tokens": 5}, {"max_tokens": 5}),
            ({"max_completion_tokens": 500}, {"max_completion_tokens": 50}),
        ],
    )
    def test_caps_lower_what_is_larger(self, world: World, client: dict[str, Any], wanted: dict[str, Any]) -> None:
        body = world.seen("parameters.test", hello(model="m", **client)).json
        assert {name: value for name, value in body.items() if name.startswith("max_")} == wanted

    def test_the_responses_api_has_its_own_name_for_the_cap(self, world: World) -> None:
        body = world.seen("parameters.test", {"model": "m", "input": "hi"}, "/v1/responses").json
        assert body["max_output_tokens"] == 50
        assert "max_tokens" not in body

    def test_a_capped_value_must_be_a_number(self, world: World) -> None:
        reply = world.send("parameters.test", hello(model="m", max_tokens="many"))
        assert (reply.status, reply.error["param"]) == (400, "max_tokens")


class TestHeaders:
    def test_of_the_request(self, world: World) -> None:
        private = {"x_secret": "1", "x_internal_a": "1", "x_internal_b": "1", "x_kept": "1", "user_agent": "curl"}
        seen = world.seen("headers.test", hello(model="m"), **private)
        assert (seen.headers["x-team"], seen.headers["user-agent"], seen.headers["x-kept"]) == ("search", "sluice", "1")
        assert not {"x-secret", "x-internal-a", "x-internal-b"} & seen.headers.keys()

    @pytest.mark.parametrize("stream", [False, True])
    def test_of_the_answer(self, world: World, stream: bool) -> None:
        body = hello(model="m", stream=stream)
        reply = world.send("headers.test", body, x_sim="server-header")
        assert reply.headers["x-served-by"] == "sluice"
        assert not {"x-request-cost", "openai-organization", "openai-processing-ms"} & reply.headers.keys()
        assert reply.headers["server"] != "provider-sim/1.0"
        elsewhere = world.send("untouched.test", body, x_sim="server-header")
        assert elsewhere.headers["openai-organization"] == "org-simulated"

    def test_of_an_error(self, world: World) -> None:
        reply = world.send("headers.test", hello(model="m"), x_sim="server-header,status:500")
        assert (reply.status, "openai-organization" in reply.headers) == (500, False)

    def test_what_steers_the_gateway_cannot_be_sent_by_a_client(self, world: World) -> None:
        forged = {"x_sluice_target": "provider/other", "x_gateway_destination_endpoint": "127.0.0.1:1"}
        seen = world.seen("untouched.test", hello(model="m"), **forged)
        assert not {"x-sluice-target", "x-gateway-destination-endpoint"} & seen.headers.keys()


class TestRestoredModel:
    """`responseModel: requested`: the field is restored, the text of the answer is not touched."""

    @pytest.mark.parametrize("sim", ["", "gzip", "br", "split,gzip"])
    def test_json(self, world: World, sim: str) -> None:
        reply = world.send("restored.test", hello(model='my "model" 模型'), x_sim=sim)
        assert reply.json["model"] == 'my "model" 模型'
        assert "我叫target" in reply.json["choices"][0]["message"]["content"]
        assert "content-encoding" not in reply.headers

    @pytest.mark.parametrize("sim", ["", "split", "crlf", "split,crlf", "split,no-final-newline", "split,zstd"])
    @pytest.mark.parametrize("asked", [False, True])
    def test_stream(self, world: World, sim: str, asked: bool) -> None:
        body = hello(model="my-model", stream=True, stream_options={"include_usage": asked})
        plain = world.send("renamed.test", {**body, "model": "x"}, x_sim="")
        reply = world.send("restored.test", body, x_sim=sim)
        *events, done = reply.events
        *wanted, _ = plain.events
        assert done == "[DONE]"
        assert {event["model"] for event in events} == {"my-model"}
        assert [event["choices"] for event in events] == [event["choices"] for event in wanted]
        assert [event.get("usage") for event in events] == [event.get("usage") for event in wanted]
        assert (events[-1].get("usage") is not None) == asked
        assert (b"\r\n" in reply.body) == ("crlf" in sim)

    def test_a_request_without_a_model_keeps_the_targets(self, world: World) -> None:
        assert world.send("restored.test", hello()).json["model"] == "target"

    def test_responses_api(self, world: World) -> None:
        body = {"model": "my-model", "input": "hi", "stream": True}
        events = world.send("restored.test", body, "/v1/responses", x_sim="split").events
        assert {event["response"]["model"] for event in events if "response" in event} == {"my-model"}
