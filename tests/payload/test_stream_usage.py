"""Usage is found in every stream, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload import stream_usage
from extproc.payload.sse import MAX_FRAME
from extproc.payload.stream_usage import AnswerKind, StreamUsage
from extproc.payload.usage import Usage
from tests.payload import streams


def read(*chunks: bytes, max_json: int = 1 << 20) -> StreamUsage:
    meter = StreamUsage(max_json)
    for chunk in chunks:
        meter.feed(chunk)
    meter.finish()
    return meter


@pytest.mark.parametrize("stream", streams.ALL)
def test_usage_and_bytes_of_whole_streams(stream: bytes) -> None:
    meter = read(stream)
    assert meter.usage == Usage(7, 3)
    assert meter.completion_bytes == len(stream)


@given(st.sampled_from(streams.ALL), st.lists(st.integers(0, 1500), max_size=12))
def test_any_cut_gives_the_same(stream: bytes, cuts: list[int]) -> None:
    whole, pieces = read(stream), read(*streams.cut(stream, cuts))
    assert (pieces.usage, pieces.events, pieces.completion_bytes) == (whole.usage, whole.events, whole.completion_bytes)


@pytest.mark.parametrize("stream", streams.ALL)
def test_byte_by_byte(stream: bytes) -> None:
    assert read(*streams.cut(stream, list(range(len(stream))))).usage == Usage(7, 3)


@given(
    st.lists(
        st.binary(max_size=20) | st.sampled_from([b'data: {"usage":{', b"\n\n", b'"prompt_tokens":1}}']), max_size=8
    )
)
def test_any_bytes_are_survived(chunks: list[bytes]) -> None:
    read(*chunks)


def test_events_are_counted_without_done() -> None:
    assert read(streams.OPENAI).events == len(streams.TEXTS)
    assert read(streams.OPENAI_WHOLE).events == len(streams.TEXTS) + 1
    assert read(streams.OPENAI, streams.DONE).events == len(streams.TEXTS)
    assert read(streams.CRLF).events == len(streams.TEXTS) + 1
    assert read(streams.ANTHROPIC).events == 4
    assert read(streams.JSON_ANSWER).events == 0


def test_usage_is_there_as_soon_as_it_was_seen() -> None:
    meter = StreamUsage()
    meter.feed(streams.OPENAI)
    meter.feed(streams.OPENAI_USAGE_ONLY)
    assert meter.usage == Usage(7, 3)
    assert meter.kind is AnswerKind.EVENTS


def test_null_usage_parses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(stream_usage, "stated_in", parsed.append)
    read(*(frame + b"\n\n" for frame in streams.OPENAI.split(b"\n\n")), streams.DONE)
    assert parsed == []


def test_a_frame_over_the_limit_is_not_looked_at_and_later_ones_are() -> None:
    huge = streams.event({"pad": "x" * MAX_FRAME, "usage": streams.USAGE | {"prompt_tokens": 99}})
    pieces = [huge[i : i + 65_536] for i in range(0, len(huge), 65_536)]
    assert read(*pieces).usage is None
    assert read(huge).usage is None
    assert read(streams.OPENAI, *pieces, streams.OPENAI_USAGE_ONLY).usage == Usage(7, 3)


def test_a_json_answer_over_the_limit_is_given_up() -> None:
    assert read(streams.JSON_ANSWER, max_json=20).usage == Usage(7, 3)  # one chunk is at hand anyway
    assert read(streams.JSON_ANSWER[:30], streams.JSON_ANSWER[30:], max_json=20).usage is None


@pytest.mark.parametrize("stream", [b"", b" \n", b"{", b"<html>", b"data: ", b" " * 5000])
def test_answers_without_usage(stream: bytes) -> None:
    meter = read(stream)
    assert meter.usage is None
    assert "StreamUsage(None" in repr(meter)
