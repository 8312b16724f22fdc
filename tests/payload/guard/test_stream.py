"""Guarded event streams: whatever the cuts, no value gets through, and all other bytes stay."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.findings import Finding
from detectors.masking import Vault, cover
from detectors.stream import Action
from extproc.payload.guard.fields import TextChannel, TextFilter
from extproc.payload.guard.stream import GuardedStream
from extproc.payload.guard.text import MAX_TEXTS
from extproc.payload.operations.operation import Dialect
from extproc.payload.sse import MAX_FRAME
from extproc.payload.stream_edit import StreamEditor
from tests.detectors import pieces
from tests.detectors.pieces import CARD, EMAIL, PEM, VALUES
from tests.payload import streams
from tests.payload.guarding import Plain, call, chunk, delta, events, guarding, run, texts
from tests.payload.streams import DONE, cut, event


def plain(_: TextChannel) -> TextFilter:
    return Plain()


def chat(parts: list[str], ending: bytes = b"\n", **more: Any) -> bytes:
    """A stream with one choice, whose content comes in these parts."""
    body = [chunk(delta(0, role="assistant", content=""), **more)]
    body += [chunk(delta(0, content=part), **more) for part in parts]
    body.append(chunk(delta(0, "stop"), **more))
    return b"".join(event(each, ending) for each in body) + b"data: [DONE]" + ending * 2


# --- what stays ------------------------------------------------------------------------------------------------------

UNTOUCHED = [streams.OPENAI_WHOLE, streams.MODEL_LAST, streams.ANTHROPIC, streams.RESPONSES, streams.CRLF, streams.CR]


@pytest.mark.parametrize("stream", [*UNTOUCHED, streams.JSON_ANSWER, b"", b"\n\n", b"data: [DONE]\n\n"])
def test_what_no_filter_changes_passes_byte_for_byte(stream: bytes) -> None:
    assert run([stream], plain)[0] == stream
    assert run(cut(stream, list(range(len(stream)))), plain)[0] == stream


def test_only_the_text_changes() -> None:
    odd = b'event: x\r\ndata: {"id":"c","n":1.50e+1 ,"choices" : [ {"index":0,"delta":{"content":"%s"},"x":[1]} ]\r\n'
    odd += b'data:,"u":{"a":"\\u00e9"}}\r\nid: 7\r\n\r\n'
    whole = run([odd % EMAIL.encode()], guarding("mask"))[0]
    assert whole.startswith(odd % b"" + b"data: ")
    assert texts(whole) == {(0, "content"): "[EMAIL]"}


def test_words_of_comments_and_unknown_lines_are_left_out() -> None:
    body = b"\xef\xbb\xbf: ask alice.l@example.com\n\nevent: note\nnote: secret\nid: a b\ndata: [DONE]\n\n"
    assert run([body], plain)[0] == b":\n\nevent: note\ndata: [DONE]\n\n"


def test_log_probabilities_are_taken_out() -> None:
    content = [{"token": "al", "logprob": -1, "bytes": [97], "top_logprobs": []}]
    choice = delta(0, content="x ") | {"logprobs": {"content": content}}
    out, _ = run([event(chunk(choice))], plain)
    assert events(out) == [chunk(delta(0, content="x ") | {"logprobs": None})]
    body = {"type": "response.output_text.delta", "delta": "x", "logprobs": [{"token": "x"}]}
    assert events(run([event(body)], plain)[0]) == [body | {"logprobs": []}]


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("what", ["mask", "deny"])
def test_a_value_in_any_two_pieces(value: str, what: Action) -> None:
    text = "I am " + value + ", you know."
    category = pieces.find(text)[0].category
    for at in range(5, 5 + len(value)):
        out, stream = run([chat([text[:at], text[at:]])], guarding(what))
        if what == "mask":
            assert texts(out) == {(0, "content"): f"I am [{category}], you know.", (0, "finish"): "stop"}
        else:
            assert texts(out) == {(0, "content"): "I am no", (0, "finish"): "content_filter"} and stream.denied
        assert out.endswith(DONE) and value[:6].encode() not in out


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("what", ["mask", "deny"])
def test_bytes_cut_anywhere_give_the_same(ending: bytes, what: Action) -> None:
    stream = chat(["Mail a", "lice.l@", "example.com, 王", "小明 ", "\U0001f600", CARD[:9], CARD[9:]], ending)
    whole, _ = run([stream], guarding(what))
    assert run([bytes([byte]) for byte in stream], guarding(what))[0] == whole
    for at in range(0, len(stream), 5):
        assert run(cut(stream, [at, at + 3]), guarding(what))[0] == whole


def test_text_held_at_the_end_goes_out_in_an_event_of_its_own() -> None:
    frames = [
        event(chunk(delta(0, role="assistant", content="Hi "), system_fingerprint="f")),
        event(chunk(delta(0, tool_calls=call(0, "", name="send") + call(1, "", name="look")))),
        event(chunk(delta(0, tool_calls=call(1, '{"q":7')))),
        event(chunk(delta(0, content="Bob", reasoning_content="hm"), usage=None)),
        event(chunk(delta(0, "tool_calls"))),
        event(chunk(usage={"prompt_tokens": 1})),
        DONE,
    ]
    out, _ = run(frames, guarding("report"))
    assert texts(out) == texts(b"".join(frames))
    extra = [e for e in events(out)[:-2] if e["choices"][0]["delta"] == {"content": "Bob"}]
    assert extra == [chunk(delta(0, content="Bob"), system_fingerprint="f")]
    assert all(each["id"] == "c-1" and each["created"] == 1 for each in events(out)[:-1])
    assert [e["choices"][0]["finish_reason"] for e in events(out)[:-2]][-1] == "tool_calls"


def test_text_goes_out_in_the_event_that_ends_its_choice() -> None:
    out, _ = run([event(chunk(delta(0, content="1"))), event(chunk(delta(0, "stop", content="2")))], guarding("mask"))
    assert events(out) == [chunk(delta(0, content="")), chunk(delta(0, "stop", content="12"))]


def test_a_stream_without_an_end_gives_what_is_held() -> None:
    frames = event(chunk(delta(0, content="see alice.l@exam"))) + event(chunk(delta(1, content="Bo")))
    out, _ = run([frames], guarding("mask"))
    assert texts(out) == {(0, "content"): "see alice.l@exam", (1, "content"): "Bo"}


def test_a_frame_without_its_blank_line_is_finished_or_withheld() -> None:
    assert texts(run([event(chunk(delta(0, content="a b")))[:-2]], guarding("mask"))[0]) == {(0, "content"): "a b"}
    out, stream = run([event(chunk(delta(0, content="a b")))[:-3]], guarding("mask"))
    assert out == b"" and not stream.denied


def test_surrogates_cut_in_two_are_joined() -> None:
    frames = [
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % half for half in (b"a\\ud83d", b"\\ude00 b")
    ]
    assert texts(run(frames, guarding("mask"))[0]) == {(0, "content"): "a😀 b"}
    alone = texts(run([frames[0], frames[0], *frames], guarding("mask"))[0])
    assert alone == {(0, "content"): "a\ufffda\ufffda😀 b"} or alone[0, "content"].count("😀") == 1


def test_a_tool_call_that_states_its_id_once_and_no_index() -> None:
    calls = [{"id": "call_1", "function": {"name": "f", "arguments": '{"to":"alice.l@'}}]
    more = [{"function": {"arguments": 'example.com"}'}}]
    new = [{"id": "call_2", "function": {"name": "g", "arguments": '{"x":1'}}]
    frames = [event(chunk(delta(0, tool_calls=each))) for each in (calls, more, new)]
    out, _ = run([*frames, event(chunk(delta(0, "tool_calls")))], guarding("mask"))
    parts = [call for e in events(out) for call in e["choices"][0]["delta"].get("tool_calls", ())]
    assert "".join(part["function"]["arguments"] for part in parts) == '{"to":"[EMAIL]"}{"x":1'
    assert parts[-1] == {"id": "call_2", "function": {"arguments": "1"}}


# --- denials ----------------------------------------------------------------------------------------------------------


def test_a_denial_ends_every_choice_and_swallows_the_rest() -> None:
    frames = [
        event(chunk(delta(0, content="one "), delta(1, content="two "), delta(2, content="3"))),
        event(chunk(delta(2, "stop", content="."))),
        event(chunk(delta(0, content="more "), delta(1, "stop", content=f"it is {EMAIL} or"), delta(0, content="x"))),
        event(chunk(delta(0, content="nothing of this"))),
        DONE,
    ]
    out, stream = run(frames, guarding("deny"))
    assert texts(out) == {
        (0, "content"): "one more ",
        (0, "finish"): "content_filter",
        (1, "content"): "two it is no",
        (1, "finish"): "content_filter",
        (2, "content"): "3.",
        (2, "finish"): "stop",
    }
    last = events(out)[-2]
    assert last["id"] == "c-1" and last["choices"][0]["index"] == 1 and out.endswith(DONE)
    assert stream.feed(frames[0], end=True) == b""


def test_a_denial_of_what_was_held_comes_before_the_end_of_the_choice() -> None:
    out, _ = run([chat(["mail ", EMAIL])], guarding("deny"))
    assert texts(out) == {(0, "content"): "mail no", (0, "finish"): "content_filter"}
    assert events(out)[-1] == "DONE" and len(out.split(b"[DONE]")) == 2


@pytest.mark.parametrize(
    "frame",
    [
        b"data: not json\n\n",
        b'data: "text"\n\n',
        b'data: {"choices":[{"delta":{"content":"a","content":"b"}}]}\n\n',
        b'data: {"a":"\xff"}\n\n',
        b'data: {"a":1,"a":2}\n\n',
        b"data: {" + b'"a":[' * 3000 + b"\n\n",
        b'data: {"x":"' + b"y" * MAX_FRAME + b'"}\n\n',
        b"".join(event(chunk(delta(n, content="x"))) for n in range(MAX_TEXTS + 1)),
        event(chunk(delta(0, "stop", content="411111"))) + event(chunk(delta(0, content="1111"))),
    ],
    ids=range(9),
)
def test_what_cannot_be_read_ends_the_stream(frame: bytes) -> None:
    out, stream = run(
        [event(chunk(delta(0, content="a b "))), frame, event(chunk(delta(0, content="c")))], guarding("mask")
    )
    assert stream.denied and out.endswith(DONE)
    assert "c" not in texts(out)[0, "content"].removesuffix("no")


def test_a_filter_that_fails_ends_everything() -> None:
    class Failing:
        def feed(self, text: str, *, end: bool) -> Finding:
            raise RuntimeError

    stream = GuardedStream(lambda _: Failing())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        stream.feed(chat(["a"]), end=False)
    assert stream.feed(chat(["b"]), end=True) == b""


# --- other shapes -----------------------------------------------------------------------------------------------------


def test_completions() -> None:
    def body(text: str, finish: str | None = None) -> dict[str, Any]:
        return {
            "id": "x",
            "object": "text_completion",
            "choices": [{"index": 0, "text": text, "finish_reason": finish}],
        }

    frames = [event(body("mail alice.l@")), event(body("example.com ok", "stop")), DONE]
    assert texts(run(frames, guarding("mask"))[0]) == {(0, "text"): "mail [EMAIL] ok", (0, "finish"): "stop"}
    denied = run(frames, guarding("deny"), Dialect.COMPLETIONS)[0]
    assert texts(denied) == {(0, "text"): "mail no", (0, "finish"): "content_filter"}


def response_stream() -> list[bytes]:
    where: dict[str, Any] = {"item_id": "i", "output_index": 0, "content_index": 0}
    full = f"mail {EMAIL} or"
    told = {"id": "r", "model": "m", "instructions": "ask Bob", "output": []}
    said = [{"type": "message", "content": [{"type": "output_text", "text": full}]}]
    body: list[dict[str, Any]] = [
        {"type": "response.created", "response": told},
        *({"type": "response.output_text.delta", "delta": part, **where} for part in (full[:9], full[9:15], full[15:])),
        {"type": "response.output_text.done", "text": full, **where},
        {"type": "response.completed", "response": told | {"output": said}},
    ]
    return [event(each, name=str(each["type"])) for each in body]


def test_responses_events() -> None:
    out, _ = run(response_stream(), guarding("mask"))
    got = events(out)
    assert "".join(e["delta"] for e in got if e["type"].endswith("delta")) == "mail [EMAIL] or"
    assert [e["type"] for e in got[-3:]] == [
        "response.output_text.delta",
        "response.output_text.done",
        "response.completed",
    ]
    assert got[-2]["text"] == "mail [EMAIL] or" == got[-1]["response"]["output"][0]["content"][0]["text"]
    assert out.count(b"event: response.output_text.delta\n") == 4

    seen: list[TextChannel] = []

    def watch(channel: TextChannel) -> TextFilter:
        seen.append(channel)
        return Plain()

    run(response_stream(), watch)
    assert [channel.kind for channel in seen] == ["echo", "content", "content", "echo", "content"]


def test_a_denial_of_a_response() -> None:
    out, stream = run(response_stream(), guarding("deny"), Dialect.RESPONSES)
    assert stream.denied  # by the instructions, which name somebody
    frames = response_stream()
    frames[0] = frames[0].replace(b"Bob", b"bob")
    out, _ = run(frames, guarding("deny"), Dialect.RESPONSES)
    got = events(out)
    assert "".join(e.get("delta", "") for e in got) == "mail "
    assert got[-1]["type"] == "response.incomplete" and got[-1]["response"]["id"] == "r"
    assert got[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}


def test_messages_events() -> None:
    def block(index: int, **fields: str) -> bytes:
        return event({"type": "content_block_delta", "index": index, "delta": fields}, name="content_block_delta")

    frames = [
        event({"type": "message_start", "message": {"id": "m", "model": "x", "content": []}}, name="message_start"),
        block(0, type="thinking_delta", thinking="ask alice.l@exam"),
        block(0, type="thinking_delta", thinking="ple.com now"),
        block(0, type="signature_delta", signature="4111111111111111" * 9),
        event({"type": "content_block_stop", "index": 0}, name="content_block_stop"),
        block(1, type="input_json_delta", partial_json='{"to":"4111 1111 '),
        block(1, type="input_json_delta", partial_json='1111 1111"}'),
        event({"type": "content_block_stop", "index": 1}, name="content_block_stop"),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, name="message_delta"),
        event({"type": "message_stop"}, name="message_stop"),
    ]
    out, _ = run(frames, guarding("mask"), Dialect.MESSAGES)
    got = events(out)
    assert "".join(e.get("delta", {}).get("thinking", "") for e in got) == "ask [EMAIL] now"
    assert "".join(e.get("delta", {}).get("partial_json", "") for e in got) == '{"to":"[BANK_CARD]"}'
    assert got[4]["type"] == "content_block_delta" and got[5]["type"] == "content_block_stop"
    denied = events(run(frames, guarding("deny"), Dialect.MESSAGES)[0])
    assert denied[-2]["delta"]["stop_reason"] == "refusal" and denied[-1]["type"] == "message_stop"


def test_unknown_events_are_guarded_all_the_same() -> None:
    frames = [event({"say": {"deep": [f"x {EMAIL[:9]}"]}}), event({"say": {"deep": [f"{EMAIL[9:]} y"]}})]
    out, _ = run(frames, guarding("mask"))
    assert "".join(e["say"]["deep"][0] for e in events(out)) == "x [EMAIL] y"
    gemini = [
        event({"candidates": [{"content": {"parts": [{"text": part}]}, "index": 0}]})
        for part in ("mail alice", ".l@x.org ")
    ]
    last = event({"candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP", "index": 0}]})
    got = events(run([*gemini, last], guarding("mask"))[0])
    assert (
        "".join(e["candidates"][0]["content"]["parts"][0]["text"] for e in got) == "mail [EMAIL] ok" and len(got) == 3
    )


@pytest.mark.parametrize("place", ["citations", "error", "message"])
def test_complete_values_in_events_are_filtered_on_their_own(place: str) -> None:
    held = "x 123"
    body: dict[str, Any] = {
        "citations": chunk(delta(0, content="a "), citations=[held, EMAIL]),
        "error": {"error": {"message": held, "type": EMAIL, "n": 1}},
        "message": chunk(delta(0, content="a ") | {"message": {"content": held + " " + EMAIL}}),
    }[place]
    out = run([event(body)], guarding("mask"))[0]
    assert out == event(body).replace(EMAIL.encode(), b"[EMAIL]") or place == "error"
    assert held.encode() in out and b"alice" not in out.replace(b'"type":"alice.l@example.com"', b"")


# --- values put back --------------------------------------------------------------------------------------------------

NASTY = 'Al "x" \\ \n小'


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=8))
def test_values_come_home_also_in_tool_arguments(cuts: list[int]) -> None:
    vault = Vault()
    vault.placeholder("PERSON", NASTY)
    vault.placeholder("EMAIL", EMAIL)
    said = "Dear <PERSON_1>, write to &lt;EMAIL_1&gt; or <EMAIL_2>."
    wanted = r'{"to": "\u003cPERSON_1\u003e", "cc": ["<EMAIL_1>"]}'
    frames = [chunk(delta(0, tool_calls=call(0, "", name="f")))]
    for text, fields in ((said, False), (wanted, True)):
        parts = [text[a:b] for a, b in pairwise(sorted({0, len(text), *(c % len(text) for c in cuts)}))]
        frames += [chunk(delta(0, tool_calls=call(0, part)) if fields else delta(0, content=part)) for part in parts]
    stream = b"".join(map(event, [*frames, chunk(delta(0, "tool_calls"))])) + DONE
    got = texts(run(cut(stream, [77, 300, 301, 555]), guarding("deny", vault))[0])
    assert got[0, "content"] == f"Dear {NASTY}, write to {EMAIL} or <EMAIL_2>."
    assert json.loads(got[0, 0, "arguments"]) == {"to": NASTY, "cc": [EMAIL]}


# --- a thousand streams -----------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [*VALUES, " ", ", ", "你好，", "a", '"', "\\", "\n", "😀", "<PERSON_1>", "&lt;person_2&gt;", "42", "é"]
)
TEXTS = st.lists(WORDS, max_size=8).map("".join)
FIELDS = ("content", "reasoning_content", 0, 1)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[dict[tuple[Any, ...], str], bytes]:
    """Texts of several choices and tool calls, and a stream in which their pieces are interleaved."""
    whole = {(n, field): draw(TEXTS) for n in range(draw(st.integers(1, 3))) for field in FIELDS if draw(st.booleans())}
    queue: list[tuple[int, Any, str]] = []
    for (n, field), text in whole.items():
        size = draw(st.integers(1, 12))
        queue += [(n, field, text[at : at + size]) for at in range(0, len(text), size)]
    order = draw(st.permutations(range(len(queue))))
    rank = {(n, field): sorted(i for i in order if queue[i][:2] == (n, field)) for n, field, _ in queue}
    ascii_only = draw(st.booleans())
    ending = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    out = []
    for index in order:
        n, field, _ = queue[index]
        part = queue[rank[n, field].pop(0)][2]
        fields = {"tool_calls": call(field, part)} if isinstance(field, int) else {field: part}
        data = json.dumps(chunk(delta(n, **fields)), ensure_ascii=ascii_only).encode()
        out.append(b"data: " + data + ending * 2)
    out += [event(chunk(delta(n, "stop")), ending) for n in {n for n, _ in whole}]
    return whole, b"".join(out) + b"data: [DONE]" + ending * 2


@settings(max_examples=1000, deadline=None)
@given(conversations(), st.lists(st.integers(0, 3000), max_size=8), st.sampled_from(["mask", "deny", "report"]))
def test_a_thousand_streams(
    conversation: tuple[dict[tuple[Any, ...], str], bytes], cuts: list[int], what: Action
) -> None:
    whole, stream = conversation
    vault = Vault()
    vault.placeholder("PERSON", 'Q"z\n')
    out, guarded = run(cut(stream, cuts), guarding(what, vault))
    assert out == run([stream], guarding(what, vault))[0]
    got = texts(out)
    for (n, field), text in whole.items():
        key = (n, field, "arguments") if isinstance(field, int) else (n, field)
        found = pieces.find(text)
        came = got.get(key, "")
        if what != "deny":
            wanted = text if what == "report" else expected(text, found)
            assert came == vault.restore(wanted, in_json=field in (0, 1))
        elif found:
            before = vault.restore(text[: min(f.start for f in found)], in_json=field in (0, 1))
            assert guarded.denied and before.startswith(came.removesuffix("no"))
    if what == "deny" and not guarded.denied:
        assert not any(pieces.find(text) for text in whole.values())


def expected(text: str, found: list[Finding]) -> str:
    out, at = "", 0
    for span in cover(found):
        out += text[at : span.start] + f"[{span.category}]"
        at = span.end
    return out + text[at:]


# --- together with the editor -----------------------------------------------------------------------------------------


def test_the_model_is_renamed_and_usage_read_in_front_of_the_guard() -> None:
    usage = event(chunk(usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}))
    stream = chat(["hello ", EMAIL]).removesuffix(DONE) + usage + DONE
    editor, guard = StreamEditor("mine", strip_usage=True), GuardedStream(guarding("deny"))
    out = b""
    for piece in cut(stream, list(range(0, len(stream), 11))):
        edited = editor.feed(piece)
        out += guard.feed(piece if edited is None else edited, end=False)
    out += guard.feed(editor.finish(), end=True)
    assert editor.usage is not None and editor.usage.total_tokens == 10
    assert b'"m"' not in out and b"usage" not in out and events(out)[-2]["model"] == "mine"
    assert texts(out) == {(0, "content"): "hello ", (0, "finish"): "content_filter"}


def test_memory_is_bounded() -> None:
    guard = GuardedStream(guarding("mask"))
    for _ in range(300):
        guard.feed(event(chunk(delta(0, content="some words "))), end=False)
    field = next(iter(guard._texts))
    assert len(field._filter._buffer) < 300  # type: ignore[attr-defined]
    assert not guard._held and guard._splitter.idle


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_have_an_outcome(data: bytes, cuts: list[int]) -> None:
    assert run(cut(data, cuts), guarding("mask"))[0] == run([data], guarding("mask"))[0]


def test_pem_over_many_events() -> None:
    out, _ = run([chat(["k:\n", *PEM, "\nend"])], guarding("mask"))
    assert texts(out) == {(0, "content"): "k:\n[SECRET]\nend", (0, "finish"): "stop"}
