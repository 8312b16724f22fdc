"""Conversations with the core: as the `h2` library leads them, and as nobody should."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.wire.http2 import frames
from extproc.wire.http2.connection import Connection
from extproc.wire.http2.frames import ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, PRIORITIZED, Code, Kind
from extproc.wire.http2.limits import Limits
from extproc.wire.http2.messages import INTERNAL, UNIMPLEMENTED
from extproc.wire.http2.states import LocalFault, State
from extproc.wire.http2.stream import Ended, Lost, Message, Opened
from tests.wire.http2.peer import (
    BLOCK,
    GREETING,
    PATH,
    Client,
    codes,
    connection,
    data,
    echo,
    framed,
    messages,
    opening,
    sent,
    streams,
)


def test_a_call_from_its_headers_to_its_trailers() -> None:
    core, client = Connection(Limits(), 0.0), Client()
    client.talk(core)
    number = client.call()
    client.h2.send_data(number, framed(b"one"))
    client.talk(core)
    assert client.body(number) == framed(b"one")
    assert not client.ended(number)
    client.h2.send_data(number, framed(b"") + framed(b"three"), end_stream=True)
    client.talk(core)
    assert client.body(number) == framed(b"one") + framed(b"") + framed(b"three")
    assert client.headers(number) == [{":status": "200", "content-type": "application/grpc"}, {"grpc-status": "0"}]
    assert client.ended(number)
    assert client.resets(number) == []
    assert core.streams == {}


def test_a_call_without_messages_is_answered_by_trailers_alone() -> None:
    core, client = Connection(Limits(), 0.0), Client()
    number = client.call()
    client.h2.end_stream(number)
    client.talk(core)
    assert client.headers(number) == [{":status": "200", "content-type": "application/grpc", "grpc-status": "0"}]


def test_an_answer_that_ends_early_stops_the_request() -> None:
    core, client = Connection(Limits(), 0.0), Client()
    number = client.call()
    (opened,) = core.receive(client.h2.data_to_send(), 0.0)
    core.message(opened.stream, b"enough")
    core.end(opened.stream, 5, "not found: ü\n")
    client.heard(core.take())
    assert client.headers(number)[-1] == {"grpc-status": "5", "grpc-message": "not found: %C3%BC%0A"}
    assert client.resets(number) == [Code.NO_ERROR]
    assert core.receive(data(number, framed(b"late")), 0.0) == []
    assert not core.over


@settings(max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 4, 5, 100, 16379, 16380, 20000, 70000]), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 200_000), max_size=12),
    trailing=st.booleans(),
)
def test_any_split_is_the_same_conversation(sizes: list[int], cuts: list[int], trailing: bool) -> None:
    """The bytes of a client of the `h2` library; the answers are what it understands of ours."""
    client = Client()
    client.h2.outbound_flow_control_window = 2**30
    for size in sizes:
        number = client.call(**{"x-size": str(size)})
        client.h2.streams[number].outbound_flow_control_window = 2**30
        body = framed(b"m" * size)
        for at in range(0, len(body), 16000):
            client.h2.send_data(number, body[at : at + 16000])
        if trailing:
            client.h2.send_headers(number, [("x-trailer", "1")], end_stream=True)
        else:
            client.h2.end_stream(number)
        client.h2.ping(b"12345678")
    said = client.h2.data_to_send()
    core = Connection(Limits(), 0.0)
    borders = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    out: list[bytes | memoryview] = []
    for begin, end in pairwise(borders):
        echo(core, core.receive(said[begin:end], 0.0))
        out += core.take()
    client.heard(out)
    client.talk(core)  # the windows of large answers
    for index, size in enumerate(sizes):
        number = 2 * index + 1
        assert client.body(number) == framed(b"m" * size)
        assert client.ended(number)
    assert core.fault == ""


def test_padding_and_priorities_are_passed_over() -> None:
    core = connection()
    padded = b"\x03" + b"\0\0\0\0\1" + BLOCK + b"pad"
    events = core.receive(
        frames.frame(Kind.HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, padded)
        + data(1, b"\x02" + framed(b"x") + b"\0\0", PADDED)
        + frames.frame(Kind.PRIORITY, 0, 1, b"\0\0\0\0\1"),
        0.0,
    )
    assert streams(events) == [1]
    assert messages(events) == [b"x"]
    assert not core.over


def test_a_header_block_may_come_in_pieces() -> None:
    core = connection()
    assert core.receive(frames.frame(Kind.HEADERS, END_STREAM, 1, BLOCK[:3]), 0.0) == []
    assert core.receive(frames.frame(Kind.CONTINUATION, 0, 1, BLOCK[3:9]), 0.0) == []
    events = core.receive(frames.frame(Kind.CONTINUATION, END_HEADERS, 1, BLOCK[9:]), 0.0)
    assert [type(event) for event in events] == [Opened, Ended]
    assert isinstance(events[0], Opened)
    assert events[0].path == PATH


def test_pings_and_settings_are_acknowledged() -> None:
    core = connection()
    core.receive(frames.frame(Kind.PING, 0, 0, b"01234567") + frames.frame(Kind.SETTINGS, 0, 0), 0.0)
    assert sent(core) == [(Kind.PING, ACK, 0, b"01234567"), (Kind.SETTINGS, ACK, 0, b"")]


def test_a_peer_with_a_smaller_table_is_told_that_none_is_used() -> None:
    core, client = Connection(Limits(), 0.0), Client()
    client.h2.update_settings({1: 0})
    client.talk(core)
    for _ in range(2):
        number = client.call()
        client.h2.end_stream(number)
        client.talk(core)
        assert client.headers(number)[0]["grpc-status"] == "0"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (data(1, b""), Code.PROTOCOL_ERROR),
        (data(0, b""), Code.PROTOCOL_ERROR),
        (data(2, b""), Code.PROTOCOL_ERROR),
        (opening(2), Code.PROTOCOL_ERROR),
        (opening(0), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.HEADERS, 0, 1, BLOCK) + data(1, b""), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.HEADERS, 0, 1, BLOCK) + frames.frame(Kind.CONTINUATION, 0, 3), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.CONTINUATION, END_HEADERS, 1, BLOCK), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.HEADERS, END_HEADERS, 1, b"\xff\xff\xff"), Code.COMPRESSION_ERROR),
        (frames.frame(Kind.HEADERS, END_HEADERS | PADDED, 1, b"\xff"), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.HEADERS, END_HEADERS | PRIORITIZED, 1, b"\0\0"), Code.FRAME_SIZE_ERROR),
        (opening(1) + data(1, b"", PADDED), Code.FRAME_SIZE_ERROR),
        (opening(1) + data(1, b"\x05abcd", PADDED), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.PUSH_PROMISE, 0, 1, b"\0\0\0\2"), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.PRIORITY, 0, 0, b"\0\0\0\0\1"), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.RST_STREAM, 0, 1, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.RST_STREAM, 0, 1, b"\0\0\0"), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.SETTINGS, ACK, 0, b"\0\1\0\0\0\0"), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.SETTINGS, 0, 0, b"\0\1\0"), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.SETTINGS, 0, 0, b"\0\2\0\0\0\2"), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.SETTINGS, 0, 0, b"\0\4\x80\0\0\0"), Code.FLOW_CONTROL_ERROR),
        (frames.frame(Kind.SETTINGS, 0, 0, b"\0\5\0\0\0\1"), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.PING, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.PING, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.GOAWAY, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
        (frames.frame(Kind.GOAWAY, 0, 0, b"1234"), Code.FRAME_SIZE_ERROR),
        (frames.frame(Kind.WINDOW_UPDATE, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
        (frames.window_update(0, 0), Code.PROTOCOL_ERROR),
        (frames.window_update(0, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
        (frames.window_update(1, 5), Code.PROTOCOL_ERROR),
        (frames.head(Kind.DATA, 0, 1, 16385), Code.FRAME_SIZE_ERROR),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(said: bytes, code: Code) -> None:
    core = connection()
    core.receive(said, 0.0)
    assert core.over
    assert core.fault
    assert codes(core)[-1] == (Kind.GOAWAY, 0, code)
    assert core.receive(opening(1), 0.0) == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (opening(1, end=True) + data(1, framed(b"x")), Code.STREAM_CLOSED),
        (opening(1, end=True) + opening(1, end=True), Code.STREAM_CLOSED),
        (opening(1) + opening(1), Code.PROTOCOL_ERROR),
        (opening(1) + frames.window_update(1, 0), Code.PROTOCOL_ERROR),
        (opening(1) + frames.window_update(1, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
        (opening(1) + frames.frame(Kind.PRIORITY, 0, 1, b"\0"), Code.FRAME_SIZE_ERROR),
    ],
)
def test_what_breaks_a_stream_leaves_the_others(said: bytes, code: Code) -> None:
    core = connection()
    events = core.receive(said + opening(3) + data(3, framed(b"other")), 0.0)
    assert (Kind.RST_STREAM, 1, code) in codes(core)
    assert [event.stream.number for event in events if isinstance(event, Lost)] == [1]
    assert messages(events) == [b"other"]
    assert list(core.streams) == [3]
    assert not core.over


@pytest.mark.parametrize(
    ("payload", "status"),
    [(b"\1\0\0\0\1x", UNIMPLEMENTED), (b"\0\x7f\0\0\0", 8)],
)
def test_a_message_that_cannot_be_taken_ends_its_call_with_a_status(payload: bytes, status: int) -> None:
    core, client = Connection(Limits(), 0.0), Client()
    number = client.call()
    client.h2.send_data(number, payload)
    client.talk(core)
    assert client.headers(number)[-1]["grpc-status"] == str(status)
    assert core.streams == {}


def test_half_a_message_at_the_end_is_told() -> None:
    core, client = Connection(Limits(), 0.0), Client()
    number = client.call()
    client.h2.send_data(number, framed(b"whole")[:-1], end_stream=True)
    client.talk(core)
    assert client.headers(number)[-1]["grpc-status"] == str(INTERNAL)


@pytest.mark.parametrize(
    ("fields", "status"),
    [({":method": "GET"}, "405"), ({"content-type": "application/json"}, "415")],
)
def test_what_is_no_grpc_gets_an_http_status(fields: dict[str, str], status: str) -> None:
    core, client = Connection(Limits(), 0.0), Client()
    number = client.call(**fields)
    client.talk(core)
    assert client.headers(number) == [{":status": status}]
    assert core.streams == {}


def test_a_reset_stream_is_lost_and_late_frames_on_it_are_ignored() -> None:
    core = connection()
    (opened,) = core.receive(opening(1), 0.0)
    (lost,) = core.receive(frames.reset(1, Code.CANCEL), 0.0)
    assert isinstance(lost, Lost)
    assert lost.stream is opened.stream
    late = data(1, framed(b"x")) + frames.window_update(1, 5) + frames.reset(1, Code.CANCEL) + opening(1, end=True)
    assert core.receive(late, 0.0) == []
    assert not core.over
    with pytest.raises(LocalFault):
        core.message(opened.stream, b"nobody listens")


def test_this_side_cannot_speak_after_its_own_end() -> None:
    core = connection()
    (opened,) = core.receive(opening(1), 0.0)
    stream = opened.stream
    core.end(stream, 0)
    assert stream.state is State.CLOSED
    before = core.take()
    for say in (
        lambda: core.message(stream, b"x"),
        lambda: core.end(stream, 0),
        lambda: core.reset(stream, Code.CANCEL),
    ):
        with pytest.raises(LocalFault):
            say()
    assert before
    assert core.take() == []


def test_the_greeting_is_checked_byte_by_byte() -> None:
    core = Connection(Limits(), 0.0)
    for index in range(len(GREETING)):
        assert not core.over
        core.receive(GREETING[index : index + 1], 0.0)
    assert not core.over
    assert (Kind.SETTINGS, ACK, 0, b"") in sent(core)


def test_settings_come_first() -> None:
    core = Connection(Limits(), 0.0)
    core.receive(PREFACE + frames.frame(Kind.PING, 0, 0, b"12345678"), 0.0)
    assert core.over


@pytest.mark.parametrize(
    ("said", "goodbye"),
    [
        (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 505 "),
        (b"PRI * HTTP/1.1\r\n", b"HTTP/1.1 505 "),
        (bytes.fromhex("16030100c8010000c4"), bytes.fromhex("15030100020246")),
        (b"SSH-2.0-client\r\n", b"\0\0"),
        (bytes(30), b"\0\0"),
    ],
)
def test_a_stranger_is_told_goodbye(said: bytes, goodbye: bytes) -> None:
    core = Connection(Limits(), 0.0)
    assert core.receive(said, 0.0) == []
    assert core.over
    assert b"".join(core.take()).startswith(goodbye)


def test_events_of_whole_messages_and_of_pieces_come_in_order() -> None:
    core = connection()
    pieces = framed(b"one") + framed(b"two") + framed(b"three")[:6]
    events = core.receive(opening(1) + data(1, pieces), 0.0)
    events += core.receive(data(1, framed(b"three")[6:], END_STREAM), 0.0)
    assert [type(event) for event in events] == [Opened, Message, Message, Message, Ended]
    assert messages(events) == [b"one", b"two", b"three"]
