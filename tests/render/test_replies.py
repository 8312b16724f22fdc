"""Envoy's own replies on the real Envoy: every error is an OpenAI error object, and only Envoy's own are changed."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.render.harness import ANSWER_BODY, HOSTILE, IMMEDIATE_BODY, Gateway, pool, to_pool
from tests.support.processes import free_port

pytestmark = pytest.mark.e2e


class TestErrors:
    """Every error is an OpenAI error object with a stable code."""

    async def test_replies_of_envoy(self, edge: Gateway) -> None:
        slow = await edge.upstream()
        slow.hold = asyncio.Event()
        timeouts = "timeouts: {unary: 300ms, perTry: 300ms, stream: 300ms}, retryCount: 0"
        await edge.start(
            pool("dead", f"127.0.0.1:{free_port()}", more="retryCount: 0")
            + pool("slow", slow.address, more=timeouts)
            + pool("busy", slow.address, more="connectionPool: {maxConnections: 1, maxPendingRequests: 1}")
            + "route all: {host: '*', rules: [{backendRefs: [{pool: dead}, {pool: slow}, {pool: busy}]}]}"
        )
        for kind in ("unary", "stream"):
            dead = await edge.send(x_target="pool/dead", x_kind=kind)
            assert (dead.status, dead.error["code"], dead.error["type"]) == (
                503,
                "upstream_unavailable",
                "server_error",
            )
            late = await edge.send(x_target="pool/slow", x_kind=kind)
            assert (late.status, late.error["code"]) == (504, "upstream_timeout")
        large = await edge.send(bytes(4 * 2**20), x_target="pool/slow")
        assert (large.status, large.error["code"]) == (413, "body_too_large")
        assert large.error["type"] == "invalid_request_error"
        assert "3145728 bytes" in large.error["message"]
        lost = await edge.send(x_target="pool/unknown")
        assert (lost.status, lost.error["code"]) == (503, "stale_envoy")
        requests = [asyncio.create_task(edge.send(x_target="pool/busy")) for _ in range(4)]
        done, _ = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        refused = [task.result() for task in done]
        assert {reply.error["code"] for reply in refused} == {"upstream_overloaded"}
        slow.hold.set()
        await asyncio.gather(*requests)

    @pytest.mark.parametrize(
        ("sent", "status", "code"),
        [
            (b"garbage\r\n\r\n", 400, "bad_request"),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
            (b"GET /%00/a HTTP/1.1\r\nhost: x\r\n\r\n", 400, "bad_request"),
            (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n", 400, "bad_request"),
            (
                b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
                400,
                "bad_request",
            ),
            (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400, "bad_request"),
            (
                b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
                501,
                "unsupported_transfer_encoding",
            ),
            (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 70_000 + b"\r\n\r\n", 431, "headers_too_large"),
            (
                b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: irc\r\n\r\n",
                403,
                "upgrade_unsupported",
            ),
        ],
    )
    async def test_bytes_that_are_not_a_request(self, shared: Gateway, sent: bytes, status: int, code: str) -> None:
        head, _, body = (await shared.raw(sent)).partition(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert f"x-sluice-reason: {code}".encode() in head
        assert json.loads(body)["error"]["code"] == code

    @pytest.fixture
    async def shared(self, edge: Gateway) -> Gateway:
        await edge.start("")
        return edge

    async def test_answers_of_the_filter_stay_as_they_are(self, edge: Gateway) -> None:
        upstream = await edge.upstream()
        await edge.start(pool("p", upstream.address) + to_pool("*", "p"))
        for case in ("immediate", "late-immediate"):
            reply = await edge.send(x_case=case, x_target="pool/p")
            assert (reply.status, reply.body) == (404, IMMEDIATE_BODY)
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["x-sluice-reason"] == "model_not_found"

    async def test_an_answer_that_is_no_error_needs_no_reason(self, edge: Gateway) -> None:
        await edge.start("")
        reply = await edge.send(x_case="answer")
        assert (reply.status, reply.body) == (200, ANSWER_BODY)
        assert "x-sluice-reason" not in reply.headers

    async def test_whatever_the_text_is_the_error_is_valid_json(self, edge: Gateway) -> None:
        await edge.start("")
        reply = await edge.send(x_case="unmarked")
        assert (reply.status, reply.error["message"]) == (401, HOSTILE)

    async def test_errors_of_destinations_stay_as_they_are(self, edge: Gateway) -> None:
        upstream = await edge.upstream(500)
        await edge.start(pool("p", upstream.address) + to_pool("*", "p"))
        reply = await edge.send(x_target="pool/p")
        assert (reply.status, json.loads(reply.body)) == (500, {"port": upstream.port})
        assert "x-sluice-reason" not in reply.headers, "only the gateway gives reasons"
