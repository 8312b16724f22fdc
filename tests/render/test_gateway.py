"""The rendered gateway on the real Envoy: what clients get, what destinations see, what is logged."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import jwt
import pytest

from bench.certs import make_certificates
from tests.render.harness import Gateway, pool, to_pool
from tests.support.processes import free_port

pytestmark = pytest.mark.e2e


async def log_lines(edge: Gateway, count: int) -> list[dict[str, Any]]:
    """Envoy writes its log once a second."""
    while True:
        lines = edge.log.read_text().splitlines()
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        await asyncio.sleep(0.02)


class TestFilterAway:
    """Routing decides what fails open and what closed."""

    async def test_pool_stays_open_and_the_rest_closes(self, edge: Gateway) -> None:
        first, second = await edge.upstream(), await edge.upstream()
        await edge.start(
            pool("p", first.address, second.address)
            + "provider x: {host: api.example.com, protocol: http}\n"
            + to_pool("open.example", "p")
            + "route mixed: {host: mixed.example, rules: ["
            "{matches: [{headers: {x-tier: {exact: local}}}], backendRefs: [{pool: p}]},"
            "{backendRefs: [{provider: x}]}]}"
        )
        await edge.kill_filter()
        served = [(await edge.send(host="open.example")).headers["x-served-at"] for _ in range(6)]
        assert sorted(set(served)) == sorted([first.address, second.address])
        assert (await edge.send(host="open.example:8080")).status == 200, "the port of Host does not matter"
        assert (await edge.send(host="mixed.example", x_tier="local")).status == 200
        for closed in ("mixed.example", "api.example.com", "nobody.example"):
            reply = await edge.send(host=closed)
            assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "filter_unavailable", "1")
        await edge.serve_filter()
        assert (await edge.send(host="open.example", x_target="pool/p")).status == 200

    async def test_a_hanging_filter_is_passed_by(self, edge: Gateway) -> None:
        upstream = await edge.upstream()
        await edge.start(pool("p", upstream.address) + to_pool("open", "p"))
        assert (await edge.send(host="open", x_case="hang")).status == 200
        assert (await edge.send(x_case="hang")).error["code"] == "filter_unavailable"

    async def test_the_body_limit_holds_everywhere(self, edge: Gateway) -> None:
        """2 MiB is over Envoy's own default and below the gateway's 3 MiB, on a closed host as on an open one."""
        upstream = await edge.upstream()
        await edge.start(pool("p", upstream.address) + to_pool("open", "p") + to_pool("*", "p"))
        for host in ("open", "elsewhere"):
            assert (await edge.send(bytes(2 * 2**20), host=host, x_target="pool/p")).status == 200
            assert (await edge.send(bytes(4 * 2**20), host=host, x_target="pool/p")).status == 413


class TestEntrance:
    async def test_clients_cannot_speak_for_the_gateway(self, edge: Gateway) -> None:
        upstream = await edge.upstream()
        await edge.start(pool("p", upstream.address) + to_pool("*", "p"))
        await edge.send(
            x_target="pool/p",
            x_sluice_target="forged",
            x_gateway_destination_endpoint="10.0.0.1:1",
            x_prefiller_host_port="10.0.0.1:1",
            x_envoy_external_address="10.9.9.9",
            x_envoy_upstream_rq_timeout_ms="1",
            x_forwarded_for="10.8.8.8",
        )
        (head,) = edge.filter.heads
        assert head["x-envoy-external-address"] == "127.0.0.1", "the peer, whatever the client says"
        assert head["x-forwarded-for"].startswith("10.8.8.8,")
        assert not {name for name in head if name.startswith(("x-sluice", "x-gateway", "x-prefiller"))}
        assert "x-envoy-upstream-rq-timeout-ms" not in head
        assert head["x-request-id"]

    async def test_paths_are_normalised_and_old_clients_served(self, edge: Gateway) -> None:
        await edge.start("")
        await edge.send(path="/v1//x/../models", x_case="immediate")
        assert edge.filter.heads[0][":path"] == "/v1/models"
        reply = await edge.raw(b"GET / HTTP/1.0\r\nx-case: immediate\r\nunder_score: kept\r\n\r\n")
        assert reply.split()[1] == b"404"
        assert edge.filter.heads[1]["under_score"] == "kept"

    async def test_tokens_are_checked_before_the_filter(self, edge: Gateway) -> None:
        secret = "a secret of at least thirty-two bytes"
        key = json.loads(jwt.algorithms.HMACAlgorithm.to_jwk(secret)) | {"kid": "k", "alg": "HS256"}
        (edge.directory / "jwks.json").write_text(json.dumps({"keys": [key]}))
        keys = "jwt: [{name: corp, issuer: https://corp, jwks: 'file:jwks.json'}]"
        await edge.start("", keys)
        token = jwt.encode({"iss": "https://corp", "tier": "gold"}, secret, headers={"kid": "k"})
        await edge.send(x_case="immediate", authorization=f"Bearer {token}")
        assert edge.filter.claims == [{"corp": {"iss": "https://corp", "tier": "gold"}}]
        await edge.send(x_case="immediate")
        assert edge.filter.claims[1] is None
        forged = await edge.send(x_case="immediate", authorization=f"Bearer {token[:-4]}aaaa")
        assert (forged.status, forged.error["code"]) == (401, "invalid_token")
        assert forged.error["type"] == "authentication_error"
        assert len(edge.filter.claims) == 2

    async def test_a_required_token_must_be_there(self, edge: Gateway) -> None:
        key = '{"keys":[{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0","alg":"HS256","kid":"1"}]}'
        await edge.start("", f"jwt: [{{name: corp, issuer: i, required: true, jwks: '{key}'}}]")
        reply = await edge.send(x_case="immediate")
        assert (reply.status, reply.error["message"]) == (401, "Jwt is missing")


class TestSteering:
    async def test_the_list_is_a_retry_order_and_the_filter_learns_who_served(self, edge: Gateway) -> None:
        bad, good, other = await edge.upstream(429), await edge.upstream(), await edge.upstream()
        dead = f"127.0.0.1:{free_port()}"
        await edge.start(pool("p", dead, bad.address, good.address, other.address) + to_pool("*", "p"))
        for kind in ("unary", "stream"):
            endpoints = f"{dead},{bad.address},{good.address}"
            reply = await edge.send(x_target="pool/p", x_kind=kind, x_endpoints=endpoints)
            assert (reply.status, reply.headers["x-served-at"]) == (200, good.address)
        assert edge.filter.served_by == [good.address] * 2
        assert not other.requests

    async def test_retries_do_not_return_to_a_failed_endpoint(self, edge: Gateway) -> None:
        bad, good = await edge.upstream(503), await edge.upstream()
        await edge.start(pool("p", bad.address, good.address) + to_pool("*", "p"))
        replies = [await edge.send(x_target="pool/p", x_endpoints=bad.address) for _ in range(8)]
        assert [reply.status for reply in replies] == [200] * 8

    async def test_without_retries_the_first_answer_counts(self, edge: Gateway) -> None:
        bad, good = await edge.upstream(503), await edge.upstream()
        await edge.start(pool("p", bad.address, good.address, more="retryCount: 0") + to_pool("*", "p"))
        reply = await edge.send(x_target="pool/p", x_endpoints=f"{bad.address},{good.address}")
        assert reply.status == 503

    async def test_too_many_requests_eject_an_endpoint(self, edge: Gateway) -> None:
        bad, good = await edge.upstream(429), await edge.upstream()
        outliers = "retryCount: 0, outlierDetection: {consecutive5xxErrors: 3, interval: 10ms, maxEjectionPercent: 50"
        await edge.start(
            pool("counts", bad.address, good.address, more=outliers + "}")
            + pool("ignores", bad.address, good.address, more=outliers + ", countTooManyRequests: false}")
            + to_pool("counts", "counts")
            + to_pool("ignores", "ignores")
        )
        for host in ("counts", "ignores"):
            for _ in range(10):
                await edge.send(host=host, x_target=f"pool/{host}")
        for host, expected in (("counts", {200}), ("ignores", {200, 429})):
            assert {(await edge.send(host=host, x_target=f"pool/{host}")).status for _ in range(6)} == expected

    async def test_a_request_without_a_body_is_steered_with_its_headers(self, edge: Gateway) -> None:
        upstream = await edge.upstream()
        await edge.start(pool("p", upstream.address) + to_pool("*", "p"))
        assert (await edge.send(None, method="GET", x_target="pool/p")).status == 200
        assert edge.filter.phases == ["request_headers", "response_headers"]

    async def test_names_are_resolved(self, edge: Gateway) -> None:
        upstream = await edge.upstream()
        await edge.start(pool("p", f"localhost:{upstream.port}") + to_pool("*", "p"))
        assert (await edge.send(x_target="pool/p", x_endpoints=upstream.address)).status == 200


class TestProviders:
    async def test_https_with_the_name_checked(self, edge: Gateway, tmp_path: Path) -> None:
        files = make_certificates(tmp_path, ["api.example.com"])
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(files.cert, files.key)
        upstream = await edge.upstream(ssl=tls)
        aliases = f"api.example.com: '{upstream.address}', other.example.com: '{upstream.address}'"
        await edge.start(
            "provider good: {host: api.example.com}\nprovider wrong: {host: other.example.com}\n"
            "route all: {host: '*', rules: [{backendRefs: [{provider: good}, {provider: wrong}]}]}",
            f"hostAliases: {{{aliases}}}, trustedCa: ca.pem",
        )
        reply = await edge.send(x_target="provider/good", host="client.example")
        assert reply.status == 200
        (request,) = upstream.requests
        assert request.headers["host"] == "api.example.com"
        assert not {name.lower() for name in request.headers} & {"x-forwarded-for", "x-envoy-external-address"}
        assert not {name for name in request.headers if name.lower().startswith("x-envoy")}
        assert (await edge.send(x_target="provider/wrong")).error["code"] == "upstream_unavailable"

    async def test_only_unary_requests_are_retried(self, edge: Gateway) -> None:
        upstream = await edge.upstream(502)
        await edge.start(
            f"provider p: {{host: localhost, port: {upstream.port}, protocol: http}}\n"
            "route all: {host: '*', rules: [{backendRefs: [{provider: p}]}]}"
        )
        assert (await edge.send(x_target="provider/p", x_kind="stream")).status == 502
        assert len(upstream.requests) == 1
        assert (await edge.send(x_target="provider/p", x_kind="unary")).status == 502
        assert len(upstream.requests) == 1 + 3
        assert upstream.requests[0].headers["host"] == f"localhost:{upstream.port}"


@pytest.mark.parametrize(("asked", "waits"), [("1", 1), ("3", 0)])
async def test_a_retry_comes_when_the_provider_asks_for_it(edge: Gateway, asked: str, waits: int) -> None:
    upstream = await edge.upstream(429)
    upstream.extra["retry-after"] = asked
    provider = f"{{host: localhost, port: {upstream.port}, protocol: http, timeouts: {{unary: 8s, perTry: 8s}}, "
    proxy = await edge.start(f"provider p: {provider}retries: {{attempts: 1, statusCodes: [429]}}}}\n")
    reply = await edge.send(host="localhost", x_target="provider/p")
    assert (reply.status, len(upstream.requests)) == (429, 2)
    assert proxy._admin is not None
    assert await proxy._admin.number("cluster.provider/p.upstream_rq_retry_backoff_ratelimited") == waits


async def test_the_access_log(edge: Gateway) -> None:
    upstream = await edge.upstream()
    fields = f"accessLog: {{path: {edge.log}, fields: {{method: '', protocol: '%PROTOCOL%'}}}}"
    provider = "provider p: {host: api.example.com, protocol: http}\n"
    aliases = f"hostAliases: {{api.example.com: '{upstream.address}'}}"
    await edge.start(provider, f"{fields}, {aliases}")
    await edge.send(path="/asked?q=1", host="api.example.com", x_target="provider/p", x_kind="stream")
    await edge.send(x_case="immediate")
    await edge.send()
    await edge.raw(b"garbage\r\n\r\n")
    served, refused, lost, broken = await log_lines(edge, 4)
    assert served["path"] == "/asked"
    assert served["authority"] == "api.example.com"
    assert (served["target"], served["kind"], served["model"]) == ("provider/p", "stream", "m")
    assert (served["status"], served["attempts"], served["upstream_host"]) == (200, 1, upstream.address)
    assert served["reason"] is None
    assert served["protocol"] == "HTTP/1.1"
    assert "method" not in served
    assert [line["reason"] for line in (refused, lost, broken)] == [
        "model_not_found",
        "stale_envoy",
        "bad_request",
    ]
    assert broken["path"] is None
