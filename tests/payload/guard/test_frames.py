"""Frames taken apart and put together."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.payload.guard.frames import frame_of
from extproc.payload.sse import event_data, split_frames


@pytest.mark.parametrize(
    ("raw", "data", "out"),
    [
        (b"data: x\n\n", b"x", b"data: Y\n\n"),
        (b"data:x\r\n\r\n", b"x", b"data:Y\r\n\r\n"),
        (b"event: e.1\ndata: x\nid: 7\nretry:30\n\n", b"x", b"event: e.1\ndata: Y\nid: 7\nretry:30\n\n"),
        (b": words\ndata: x\n\n", b"x", b":\ndata: Y\n\n"),
        (b"event: two words\nother: x\ndata: x\n\n", b"x", b"data: Y\n\n"),
        (b"\xef\xbb\xbfdata: x\r\r", b"x", b"data: Y\r\r"),
        (b"data\n\n", b"", b"dataY\n\n"),
        (b"database: x\n\n", None, b"\n"),
    ],
)
def test_other_data_in_the_same_frame(raw: bytes, data: bytes | None, out: bytes) -> None:
    frame = frame_of(raw)
    assert frame.data == data
    assert frame.whole(None if data is None else b"Y") == out
    assert frame.clean == (frame.whole(data) == raw)


def test_several_data_lines() -> None:
    frame = frame_of(b"data: a\r\ndata:b\ndata:  c\n\n")
    assert frame.data == b"a\nb\n c" and frame.clean
    assert frame.whole(b"1\n2\n3") == b"data: 1\r\ndata:2\ndata: 3\n\n"


PARTS = st.sampled_from(
    [b"data:", b"data: x", b"data", b"\n", b"\r\n", b"\r", b":c", b"event: e", b"id:\xff", b"x", b" "]
)


@settings(deadline=None)
@given(st.lists(PARTS, max_size=12).map(b"".join))
def test_any_frame_has_the_data_that_a_reader_sees(stream: bytes) -> None:
    for raw in split_frames(stream)[0]:
        frame = frame_of(raw)
        assert frame.data == event_data(raw)
        assert event_data(frame.whole(frame.data)) == frame.data or frame.data == b""
