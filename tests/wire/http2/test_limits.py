"""What one peer may use, and what becomes of one that uses more."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from extproc.wire.http2 import frames
from extproc.wire.http2.frames import ACK, END_HEADERS, Code, Kind
from extproc.wire.http2.limits import Allowance, Limits, Rate
from extproc.wire.http2.stream import Opened
from tests.wire.http2.peer import BLOCK, GREETING, codes, connection, data, opening, sent, streams

CALM = [(Kind.GOAWAY, 0, Code.ENHANCE_YOUR_CALM)]
FEW = Rate(burst=5, per_second=1)


def reset_early(index: int) -> bytes:
    return opening(2 * index + 1) + frames.reset(2 * index + 1, Code.CANCEL)


FLOODS: dict[str, Any] = {
    "early_resets": reset_early,
    "pings": lambda _: frames.frame(Kind.PING, 0, 0, b"12345678"),
    "settings": lambda _: frames.frame(Kind.SETTINGS, 0, 0),
    "empty": lambda index: (opening(1) if index == 0 else b"") + data(1, b""),
    "strays": lambda index: (reset_early(0) if index == 0 else b"") + data(1, b""),
}
UNKNOWN: dict[str, Any] = {
    "empty": lambda _: frames.frame(99, 0, 0, b"?"),
    "strays": lambda index: frames.frame(Kind.HEADERS, END_HEADERS, 2 * index + 1, b"\x83\x86\x84"),
}


@pytest.mark.parametrize(
    ("limit", "frame"), [*FLOODS.items(), *UNKNOWN.items(), ("empty", lambda _: frames.frame(2, 0, 1, b"\0\0\0\0\1"))]
)
def test_a_flood_is_stopped_and_a_trickle_is_not(limit: str, frame: Any) -> None:
    trickle = connection(structs.replace(Limits(), **{limit: FEW}))
    for index in range(50):
        trickle.receive(frame(index), float(2 * index))
        assert not trickle.over
    flood = connection(structs.replace(Limits(), **{limit: FEW}))
    for index in range(7):
        flood.receive(frame(index), 0.0)
    assert flood.over
    assert codes(flood)[-1:] == CALM


def test_streams_reset_after_an_answer_are_no_flood() -> None:
    core = connection(Limits(early_resets=FEW))
    for index in range(50):
        (opened,) = core.receive(opening(2 * index + 1), 0.0)
        assert isinstance(opened, Opened)
        core.message(opened.stream, b"answer")
        core.receive(frames.reset(2 * index + 1, Code.CANCEL), 0.0)
    assert not core.over


def test_streams_beyond_the_limit_are_refused_and_may_be_tried_again() -> None:
    core = connection(Limits(streams=2))
    events = core.receive(opening(1) + opening(3) + opening(5), 0.0)
    assert streams(events) == [1, 3]
    assert codes(core) == [(Kind.RST_STREAM, 5, Code.REFUSED_STREAM)]
    core.receive(frames.reset(1, Code.CANCEL), 0.0)
    assert streams(core.receive(opening(7), 0.0)) == [7]


@pytest.mark.parametrize(
    "said",
    [
        frames.frame(Kind.HEADERS, 0, 1, b"") + frames.frame(Kind.CONTINUATION, 0, 1, b"") * 17,
        frames.frame(Kind.HEADERS, 0, 1, bytes(16000)) + frames.frame(Kind.CONTINUATION, 0, 1, bytes(16000)) * 5,
        frames.frame(Kind.HEADERS, END_HEADERS, 1, BLOCK + b"\x00\x01a\x7f\xf1\x7c" + b"b" * 16112),
    ],
)
def test_headers_that_are_too_large_end_the_connection(said: bytes) -> None:
    core = connection(Limits(header_list=16_000 if said[3] == 1 and said[4] else 64 * 1024))
    core.receive(said, 0.0)
    assert codes(core) == CALM


def test_a_peer_that_does_not_greet_is_sent_away() -> None:
    core = connection(greet=False)
    core.receive(GREETING[:10], 0.0)
    core.tick(9.0)
    assert not core.over
    core.tick(11.0)
    assert core.over


def test_a_header_block_that_is_not_finished_is_given_up() -> None:
    core = connection()
    core.receive(frames.frame(Kind.HEADERS, 0, 1, BLOCK[:3]), 5.0)
    core.tick(14.0)
    assert not core.over
    core.tick(16.0)
    assert codes(core) == CALM


def test_a_silent_peer_with_streams_is_asked_and_then_given_up() -> None:
    core = connection()
    core.receive(opening(1), 0.0)
    core.tick(50.0)
    assert sent(core) == []
    core.tick(61.0)
    ((kind, _, _, payload),) = sent(core)
    assert kind is Kind.PING
    core.receive(frames.frame(Kind.PING, ACK, 0, payload), 62.0)
    core.tick(100.0)
    assert not core.over
    core.tick(123.0)
    core.tick(140.0)
    assert not core.over
    core.tick(144.0)
    assert core.over


def test_an_idle_connection_is_asked_to_go() -> None:
    core = connection()
    core.tick(899.0)
    assert sent(core) == []
    core.tick(901.0)
    assert [kind for kind, *_ in sent(core)] == [Kind.GOAWAY, Kind.PING]


def test_leaving_serves_what_is_on_its_way() -> None:
    core = connection()
    core.receive(opening(1), 0.0)
    core.shut(0.0)
    goaway, ping = sent(core)
    assert int.from_bytes(goaway[3][:4], "big") == frames.LARGEST_WINDOW
    assert streams(core.receive(opening(3), 0.0)) == [3]  # crossed the announcement
    core.receive(frames.frame(Kind.PING, ACK, 0, ping[3]), 0.0)
    ((kind, _, _, last),) = sent(core)
    assert kind is Kind.GOAWAY
    assert int.from_bytes(last[:4], "big") == 3
    assert streams(core.receive(opening(5), 0.0)) == []
    assert codes(core) == [(Kind.RST_STREAM, 5, Code.REFUSED_STREAM)]
    core.end(core.streams[1], 0)
    assert core.streams
    core.end(core.streams[3], 0)
    core.tick(1.0)
    assert not core.over  # the peer closes, if it will
    core.tick(3.0)
    assert [core.over, core.fault] == [True, ""]


def test_leaving_before_the_greeting_is_immediate() -> None:
    core = connection(greet=False)
    core.shut(0.0)
    assert core.receive(GREETING, 0.0) == []
    assert core.over


def test_an_allowance_comes_back_with_time() -> None:
    allowance = Allowance(Rate(burst=2, per_second=4), 0.0)
    assert [allowance.take(0.0) for _ in range(3)] == [True, True, False]
    assert [allowance.take(0.5) for _ in range(3)] == [True, True, False]
    assert [allowance.take(100.0) for _ in range(3)] == [True, True, False]
