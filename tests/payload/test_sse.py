"""Frames do not depend on where the chunks were cut."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.payload.sse import Fragment, SSESplitter, data_spans, event_data, split_frames
from tests.payload.streams import cut

STREAMS = st.one_of(
    st.lists(
        st.sampled_from(
            [b"data: {}", b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b": ping", b"event: x", b"data", b"x" * 9]
        ),
        max_size=14,
    ).map(b"".join),
    st.binary(max_size=24),
)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def reference(data: bytes) -> list[bytes]:
    """Frames by a line-by-line reading of the standard; the rest comes last, maybe empty."""
    frames, frame, length = [], b"", 0
    for line in re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z", data):
        frame += line
        length += 1
        # a blank line at the start of a frame closes nothing
        if not line.strip(b"\r\n") and length > 1:
            frames.append(frame)
            frame, length = b"", 0
    return [*frames, frame]


def run(data: bytes, cuts: list[int], limit: int = 1 << 20) -> tuple[list[bytes], bytes]:
    splitter = SSESplitter(limit)
    frames = [frame for chunk in cut(data, cuts) for frame in splitter.feed(chunk)]
    rest = splitter.flush()
    assert splitter.idle
    return frames, rest


@given(STREAMS, CUTS)
@example(b"a\r\n\r\n", [1, 2, 3, 4, 5])
@example(b"a\n\r\nb", [1, 2, 3, 4])
@example(b"a\n\n\nb\n\n", [2, 3])
def test_any_cut_gives_the_frames_of_the_standard(data: bytes, cuts: list[int]) -> None:
    frames, rest = run(data, cuts)
    assert b"".join(frames) + rest == data
    # A final CR may be the first half of CRLF, so a frame that ends with it is only known at the end of the stream.
    expected = reference(data)
    if not rest:
        assert [*frames, b""] == expected
    else:
        assert [*frames, rest] == [frame for frame in expected if frame]


@given(STREAMS, CUTS, st.integers(1, 12))
def test_any_cut_gives_the_same_frames_under_a_limit(data: bytes, cuts: list[int], limit: int) -> None:
    def joined(cuts: list[int]) -> list[bytes]:
        """Frames, with neighbouring fragments of one frame joined and marked."""
        frames, rest = run(data, cuts, limit)
        out: list[bytes] = []
        open_fragment = False
        for frame in [*frames, rest]:
            if type(frame) is not Fragment:
                assert len(frame) <= limit
                if frame:
                    out.append(frame)
                open_fragment = False
            elif open_fragment:
                out[-1] += frame
            else:
                out.append(b"!" + frame)
                open_fragment = True
        return out

    assert joined(cuts) == joined([]) == joined(list(range(200)))
    assert b"".join(part.removeprefix(b"!") for part in joined(cuts)) in (data, data.replace(b"!", b""))


def test_a_whole_frame_passes_without_a_copy() -> None:
    splitter = SSESplitter()
    chunk = b"data: {}\n\n"
    assert splitter.feed(chunk)[0] is chunk
    assert splitter.feed(b"data: 1\n\ndata: 2\n\ndata: ") == [b"data: 1\n\n", b"data: 2\n\n"]
    assert repr(splitter) == "SSESplitter(held=6, oversized=False)"
    assert splitter.feed(b"3\n\n") == [b"data: 3\n\n"]
    assert splitter.idle
    assert repr(splitter) == "SSESplitter(held=0, oversized=False)"


def test_a_frame_over_the_limit_passes_in_fragments_and_the_next_is_whole_again() -> None:
    splitter = SSESplitter(limit=8)
    assert splitter.feed(b"data: 12") == []
    held = splitter.feed(b"3\n")
    assert held == [b"data: 123"]
    assert isinstance(held[0], Fragment)
    assert splitter.feed(b"\ndata:\n\n") == [b"\n\n", b"data:\n\n"]
    assert splitter.idle


def test_ten_megabytes_on_one_line_hold_no_more_than_the_limit() -> None:
    splitter = SSESplitter()
    out = held = most = 0
    for _ in range(10_240):
        out += sum(map(len, splitter.feed(b"x" * 1024)))
        held += 1024
        most = max(most, held - out)
    assert most <= splitter.limit
    assert type(splitter.flush()) is Fragment
    assert out == held


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  {}\n\n", b" {}"),
        (b"data: {}\r\n\r\n", b"{}"),
        (b"data: {}\r\r", b"{}"),
        (b"data: {}", b"{}"),
        (b"data:\n\n", b""),
        (b"data\n\n", b""),
        (b"data:", b""),
        (b"data: x\nd", b"x"),
        (b"data: a\ndata:b\n\n", b"a\nb"),
        (b": ping\n\n", None),
        (b"event: x\nid: 1\ndata: y\nretry: 5\n\n", b"y"),
        (b"dataset: y\n\n", None),
        (b"\n\n", None),
        (b"", None),
        (b"\xef\xbb\xbfdata: y\n\n", b"y"),
        (Fragment(b"data: y\n\n"), None),
    ],
)
def test_event_data(frame: bytes, data: bytes | None) -> None:
    assert event_data(frame) == data


@given(STREAMS)
def test_data_lines_are_where_the_spans_say(data: bytes) -> None:
    for frame in split_frames(data)[0]:
        spans = data_spans(frame)
        found = event_data(frame)
        assert found == (b"\n".join(frame[a:b] for a, b in spans) if spans else None)
