"""Requests that are odd or wrong as HTTP, byte by byte, through the real Envoy.

What Envoy does by itself and no configuration changes: it closes the connection after every 400; it takes a client that
closes its sending side for one that left, and gives no answer; broken HTTP/2 gets a GOAWAY frame instead of an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.hostile import CHAT, CLOUD, GPUS, IMPATIENT, STREAM, Stage
from tests.e2e.hostile import stage as hostile_stage
from tests.support.far_side import FarSide
from tests.support.gateway import Gateways
from tests.support.raw import NoReplyError, request


@pytest.fixture(scope="module")
def stage(far_side: FarSide, gateways: Gateways) -> Iterator[Stage]:
    with hostile_stage(far_side, gateways) as found:
        yield found


POST = "POST /v1/chat/completions HTTP/1.1"
LENGTH = f"content-length: {len(CHAT)}"
CHUNKED = "transfer-encoding: chunked"
WEBSOCKET = [
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: eHh4eHh4eHg=",
]


def raw(line: str, *headers: str, body: bytes = b"", host: str = CLOUD) -> bytes:
    """Exactly these lines; a `host` header in front of them unless `host` is empty."""
    lines = [line, *([f"host: {host}"] if host else []), *headers]
    return "".join(f"{each}\r\n" for each in lines).encode("latin-1") + b"\r\n" + body


def chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


NOT_HTTP = {
    "length of less than nothing": raw(POST, "content-length: -1", body=CHAT),
    "length with a sign": raw(POST, f"content-length: +{len(CHAT)}", body=CHAT),
    "length without end": raw(POST, "content-length: 99999999999999999999999", body=CHAT),
    "two lengths": raw(POST, LENGTH, "content-length: 3", body=CHAT),
    "the same length twice": raw(POST, LENGTH, LENGTH, body=CHAT),
    "length and chunks": raw(POST, "content-length: 5", CHUNKED, body=chunks()),
    "chunk of no size": raw(POST, CHUNKED, body=b"zz\r\n"),
    "chunk of less than nothing": raw(POST, CHUNKED, body=b"-1\r\n"),
    "chunk without end": raw(POST, CHUNKED, body=b"ffffffffffffffffff\r\n"),
    "no host": raw(POST, LENGTH, body=CHAT, host=""),
    "host with a space": raw(POST, LENGTH, body=CHAT, host="a b"),
    "host with a slash": raw(POST, LENGTH, body=CHAT, host="a/b"),
    "host beyond ASCII": raw(POST, LENGTH, body=CHAT, host="clöud.test"),
    "path without slash": raw("POST v1/chat/completions HTTP/1.1", LENGTH, body=CHAT),
    "path of backslashes": raw("POST \\v1\\chat\\completions HTTP/1.1", LENGTH, body=CHAT),
    "path with a space": raw("POST /v1/chat completions HTTP/1.1", LENGTH, body=CHAT),
    "path with NUL": raw("POST /v1/%00 HTTP/1.1", LENGTH, body=CHAT),
    "path with a fragment": raw("POST /v1/chat/completions#x HTTP/1.1", LENGTH, body=CHAT),
    "path beyond ASCII": raw("POST /v1/é HTTP/1.1", LENGTH, body=CHAT),
    "URI of another scheme": raw("POST ftp://cloud.test/v1 HTTP/1.1", LENGTH, body=CHAT),
    "unknown method": raw("BREW / HTTP/1.1"),
    "CONNECT to a path": raw("CONNECT /v1 HTTP/1.1"),
    "header without colon": raw(POST, "x-a", "content-length: 0"),
    "header without name": raw(POST, ": a", "content-length: 0"),
    "header with NUL": raw(POST, "x-a: a\0b", "content-length: 0"),
    "space before the colon": raw(POST, "x-a : b", "content-length: 0"),
    "a TLS client": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100,
}


@pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP)
def test_what_is_no_http_is_a_400(stage: Stage, sent: bytes) -> None:
    before = stage.count()
    reply = stage.send(sent)
    assert (reply.status, reply.error["code"], reply.error["type"]) == (400, "bad_request", "invalid_request_error")
    assert stage.count() == before


OTHER_ERRORS = {
    "an unknown transfer coding": (
        raw(POST, "transfer-encoding: gzip, chunked", body=chunks()),
        501,
        "unsupported_transfer_encoding",
    ),
    "a header of 100 KB": (raw(POST, f"x-a: {'a' * 100_000}", LENGTH, body=CHAT), 431, "headers_too_large"),
    "200 headers": (raw(POST, *(f"x-{i}: a" for i in range(200)), LENGTH, body=CHAT), 431, "headers_too_large"),
    "one header 200 times": (raw(POST, *["x-a: b"] * 200, LENGTH, body=CHAT), 431, "headers_too_large"),
    "a path of 100 KB": (raw(f"POST /{'a' * 100_000} HTTP/1.1", LENGTH, body=CHAT), 431, "headers_too_large"),
    "https on plain HTTP": (raw("POST https://cloud.test/v1 HTTP/1.1", LENGTH, body=CHAT), 403, "bad_request"),
    "an upgrade": (raw("GET / HTTP/1.1", "connection: upgrade", "upgrade: irc"), 403, "upgrade_unsupported"),
    "a tunnel": (raw("CONNECT cloud.test:443 HTTP/1.1"), 404, "route_not_found"),
    "the whole server": (raw("OPTIONS * HTTP/1.1"), 404, "route_not_found"),
    "two hosts": (raw(POST, "host: gpus.test", LENGTH, body=CHAT), 404, "route_not_found"),
    "an empty host": (raw(POST, "host:", LENGTH, body=CHAT, host=""), 404, "route_not_found"),
    "an IPv6 host": (raw(POST, LENGTH, body=CHAT, host="[::1]:10000"), 404, "route_not_found"),
    "half an IPv6 host": (raw(POST, LENGTH, body=CHAT, host="[::1"), 404, "route_not_found"),
    "a host with a password": (raw(POST, LENGTH, body=CHAT, host="user:pw@cloud.test"), 404, "route_not_found"),
    "HTTP/1.0 without host": (raw("POST / HTTP/1.0", LENGTH, body=CHAT, host=""), 404, "route_not_found"),
    "HTTP/0.9": (b"GET /\r\n", 404, "route_not_found"),
    "POST without body": (raw(POST), 400, "empty_body"),
    "a length that is too short": (raw(POST, f"content-length: {len(CHAT) - 1}", body=CHAT), 400, "invalid_json"),
}


@pytest.mark.parametrize(("sent", "status", "code"), OTHER_ERRORS.values(), ids=OTHER_ERRORS)
def test_every_other_error_is_an_error_object_too(stage: Stage, sent: bytes, status: int, code: str) -> None:
    before = stage.count()
    reply = stage.send(sent, sent.partition(b" ")[0].decode("latin-1"))
    assert (reply.status, reply.error["code"], reply.error["type"]) == (status, code, "invalid_request_error")
    assert stage.count() == before


CHAT_PATH = "/v1/chat/completions"
PASSED = {
    "chunks of one byte": (raw(POST, CHUNKED, body=chunks(*(b"%c" % byte for byte in CHAT.ljust(1000)))), CHAT_PATH),
    "trailers": (
        raw(POST, CHUNKED, "trailer: x-a", body=chunks(CHAT, end=b"0\r\nx-a: b\r\nx-sluice-reason: c\r\n\r\n")),
        CHAT_PATH,
    ),
    "a chunk extension": (raw(POST, CHUNKED, body=b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT)), CHAT_PATH),
    "empty lines in front": (b"\r\n\r\n" + raw(POST, LENGTH, body=CHAT), CHAT_PATH),
    "bare line feeds": (raw(POST, LENGTH).replace(b"\r\n", b"\n") + CHAT, CHAT_PATH),
    "HTTP/1.0": (raw("POST /v1/chat/completions HTTP/1.0", LENGTH, body=CHAT), CHAT_PATH),
    "doubled slashes": (raw("POST //v1//chat/completions HTTP/1.1", LENGTH, body=CHAT), CHAT_PATH),
    "steps up": (raw("POST /v1/../../etc/passwd HTTP/1.1", LENGTH, body=CHAT), "/etc/passwd"),
    "encoded steps up": (raw("POST /v1/%2e%2e/%2e%2e/etc/passwd HTTP/1.1", LENGTH, body=CHAT), "/etc/passwd"),
    "an absolute URI": (raw(f"POST http://{CLOUD}{CHAT_PATH} HTTP/1.1", LENGTH, body=CHAT, host="other"), CHAT_PATH),
    "a broken escape": (raw("POST /v1/%zz HTTP/1.1", LENGTH, body=CHAT), "/v1/%zz"),
    "a host with port": (raw(POST, LENGTH, body=CHAT, host=f"{CLOUD}:10000"), CHAT_PATH),
    "a host in capitals": (raw(POST, LENGTH, body=CHAT, host="CLOUD.Test"), CHAT_PATH),
    "a host with a final dot": (raw(POST, LENGTH, body=CHAT, host=f"{CLOUD}."), CHAT_PATH),
    "a host with a final dot and port": (raw(POST, LENGTH, body=CHAT, host=f"{CLOUD}.:80"), CHAT_PATH),
    "90 headers": (raw(POST, *(f"x-{i}: a" for i in range(90)), LENGTH, body=CHAT), CHAT_PATH),
    "a header that is not ASCII": (raw(POST, "x-a: \xff\xfe", LENGTH, body=CHAT), CHAT_PATH),
    "a GET without body": (raw("GET /v1/files HTTP/1.1"), "/v1/files"),
    "a GET with body": (raw(f"GET {CHAT_PATH} HTTP/1.1", LENGTH, body=CHAT), CHAT_PATH),
    "a DELETE": (raw("DELETE /v1/files/a HTTP/1.1"), "/v1/files/a"),
    "an OPTIONS": (raw("OPTIONS /v1/files HTTP/1.1"), "/v1/files"),
    "an upgrade to h2c": (raw("GET /v1/files HTTP/1.1", "connection: upgrade", "upgrade: h2c"), "/v1/files"),
}


@pytest.mark.parametrize(("sent", "path"), PASSED.values(), ids=PASSED)
def test_what_is_odd_but_valid_is_served(stage: Stage, sent: bytes, path: str) -> None:
    before = stage.count()
    reply = stage.send(sent)
    assert reply.status == 200, reply
    assert stage.count() == before + 1
    arrived = stage.arrived()
    assert arrived["path"] == path
    assert arrived["headers"]["host"] == CLOUD
    assert not [name for name in arrived["headers"] if name.startswith("x-sluice")]
    if arrived["body"]:
        assert json.loads(arrived["body"])["model"] == "qwen-turbo"


def test_a_websocket_that_nobody_takes_is_closed(stage: Stage) -> None:
    sent = raw("GET /v1/realtime HTTP/1.1", *WEBSOCKET, host=GPUS, body=b"\x81\x00" * 50)
    with stage.connect() as connection:
        assert connection.send(sent).reply("GET").status == 404
        assert connection.rest() == b""


def test_an_escaped_slash_hides_no_operation(stage: Stage) -> None:
    bad = stage.send(raw("POST /v1%2fchat%2fcompletions HTTP/1.1", "content-length: 2", body=b"{}"))
    assert (bad.status, bad.error["param"]) == (400, "messages")


def test_a_head_request_gets_headers_only(stage: Stage) -> None:
    for host, status in ((CLOUD, 200), ("nobody.test", 404)):
        with stage.connect() as connection:
            connection.send(raw("HEAD /v1/files HTTP/1.1", host=host))
            reply = connection.reply("HEAD")
            assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
            # the connection is still in step
            assert connection.send(raw("GET /v1/models HTTP/1.1")).reply("GET").json["object"] == "list"


def test_headers_that_only_the_gateway_may_set_are_taken_from_clients(stage: Stage) -> None:
    forged = {
        "x_sluice_reason": "forged",
        "x_gateway_destination_endpoint": "127.0.0.1:1",
        "x_prefiller_host_port": "127.0.0.1:1",
        "x_envoy_upstream_rq_timeout_ms": "1",
    }
    for host in (CLOUD, GPUS):
        reply = stage.post(CHAT, host, **forged)
        assert reply.status == 200
        assert "x-sluice-reason" not in reply.headers
    assert not {name.replace("_", "-") for name in forged} & stage.arrived()["headers"].keys()


class TestUnfinished:
    """A request that never becomes complete ends with an error or with the client, and holds nothing."""

    UNFINISHED = {
        "a length that is too long": raw(POST, f"content-length: {len(CHAT) + 5}", body=CHAT, host=IMPATIENT),
        "no last chunk": raw(POST, CHUNKED, body=chunks(CHAT, end=b""), host=IMPATIENT),
        "half a chunk": raw(POST, CHUNKED, body=b"ff\r\nabc", host=IMPATIENT),
        "headers only": raw(POST, CHUNKED, host=IMPATIENT),
    }

    @pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
    def test_silence_is_a_408(self, stage: Stage, sent: bytes) -> None:
        with stage.connect() as connection:
            reply = connection.send(sent).reply()
            assert (reply.status, reply.error["code"]) == (408, "request_timeout")
            assert connection.rest() == b"", "Envoy closes the connection"

    @pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
    def test_a_client_that_closes_its_side_has_left(self, stage: Stage, sent: bytes) -> None:
        before = stage.count()
        with stage.connect() as connection:
            connection.send(sent.replace(IMPATIENT.encode(), CLOUD.encode())).half_close()
            with pytest.raises(NoReplyError):
                connection.reply()
        assert stage.count() == before

    def test_slow_headers_keep_nobody_else_waiting(self, stage: Stage) -> None:
        with ExitStack() as slow:
            for i in range(40):
                slow.enter_context(stage.connect()).send(raw(POST)[: 10 + i])
            assert stage.post(CHAT).status == 200
            assert stage.in_flight() == 0, "the filter hears of complete headers only"


class TestOneConnection:
    """Several requests on one connection are answered in order."""

    def test_pipelined_requests(self, stage: Stage) -> None:
        with stage.connect() as connection:
            connection.send(request(CHAT, host=CLOUD) + request(STREAM, host=CLOUD) + request(CHAT, host="nobody.test"))
            assert connection.reply().json["model"] == "qwen-turbo"
            assert connection.reply().body.endswith(b"data: [DONE]\n\n")
            assert connection.reply().error["code"] == "route_not_found"
            assert connection.send(request(CHAT, host=CLOUD)).reply().status == 200

    def test_a_request_that_starts_before_the_earlier_answer_is_complete(self, stage: Stage) -> None:
        slow = request(STREAM, host=CLOUD, x_sim="slow-stream:20,events:20")
        with stage.connect() as connection:
            connection.send(slow).send(request(CHAT, host=CLOUD)[:50])
            assert connection.reply().body.count(b"data: ") > 20
            assert connection.send(request(CHAT, host=CLOUD)[50:]).reply().status == 200

    def test_a_request_behind_a_malformed_one_is_not_served(self, stage: Stage) -> None:
        before = stage.count()
        with stage.connect() as connection:
            connection.send(request(b"{", host=CLOUD) + request(CHAT, host=CLOUD))
            assert connection.reply().error["code"] == "invalid_json"
            assert connection.rest() == b""
        assert stage.count() == before

    def test_http_1_0_keeps_the_connection_only_where_asked(self, stage: Stage) -> None:
        for line, kept in (("", False), ("connection: keep-alive", True)):
            with stage.connect() as connection:
                headers = [line] if line else []
                sent = raw("POST /v1/chat/completions HTTP/1.0", LENGTH, *headers, body=CHAT)
                assert connection.send(sent).reply().status == 200
                if kept:
                    assert connection.send(sent).reply().status == 200
                else:
                    assert connection.rest() == b""

    def test_broken_http2_is_closed(self, stage: Stage) -> None:
        with stage.connect() as connection:
            connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 64)
            assert b"HTTP/1" not in connection.rest()
