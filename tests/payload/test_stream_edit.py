"""Edited streams: the model restored, the usage event stripped, everything else byte for byte."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload.operations.operation import UsageForm
from extproc.payload.sse import MAX_FRAME
from extproc.payload.stream_edit import StreamEditor, edit_json_answer
from extproc.payload.stream_usage import AnswerKind
from extproc.payload.usage import Usage
from tests.payload import streams
from tests.payload.streams import event, openai_chunk


def run(chunks: list[bytes], model: str | None = "mine", strip: bool = True) -> bytes:
    editor = StreamEditor(model, strip)
    out = []
    for chunk in chunks:
        new = editor.feed(chunk)
        out.append(chunk if new is None else new)
    return b"".join([*out, editor.finish()])


def renamed(data: bytes) -> bytes:
    """What the edit should give for streams of this file, whose own model is written in one way only."""
    return data.replace(b'"model":"up-1"', b'"model":"mine"').replace(b'"model": "up-1"', b'"model": "mine"')


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (streams.OPENAI_WHOLE, renamed(streams.OPENAI) + streams.DONE),
        (streams.MODEL_LAST, renamed(streams.MODEL_LAST)),
        (streams.ANTHROPIC, renamed(streams.ANTHROPIC)),
        (streams.RESPONSES, renamed(streams.RESPONSES)),
        (streams.CRLF, (renamed(streams.OPENAI) + streams.DONE).replace(b"\n", b"\r\n")),
        (streams.CR, (renamed(streams.OPENAI) + streams.DONE).replace(b"\n", b"\r")),
        (streams.MIXED, renamed(streams.MIXED).replace(b'data:"up-1"', b'data:"mine"')),
        (streams.JSON_ANSWER, renamed(streams.JSON_ANSWER)),
    ],
)
def test_whole_streams(stream: bytes, expected: bytes) -> None:
    assert run([stream]) == expected


EDITORS = st.tuples(st.sampled_from([None, "mine", "up-1", 'q"é']), st.booleans())


@given(st.sampled_from(streams.ALL), st.lists(st.integers(0, 1500), max_size=12), EDITORS)
def test_any_cut_gives_the_same(stream: bytes, cuts: list[int], how: tuple[str | None, bool]) -> None:
    assert run(streams.cut(stream, cuts), *how) == run([stream], *how)


@pytest.mark.parametrize("stream", streams.ALL)
def test_byte_by_byte_and_without_work(stream: bytes) -> None:
    single = streams.cut(stream, list(range(len(stream))))
    assert run(single) == run([stream])
    assert run(single, None, strip=False) == stream


PAIRS = st.sampled_from(
    [
        '"model":"up-1"',
        '"model": "z"',
        '"model":3',
        '"id":"a"',
        '"choices":[]',
        '"usage":{"prompt_tokens":1}',
        '"usage":null',
        '"x":"\\"model\\":\\"n\\""',
        '"model ":"n"',
        '"y":{"model":"n"}',
        '"message":{"model":"n","z":1}',
        '"t":["model"]',
    ]
)
FRAMES = st.lists(PAIRS, max_size=5, unique_by=lambda pair: pair.split(":")[0]).map(lambda p: "{" + ",".join(p) + "}")


@given(st.lists(FRAMES, max_size=6))
def test_frames_in_any_order_equal_an_edit_of_the_decoded_data(frames: list[str]) -> None:
    def edited(text: str) -> Any:
        data = json.loads(text)
        if data.get("choices") == [] and isinstance(data.get("usage"), dict):
            if not data.keys() & {"x", "model ", "y", "message", "t"}:
                return None
            del data["usage"]
        for place in (data, data.get("message", {})):
            if isinstance(place.get("model"), str):
                place["model"] = "mine"
        return data

    out = run(["".join(f"data: {frame}\n\n" for frame in frames).encode()])
    found = [json.loads(frame.removeprefix(b"data: ")) for frame in out.split(b"\n\n")[:-1]]
    assert found == [data for frame in frames if (data := edited(frame)) is not None]


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b'data: {"model":"', b"\n\n", b'"}', b"\r"]), max_size=8))
def test_bytes_that_are_no_answer_pass(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    out = run(chunks)
    if b'"model"' not in data:
        assert out == data


def test_unchanged_chunks_pass_as_none() -> None:
    editor = StreamEditor("mine", strip_usage=True)
    assert editor.feed(b": ping\n\n") is None
    assert editor.feed(event({"type": "ping"})) is None
    assert editor.feed(b"data: {") == b""
    assert editor.feed(b"}\n\n") == b"data: {}\n\n"
    assert editor.feed(event(openai_chunk("x") | {"model": "mine"})) is None
    assert editor.feed(event(openai_chunk("y") | {"model": "mine"})) is None
    assert editor.feed(streams.OPENAI_USAGE_ONLY) == b""
    assert editor.feed(streams.DONE) is None
    assert editor.finish() == b""
    assert (editor.usage, editor.events) == (Usage(7, 3), 5)
    assert editor.completion_bytes > 0
    assert "sse" not in repr(editor)


def test_usage_events_stay_where_the_client_asked_or_content_is_with_them() -> None:
    assert run([streams.OPENAI_WHOLE], None, strip=False) == streams.OPENAI_WHOLE
    last = event(openai_chunk("end", usage=streams.USAGE))
    filtered = event({"choices": [], "prompt_filter_results": [], "usage": None})
    assert run([last, filtered], None) == last + filtered


@pytest.mark.parametrize(
    "choices",
    [
        [],
        None,
        [{"index": 0, "delta": {}, "finish_reason": None}],
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}],
        "absent",
    ],
)
def test_forced_usage_disappears_whatever_the_choices_look_like(choices: Any) -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up-1", "usage": streams.USAGE}
    if choices != "absent":
        chunk["choices"] = choices
    assert run([streams.OPENAI, event(chunk), streams.DONE], None) == streams.OPENAI + streams.DONE


def test_what_else_a_usage_event_says_survives() -> None:
    head = {"id": "c", "choices": [], "citations": ["https://a.example"]}
    assert run([event(head | {"usage": streams.USAGE})], None) == event(head)
    ended = openai_chunk("") | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": streams.USAGE}
    assert run([event(ended)], None) == event(ended)


def test_json_lines_are_renamed_line_by_line() -> None:
    lines = b'{"model":"up-1","done":false}\n{"model":"up-1","prompt_eval_count":7,"eval_count":3}\n'
    for cuts in ([], [5], [40], [31], list(range(80))):
        editor = StreamEditor("mine", strip_usage=False, form=UsageForm.OLLAMA, kind=AnswerKind.LINES)
        out = [
            piece if edited is None else edited for piece in streams.cut(lines, cuts) for edited in [editor.feed(piece)]
        ]
        assert b"".join([*out, editor.finish()]) == renamed(lines)
        assert editor.usage == Usage(7, 3)


def test_a_second_model_in_a_frame_is_not_taken_for_the_first() -> None:
    first = event(openai_chunk("x"))
    twice = first[:-3] + b',"message":{"model":"up-1"}}\n\n'
    repeated = first[:-3] + b',"model":"up-1"}\n\n'
    comment = b': ,"model":"up-1","id":"c"}\n\n'
    assert run([first, twice]) == renamed(first + twice)
    assert run([first, repeated]) == renamed(first) + repeated
    assert run([streams.MODEL_LAST, comment]) == renamed(streams.MODEL_LAST) + comment


def test_a_frame_over_the_limit_passes_unedited_and_later_ones_are_edited() -> None:
    huge = event({"model": "up-1", "pad": "x" * MAX_FRAME})
    small = event(openai_chunk("x"))
    pieces = [huge[i : i + 65_536] for i in range(0, len(huge), 65_536)]
    assert run([small, *pieces, small]) == renamed(small) + huge + renamed(small)
    assert run([small, huge, small]) == renamed(small) + huge + renamed(small)


def test_a_json_answer_over_the_limit_passes_unedited() -> None:
    editor = StreamEditor("mine", strip_usage=True, max_json=16)
    assert editor.feed(b'{"model":"up-1"') == b""
    assert editor.feed(b',"a":"aaaaa"') == b'{"model":"up-1","a":"aaaaa"'
    assert editor.feed(b"}") is None
    assert editor.finish() == b""


def test_edit_json_answer() -> None:
    body = b'{"id":1e400, "model" : "up-1","choices":[{"model":"up-1"}]}\n'
    assert edit_json_answer(body, "mine") == body.replace(b'"up-1"', b'"mine"', 1)
    for same in (b'{"model":3}', b'{"id":"model"}', b"[]", b'{"model":"a","model":"b"}', b'"model"', b"", b'{"model"'):
        assert edit_json_answer(same, "mine") is same
    assert edit_json_answer(body, None) is body
