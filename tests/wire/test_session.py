"""One stream's life without a transport: waits, what they leave behind, and what lives no longer than the stream."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import grpc
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.exchange.values import LocalReply
from extproc.pool.load import EngineLoad
from extproc.pool.policy import LeastRequests, PickRequest, ScoredPolicy
from extproc.pool.pool import Pool
from extproc.pool.waiting import QueueLimits, SaturationLimits
from extproc.steps.live import Live
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable
from extproc.steps.wait import Waiting, beside
from extproc.telemetry.metrics import Metrics
from extproc.wire.service import Service
from extproc.wire.session import Session
from tests.wire.test_server import CHAT, request_body, request_headers, response_body, response_headers, running

ENDPOINT = "10.0.0.1:80"


class Bed:
    """A service with one pool of one endpoint, which takes one request at a time."""

    def __init__(self, saturation: SaturationLimits, *, try_period: float = 0.5) -> None:
        self.now = 1.0
        self.records: list[ExchangeRecord] = []
        self.pool = Pool(
            "gpus",
            ScoredPolicy([(LeastRequests(), 1.0)]),
            retry_count=0,
            stale_after=1.0,
            random=Random(0),
            saturation=saturation,
            queue=QueueLimits(timeout=10.0, try_period=try_period),
        )
        self.pool.set_members({ENDPOINT: {}}, 0.0)
        routes = HostRoutes("api", (RouteRule("r/0", (Backend("pool/gpus", 1, pool=self.pool),)),))
        live = Live(RouteTable({"api": routes}), longest_wait=10.0)
        self.service = Service(live, self.records.append, lambda _m, size: (size, 0), Metrics(), lambda: self.now)

    @property
    def in_flight(self) -> int:
        return self.pool.view(self.now).endpoints[0].in_flight

    def asked(self) -> Session:
        session = Session(self.service)
        session.handle(request_headers().SerializeToString())
        session.handle(request_body(CHAT).SerializeToString())
        return session


@pytest.fixture
def bed() -> Bed:
    return Bed(SaturationLimits(in_flight=1))


def test_a_client_that_leaves_just_after_its_place_was_granted_gives_the_endpoint_back(bed: Bed) -> None:
    held = bed.pool.pick(PickRequest(), 1.0)
    session = bed.asked()
    assert session.waiting is not None
    held.lease.release(1.0)
    assert session.waiting.over
    assert bed.in_flight == 1, "it was granted"
    session.close()
    assert bed.in_flight == 0
    assert [record.ending for record in bed.records] == [Ending.CLIENT_GONE]


def test_a_client_that_leaves_the_queue_is_not_granted_anything(bed: Bed) -> None:
    held = bed.pool.pick(PickRequest(), 1.0)
    session = bed.asked()
    session.close()
    assert bed.pool.waiting == 0
    held.lease.release(1.0)
    assert bed.in_flight == 0


def test_a_granted_place_is_taken_once_and_released_at_the_end(bed: Bed) -> None:
    held = bed.pool.pick(PickRequest(), 1.0)
    session = bed.asked()
    held.lease.release(1.0)
    assert session.resume()
    assert (session.waiting, bed.in_flight) == (None, 1)
    session.close()
    assert bed.in_flight == 0


async def test_a_request_that_nobody_wakes_looks_again_by_itself(tmp_path: Path) -> None:
    """The engine's figures grow stale, which is no event: only time tells."""
    bed = Bed(SaturationLimits(queue_depth=5), try_period=0.01)
    bed.pool.observe(ENDPOINT, EngineLoad("vllm", 1.0, running=9.0, waiting=9.0, kv_usage=0.1), 1.0)
    async with running(tmp_path) as harness, grpc.aio.insecure_channel(harness.address) as channel:
        harness.service.live = bed.service.live
        harness.service.clock = lambda: bed.now
        call = ExternalProcessorStub(channel).Process()
        await call.write(request_headers())
        await call.read()
        await call.write(request_body(CHAT))
        assert (await call.read()).override_message_timeout.seconds == 15
        assert bed.pool.waiting == 1
        bed.now = 2.5
        assert "envoy.lb" in (await call.read()).dynamic_metadata
        await call.done_writing()


def failing(_request: object) -> Waiting[LocalReply]:
    async def begin() -> LocalReply:
        raise OSError("the work has failed")

    return (yield from beside(begin))


async def test_work_that_fails_is_an_error_for_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("extproc.wire.session.decide", failing)
    async with running(tmp_path) as harness:
        replies = await harness.exchange(request_headers(), request_body(CHAT))
    assert replies[-1].immediate_response.status.code == 500
    assert "the work has failed" in caplog.text


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only counting references frees anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def whole(session: Session) -> None:
    session.handle(response_headers({":status": "200", "content-type": "text/event-stream"}).SerializeToString())
    session.handle(response_body(b"data: {}\n\n", end=True).SerializeToString())
    session.close()


def gone(session: Session) -> None:
    session.close()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", [whole, gone])
@pytest.mark.parametrize("queued", [False, True])
def test_a_stream_and_its_request_die_with_the_last_reference(
    bed: Bed, end: Callable[[Session], None], queued: bool
) -> None:
    held = bed.pool.pick(PickRequest(), 1.0) if queued else None
    session = bed.asked()
    if held is not None:
        held.lease.release(1.0)
        session.resume()
    known: list[Callable[[], object]] = [weakref.ref(each) for each in (session, session._exchange, session._request)]
    end(session)
    del session
    assert [each() for each in known] == [None, None, None]


@pytest.mark.usefixtures("no_collector")
def test_a_stream_that_ends_in_the_queue_dies_too(bed: Bed) -> None:
    held = bed.pool.pick(PickRequest(), 1.0)
    session = bed.asked()
    known: list[Callable[[], object]] = [weakref.ref(session), weakref.ref(session._request)]
    session.close()
    del session
    assert [each() for each in known] == [None, None]
    held.lease.release(1.0)


def test_a_request_on_its_way_holds_no_body(bed: Bed) -> None:
    session = bed.asked()
    request = session._request
    assert request is not None
    assert (request.raw, request.body, request.document, request.new_body) == (b"", b"", None, None)
    session.close()


def test_bodies_of_all_requests_share_one_budget() -> None:
    bed = Bed(SaturationLimits())
    bed.service.live = replace(bed.service.live, bodies_limit=100)
    first, second = Session(bed.service), Session(bed.service)
    first.handle(request_headers({"content-length": "90"}).SerializeToString())
    (refused,) = second.handle(request_headers({"content-length": "20"}).SerializeToString())
    answer = ProcessingResponse.FromString(refused).immediate_response
    sent = {each.header.key: each.header.raw_value for each in answer.headers.set_headers}
    assert (answer.status.code, sent["x-sluice-reason"], sent["retry-after"]) == (503, b"too_many_bodies", b"1")
    unknown = Session(bed.service)
    unknown.handle(request_headers().SerializeToString())
    (refused,) = unknown.handle(request_body(CHAT).SerializeToString())
    assert ProcessingResponse.FromString(refused).immediate_response.status.code == 503
    assert bed.service.bodies.held == 90
    for each in (first, second, unknown):
        each.close()
    assert bed.service.bodies.held == 0
    alone = Session(bed.service)
    alone.handle(request_headers({"content-length": "5000"}).SerializeToString())
    assert bed.service.bodies.held == 5000, "one body fits, however small the budget"
    alone.handle(request_body(CHAT).SerializeToString())
    assert bed.service.bodies.held == 0, "a request on its way holds nothing"
    alone.close()
    assert bed.service.bodies.held == 0
