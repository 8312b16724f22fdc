"""Answers that pass the filter by while Envoy counts their tokens."""

from __future__ import annotations

import pytest

from extproc.exchange.endings import Ending
from extproc.exchange.exchange import Exchange, Phase
from extproc.exchange.values import BodyMode, Decision, ResponsePlan
from extproc.payload.usage import Usage

STREAM = {":status": b"200", "content-type": b"text/event-stream; charset=utf-8"}
COUNTED = ResponsePlan(envoy_counts=True, strip_usage=True)


def answered(headers: dict[str, bytes], plan: ResponsePlan = COUNTED, bodies: BodyMode | None = None) -> Exchange:
    exchange = Exchange(1 << 20)
    exchange.bodies = bodies
    exchange.request_headers(end=False)
    exchange.request_body()
    exchange.decided(Decision(metadata={}, plan=plan))
    exchange.response_headers(headers, end=False)
    return exchange


def test_the_end_brings_the_numbers() -> None:
    exchange = answered(STREAM)
    assert exchange.counted_by_envoy
    assert (exchange.phase, exchange.ending) == (Phase.UNREAD, None)
    exchange.response_trailers(Usage(7, 3))
    assert exchange.ending is Ending.COMPLETED
    assert exchange.usage == Usage(7, 3)


def test_an_end_without_numbers_may_be_a_client_that_left() -> None:
    exchange = answered(STREAM)
    exchange.closed()
    assert exchange.ending is Ending.CLIENT_GONE
    assert exchange.usage is None


@pytest.mark.parametrize(
    ("headers", "bodies"),
    [
        ({**STREAM, "content-encoding": b"gzip"}, None),
        ({**STREAM, "content-type": b"text/plain"}, None),
        ({**STREAM, ":status": b"500"}, None),
        (STREAM, BodyMode.STREAMED),  # an Envoy that sends all bodies has no filter that counts
    ],
)
def test_other_answers_are_not_left_to_envoy(headers: dict[str, bytes], bodies: BodyMode | None) -> None:
    assert not answered(headers, bodies=bodies).counted_by_envoy
