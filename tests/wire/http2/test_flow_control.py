"""Windows in both directions, and what lies in between."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.wire.http2 import frames
from extproc.wire.http2.connection import Connection
from extproc.wire.http2.frames import DEFAULT_WINDOW, FRAME_SIZE, Code, Kind
from extproc.wire.http2.limits import MIB, Limits
from extproc.wire.http2.messages import PREFIX
from extproc.wire.http2.stream import Lost, Stream
from tests.wire.http2.peer import Client, codes, connection, data, framed, messages, opening, sent

SMALL = Limits(stream_window=DEFAULT_WINDOW, connection_window=4 * DEFAULT_WINDOW, message=lambda: MIB)


def opened(core: Connection, number: int = 1) -> Stream:
    core.receive(opening(number), 0.0)
    return core.streams[number]


def data_sent(core: Connection) -> dict[int, int]:
    """Bytes of DATA by stream."""
    found: dict[int, int] = {}
    for kind, _, number, payload in sent(core):
        assert len(payload) <= FRAME_SIZE
        if kind is Kind.DATA:
            found[number] = found.get(number, 0) + len(payload)
    return found


def test_no_more_is_sent_than_the_windows_allow() -> None:
    core = connection()
    stream = opened(core)
    core.message(stream, bytes(100_000))
    assert data_sent(core) == {1: DEFAULT_WINDOW}
    core.receive(frames.window_update(1, 10_000), 0.0)
    assert data_sent(core) == {}
    core.receive(frames.window_update(0, 5_000), 0.0)
    assert data_sent(core) == {1: 5_000}
    core.receive(frames.window_update(0, 100_000), 0.0)
    assert data_sent(core) == {1: 5_000}
    core.receive(frames.window_update(1, 100_000), 0.0)
    assert data_sent(core) == {1: 100_005 - DEFAULT_WINDOW - 10_000}
    assert core.drained == [stream]


def test_streams_take_turns() -> None:
    core = connection()
    core.message(opened(core, 1), bytes(DEFAULT_WINDOW - PREFIX))  # which takes the connection's whole window
    for number in (3, 5, 7):
        core.message(opened(core, number), bytes(DEFAULT_WINDOW - PREFIX))
    core.take()
    core.receive(frames.window_update(0, 6 * FRAME_SIZE), 0.0)
    assert data_sent(core) == {3: 2 * FRAME_SIZE, 5: 2 * FRAME_SIZE, 7: 2 * FRAME_SIZE}


def test_a_stream_without_a_window_does_not_hold_up_the_others() -> None:
    core = connection()
    core.receive(frames.frame(Kind.SETTINGS, 0, 0, b"\0\4\0\0\0\0"), 0.0)
    stuck, other = opened(core, 1), opened(core, 3)
    core.message(stuck, b"waits")
    core.receive(frames.window_update(3, 100), 0.0)
    core.message(other, b"goes")
    assert data_sent(core) == {3: 9}


def test_trailers_wait_for_what_comes_before_them() -> None:
    core = connection()
    stream = opened(core)
    core.message(stream, bytes(70_000))
    assert not core.end(stream, 0)
    assert [kind for kind, *_ in sent(core)][-1] is Kind.DATA
    core.receive(frames.window_update(0, 10_000) + frames.window_update(1, 10_000), 0.0)
    assert [kind for kind, *_ in sent(core)] == [Kind.DATA, Kind.HEADERS, Kind.RST_STREAM]
    assert core.streams == {}


def test_settings_move_the_windows_of_open_streams() -> None:
    core = connection()
    stream = opened(core)
    core.message(stream, bytes(60_000))
    core.take()
    core.receive(frames.frame(Kind.SETTINGS, 0, 0, b"\0\4\0\0\0\0"), 0.0)
    assert stream.send_window < 0
    core.message(stream, b"later")
    assert data_sent(core) == {}
    core.receive(frames.frame(Kind.SETTINGS, 0, 0, b"\0\4\0\1\0\0"), 0.0)
    assert data_sent(core) == {1: 10}


def test_settings_that_overflow_an_open_window_end_the_connection() -> None:
    core = connection()
    opened(core)
    core.receive(frames.window_update(1, 2**30), 0.0)
    core.receive(frames.frame(Kind.SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff"), 0.0)
    assert codes(core) == [(Kind.GOAWAY, 0, Code.FLOW_CONTROL_ERROR)]


def test_a_message_larger_than_the_window_is_let_in_while_nothing_lies_unread() -> None:
    core = connection(SMALL)
    opened(core)
    body, found = framed(bytes(300_000)), []
    window = DEFAULT_WINDOW
    for at in range(0, len(body), FRAME_SIZE):
        piece = body[at : at + FRAME_SIZE]
        assert len(piece) <= window
        found += messages(core.receive(data(1, piece), 0.0))
        window -= len(piece)
        for kind, _, number, payload in sent(core):
            if kind is Kind.WINDOW_UPDATE and number == 1:
                window += int.from_bytes(payload, "big")
    assert [len(message) for message in found] == [300_000]


def test_nothing_more_is_let_in_while_a_message_lies_unread() -> None:
    core = connection(SMALL)
    stream = opened(core)
    core.receive(data(1, framed(bytes(10_000))), 0.0)
    core.keep(stream, 10_000)
    for _ in range(3):
        core.receive(data(1, framed(bytes(15_000))), 0.0)
        core.keep(stream, 15_000)
    assert [number for kind, _, number, _ in sent(core) if kind is Kind.WINDOW_UPDATE] == []
    for size in (10_000, 15_000, 15_000):
        core.release(stream, size)
    assert [number for kind, _, number, _ in sent(core) if kind is Kind.WINDOW_UPDATE] == []
    core.release(stream, 15_000)
    assert [number for kind, _, number, _ in sent(core) if kind is Kind.WINDOW_UPDATE] == [1]
    assert stream.receive_window == DEFAULT_WINDOW


def test_more_than_the_window_ends_the_stream() -> None:
    core = connection(SMALL)
    stream = opened(core)
    core.keep(stream, 1)
    events = []
    for _ in range(5):
        events += core.receive(data(1, framed(bytes(15_000))), 0.0)
    assert (Kind.RST_STREAM, 1, Code.FLOW_CONTROL_ERROR) in codes(core)
    assert isinstance(events[-1], Lost)


def test_a_connection_that_holds_too_much_loses_the_stream_that_goes_beyond() -> None:
    core = connection(Limits(held=50_000))
    first, second = opened(core, 1), opened(core, 3)
    core.receive(data(1, framed(bytes(20_000))[:16_000]), 0.0)
    events = core.receive(data(3, framed(bytes(200_000))[:16_000]), 0.0)
    assert events == []
    assert core.keep(first, 10_000)
    events = core.receive(data(3, bytes(16_000)), 0.0)
    assert [event.stream for event in events] == [second]
    assert isinstance(events[0], Lost)
    assert not core.over
    assert core.receive(data(1, bytes(4_005)), 0.0)


@pytest.mark.parametrize("paused", [False, True])
def test_nothing_is_sent_to_a_transport_that_is_full(paused: bool) -> None:
    core = connection()
    stream = opened(core)
    core.paused = paused
    core.message(stream, b"x")
    assert (data_sent(core) == {}) is paused
    core.paused = False
    core.pump()
    assert (data_sent(core) == {1: 6}) is paused


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 150_000), min_size=1, max_size=6),
    window=st.sampled_from([1, 1000, 65535]),
)
def test_every_byte_arrives_through_any_windows(sizes: list[int], window: int) -> None:
    """The `h2` library would complain about a byte too many."""
    core, client = Connection(Limits(), 0.0), Client()
    client.h2.update_settings({4: max(window, 1000)})
    client.talk(core)
    numbers = [client.call() for _ in sizes]
    core.receive(client.h2.data_to_send(), 0.0)
    for number, size in zip(numbers, sizes, strict=True):
        core.message(core.streams[number], bytes([number]) * size)
    client.heard(core.take())
    client.talk(core)
    for number, size in zip(numbers, sizes, strict=True):
        assert client.body(number) == framed(bytes([number]) * size)
