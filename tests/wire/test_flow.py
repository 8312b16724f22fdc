"""What a request holds in flow control is given back, once, however its stream goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.live.flow import FlowControl
from extproc.live.request_flow import LiveFlow
from extproc.payload.usage import Usage
from extproc.pool.policy import LeastRequests, ScoredPolicy
from extproc.pool.pool import Pool
from extproc.scheduling.flow import Flow
from extproc.scheduling.policy import Caching, ConcurrencyScheduling, Policies, RateLimiting
from extproc.scheduling.workloads import Scheduler
from extproc.steps import pipeline
from extproc.steps.labels import Labelling
from extproc.steps.live import Live
from extproc.steps.request import Request
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable
from tests.wire.test_server import (
    CHAT,
    Harness,
    request_body,
    request_headers,
    response_body,
    response_headers,
    running,
)

JSON = {":status": "200", "content-type": "application/json"}
ANSWER = (
    b'{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant",'
    b'"content":"hi"}}],"usage":{"prompt_tokens":4,"completion_tokens":6}}'
)
LIMITED = CHAT[:-1] + b',"max_tokens":100}'
"""Without a limit of its own a request reserves all that the bucket holds."""
POLICIES = Policies(
    rates=(
        RateLimiting(name="tokens", unit="tokens", bucket_capacity=10_000, fill_amount=0.001, reserve="max_tokens"),
    ),
    caches=(Caching(name="cache", scope_label_keys=()),),
    slots=(ConcurrencyScheduling(name="one", max_concurrency=1, scheduler=Scheduler(max_size=3)),),
)


class Controlled:
    """A server with policies."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.control = FlowControl(lambda: 1.0)
        self.flow = LiveFlow(self.control, Flow(POLICIES, 1.0), Labelling(), None)
        self.control.use(self.flow)
        backend = Backend("provider/p", 1)
        table = RouteTable({"api": HostRoutes("api", (RouteRule("r/0", (backend,)),), ("ours",))})
        harness.service.live = Live(table, flow=self.flow, longest_wait=7.0)

    def left(self) -> tuple[float, float]:
        """Tokens and slots."""
        store = self.flow.flow.store
        tokens = store.levels("tokens", 1, 1.0)
        slots = store.levels("one", 1, 1.0)
        return (round(tokens[0].left) if tokens else 10_000, slots[0].left if slots else 1)

    async def ended(self) -> ExchangeRecord:
        return await self.harness.settled.get()


@pytest.fixture
async def controlled(tmp_path: Path) -> AsyncIterator[Controlled]:
    async with running(tmp_path) as harness:
        found = Controlled(harness)
        yield found
        await found.control.stop()


async def begun(controlled: Controlled, channel: Any, body: bytes = LIMITED, **headers: str) -> Any:
    """A stream whose request is in."""
    call = ExternalProcessorStub(channel).Process()
    await call.write(request_headers(headers))
    await call.read()
    await call.write(request_body(body))
    return call


async def test_an_answer_settles_what_was_reserved(controlled: Controlled) -> None:
    async with grpc.aio.insecure_channel(controlled.harness.address) as channel:
        call = await begun(controlled, channel, LIMITED)
        await call.read()
        reserved, slots = controlled.left()
        assert (reserved < 9_900, slots) == (True, 0)
        await call.write(response_headers({**JSON, "content-length": str(len(ANSWER))}))
        assert [
            h.header.raw_value for h in (await call.read()).response_headers.response.header_mutation.set_headers
        ] == [b"miss"]
        await call.write(response_body(ANSWER, end=True))
        await call.read()
        assert (await controlled.ended()).usage == Usage(4, 6)
    assert controlled.left() == (9_990, 1)
    (reply,) = (await controlled.harness.exchange(request_headers(), request_body(LIMITED)))[1:]
    assert reply.immediate_response.status.code == 200
    assert reply.immediate_response.body == ANSWER
    record = await controlled.ended()
    assert (record.ending, record.cache, record.saved, record.usage) == (Ending.CACHED, "hit", Usage(4, 6), None)
    assert controlled.left() == (9_990, 1)


@pytest.mark.parametrize("reset", [True, False])
async def test_a_stream_that_ends_early_frees_its_slot(controlled: Controlled, reset: bool) -> None:
    async with grpc.aio.insecure_channel(controlled.harness.address) as channel:
        call = await begun(controlled, channel)
        await call.read()
        assert controlled.left()[1] == 0
        if reset:
            call.cancel()
        else:
            await call.done_writing()
        assert (await controlled.ended()).ending is Ending.CLIENT_GONE
    assert controlled.left() == (10_000, 1)


async def test_who_waits_is_announced_to_envoy_and_leaves_without_a_trace(controlled: Controlled) -> None:
    async with grpc.aio.insecure_channel(controlled.harness.address) as channel:
        first = await begun(controlled, channel)
        await first.read()
        second = await begun(controlled, channel, LIMITED.replace(b"hi", b"ho"))
        hold = await second.read()
        assert hold.override_message_timeout.seconds == 12
        line = controlled.flow.flow.lines[0]
        assert line.queue.waiting == 1
        second.cancel()
        await controlled.ended()
        assert line.queue.waiting == 0
        third = await begun(controlled, channel, LIMITED.replace(b"hi", b"hu"))
        await third.read()
        await first.done_writing()
        assert (await third.read()).WhichOneof("response") == "request_body"
        await third.done_writing()
        await controlled.ended()
        await controlled.ended()
    assert controlled.left() == (10_000, 1)
    assert line.tally.counts()["left"] == 1


async def test_a_fault_of_a_later_step_gives_everything_back(
    controlled: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_request: Request) -> None:
        assert controlled.left()[1] == 0
        raise ZeroDivisionError

    steps = (*pipeline.STEPS[:-1], broken)
    monkeypatch.setattr("extproc.wire.session.decide", lambda request: pipeline.decide(request, steps))
    reply = (await controlled.harness.exchange(request_headers(), request_body(CHAT)))[-1]
    assert reply.immediate_response.status.code == 500
    assert (await controlled.ended()).ending is Ending.INTERNAL
    assert controlled.left() == (10_000, 1)


async def test_an_answer_that_must_not_be_stored_is_not(controlled: Controlled) -> None:
    for _ in range(2):
        replies = await controlled.harness.exchange(
            request_headers(),
            request_body(LIMITED),
            response_headers({**JSON, "content-length": str(len(ANSWER)), "cache-control": "private"}),
            response_body(ANSWER, end=True),
        )
        assert len(replies) == 4, "the destination is asked each time"


async def test_a_request_for_a_pool_waits_for_policies_first_and_for_an_endpoint_then(controlled: Controlled) -> None:
    from random import Random

    from extproc.pool.waiting import SaturationLimits

    pool = Pool(
        "gpus",
        ScoredPolicy([(LeastRequests(), 1.0)]),
        retry_count=0,
        stale_after=1.0,
        random=Random(0),
        saturation=SaturationLimits(in_flight=0),
    )
    pool.set_members({"10.0.0.1:1": {}}, 0.0)
    live = controlled.harness.service.live
    table = RouteTable({"api": HostRoutes("api", (RouteRule("r/0", (Backend("pool/gpus", 1, pool=pool),)),))})
    controlled.harness.service.live = Live(table, flow=live.flow, longest_wait=7.0)
    async with grpc.aio.insecure_channel(controlled.harness.address) as channel:
        call = await begun(controlled, channel)
        await call.read()
        assert (pool.waiting, controlled.left()[1]) == (1, 0)
        call.cancel()
        await controlled.ended()
    assert (pool.waiting, controlled.left()) == (0, (10_000, 1))
