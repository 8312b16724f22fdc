"""What an exchange learns of the endpoint that serves it, and how the last one ends: whole streams over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import grpc
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.pool.policy import LeastRequests, ScoredPolicy
from extproc.pool.pool import Pool
from extproc.render.parts import SERVED_BY
from extproc.wire.server import SERVICE
from tests.wire.test_server import (
    CHAT,
    Harness,
    request_body,
    request_headers,
    response_body,
    response_headers,
    running,
    use_pool,
)

FIRST, SECOND = "127.0.0.1:1", "127.0.0.1:2"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with running(tmp_path) as found:
        yield found


def pooled(harness: Harness, *addresses: str) -> tuple[Pool, list[str]]:
    """A pool that the harness sends everything to, and the endpoints that it was asked to look at."""
    suspects: list[str] = []
    policy = ScoredPolicy([(LeastRequests(), 1.0)])
    pool = Pool("p", policy, retry_count=1, stale_after=1.0, random=Random(0), on_suspect=suspects.append)
    pool.set_members({address: {} for address in addresses}, 0.0)
    use_pool(harness, pool)
    return pool, suspects


def in_flight(pool: Pool) -> dict[str, int]:
    return {endpoint.address: endpoint.in_flight for endpoint in pool.view(1.0).endpoints if endpoint.in_flight}


def answer_from(served_by: str, **headers: str) -> ProcessingRequest:
    """Response headers together with what Envoy says of the endpoint."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    message = response_headers({":status": "200", "content-type": "text/event-stream", **named})
    message.metadata_context.filter_metadata["envoy.lb"].update({SERVED_BY: served_by})
    return message


async def test_load_and_log_follow_a_request_to_the_endpoint_that_serves_it(harness: Harness) -> None:
    pool, suspects = pooled(harness, FIRST, SECOND)
    async with grpc.aio.insecure_channel(harness.address) as channel:
        call = ExternalProcessorStub(channel).Process()
        await call.write(request_headers())
        await call.read()
        await call.write(request_body(CHAT))
        chosen = (await call.read()).dynamic_metadata["sluice"]["endpoint"]
        (other,) = {FIRST, SECOND} - {chosen}
        assert in_flight(pool) == {chosen: 1}
        await call.write(answer_from(other))
        assert (await call.read()).dynamic_metadata["sluice"]["endpoint"] == other
        assert in_flight(pool) == {other: 1}
        assert suspects == [chosen], "busy or gone: somebody looks"
        await call.done_writing()
        assert (await harness.settled.get()).endpoint == other
    assert in_flight(pool) == {}
    assert suspects == [chosen, other], "an answer that breaks off may be the endpoint's end"


async def test_an_answer_from_the_chosen_endpoint_is_no_news(harness: Harness) -> None:
    _, suspects = pooled(harness, FIRST)
    *_, reply, _ = await harness.exchange(
        request_headers(), request_body(CHAT), answer_from(FIRST), response_body(b"", end=True)
    )
    assert not reply.HasField("dynamic_metadata")
    assert not suspects


async def test_an_endpoint_that_envoy_could_not_reach_is_looked_at(harness: Harness) -> None:
    pool, suspects = pooled(harness, FIRST)
    unreachable = answer_from(FIRST, x_sluice_reason="upstream_unavailable")
    await harness.exchange(request_headers(), request_body(CHAT), unreachable)
    assert suspects == [FIRST]
    assert in_flight(pool) == {}


async def test_health_is_answered_and_new_exchanges_are_refused_while_the_last_one_ends(harness: Harness) -> None:
    async with grpc.aio.insecure_channel(harness.address) as channel:
        call = ExternalProcessorStub(channel).Process()
        await call.write(request_headers())
        await call.read()
        drain = asyncio.create_task(harness.server.drain(20))
        await asyncio.sleep(0)
        check = health_pb2_grpc.HealthStub(channel).Check
        reply = await check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING
        late = ExternalProcessorStub(channel).Process()
        assert await late.code() is grpc.StatusCode.UNAVAILABLE
        await call.write(request_body(CHAT))
        assert (await call.read()).WhichOneof("response") == "request_body"
        await call.done_writing()
        await drain
