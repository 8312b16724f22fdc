"""Security policies on answers, through a real Envoy: what is masked, how a stream is ended, and that no cut helps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from tests.e2e.guarded import ANSWERS, EMAIL, MODEL, SECRET, Dripping, Guarded, guarded, policy, user
from tests.support.far_side import FarSide
from tests.support.gateway import Gateways, provider, route
from tests.support.raw import RawConnection, Reply, request

ENDED, HIDDEN, BOTH, DRY, DRIPS = "ended.test", "hidden.test", "both.test", "dry.test", "drips.test"
PLAN = "operation bluebird"
BEFORE = "The weather is fine. "
REFUSAL = "ended by a security policy"
RANDOM_STREAMS = 50
DRIPPING = "dripping.test"


@pytest.fixture(scope="module")
def upstream(far_side: FarSide) -> Iterator[Dripping]:
    with Dripping(far_side) as found:
        yield found


@pytest.fixture(scope="module")
def world(far_side: FarSide, gateways: Gateways, upstream: Dripping) -> Guarded:
    """Requests pass; answers are ended, masked, looked at beside the request, or only counted."""
    return guarded(
        far_side,
        gateways,
        (ENDED, HIDDEN, BOTH, DRY),
        provider("dripping", DRIPPING, port=80, protocol="http"),
        route("drips", DRIPS, {"backendRefs": [{"provider": "dripping"}]}),
        policy("ended", ENDED, inspect=ANSWERS, denyPatterns=[PLAN]),
        policy("hidden", HIDDEN, inspect=ANSWERS, actions={"SECRET": "mask", "EMAIL": "mask"}),
        policy("drips", DRIPS, inspect=ANSWERS, actions={"SECRET": "mask"}),
        policy("both", BOTH, inspect={"response": True}, actions={"SECRET": "mask"}),
        policy("dry", DRY, inspect=ANSWERS, denyPatterns=[PLAN], dryRun=True),
        aliases={DRIPPING: upstream.address},
        telemetry={"auditLog": True},
    )


def events(reply: Reply) -> list[Any]:
    """Data of the events of an answer that ended properly."""
    frames = reply.body.decode().removesuffix("\n\n").split("\n\n")
    data = [line.removeprefix("data: ") for frame in frames for line in frame.split("\n") if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


class TestDeny:
    @pytest.mark.parametrize("size", [1, 3, 7, 40, 500])
    def test_a_stream_ends_with_a_refusal(self, world: Guarded, size: int) -> None:
        text, reason = world.stream(ENDED, f"{BEFORE}{PLAN} begins at dawn. More of it.", sim=f"echo:{size}")
        assert text.startswith(BEFORE)
        assert REFUSAL in text
        assert reason == "content_filter"
        assert "bluebird" not in text
        assert "dawn" not in text
        assert "More" not in text

    def test_the_last_events_of_a_stream(self, world: Guarded) -> None:
        body = {"model": MODEL, "messages": [user(f"{BEFORE}{PLAN}. More.")], "stream": True}
        found = events(world.post(ENDED, body))
        assert found[-1] == "[DONE]"
        assert found[-2]["object"] == "chat.completion.chunk"
        assert [choice["finish_reason"] for choice in found[-2]["choices"]] == ["content_filter"]
        assert found[-2]["id"] == found[0]["id"]
        assert not any(choice["finish_reason"] for each in found[:-2] for choice in each["choices"])

    def test_a_whole_answer_keeps_its_shape(self, world: Guarded) -> None:
        with world.client(ENDED) as client:
            answer = client.chat.completions.create(model=MODEL, messages=[user(f"{BEFORE}{PLAN}")])
        [choice] = answer.choices
        assert choice.finish_reason == "content_filter"
        assert REFUSAL in (choice.message.content or "")
        assert answer.usage is not None
        assert "bluebird" not in answer.model_dump_json()

    @pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
    @pytest.mark.parametrize("stream", [False, True])
    def test_compressed_answers(self, world: Guarded, encoding: str, stream: bool) -> None:
        body = {"model": MODEL, "messages": [user(f"{BEFORE}{PLAN}")], "stream": stream}
        reply = world.post(ENDED, body, **{"x-sim": f"echo:5,{encoding}"})
        assert reply.status == 200
        assert "content-encoding" not in reply.headers
        assert b"content_filter" in reply.body
        assert b"bluebird" not in reply.body

    def test_all_choices_end(self, world: Guarded) -> None:
        body = {"model": MODEL, "messages": [user(f"{BEFORE}{PLAN} {BEFORE}")], "stream": True, "n": 3}
        found = events(world.post(ENDED, body))
        finished = [choice["index"] for each in found[:-1] for choice in each["choices"] if choice["finish_reason"]]
        assert sorted(finished) == [0, 1, 2]
        assert found[-1] == "[DONE]"
        assert "bluebird" not in json.dumps(found)

    @pytest.mark.parametrize("stream", [False, True])
    def test_legacy_completions(self, world: Guarded, stream: bool) -> None:
        with world.client(ENDED) as client:
            found: Any = client.completions.create(model=MODEL, prompt=f"{BEFORE}{PLAN}", stream=stream)
            answers = list(found) if stream else [found]
        assert answers[-1].choices[0].finish_reason == "content_filter"
        assert "bluebird" not in "".join(choice.text for answer in answers for choice in answer.choices)

    def test_responses(self, world: Guarded) -> None:
        with world.client(ENDED) as client:
            answer = client.responses.create(model=MODEL, input=f"{BEFORE}{PLAN}")
            assert answer.status == "incomplete"
            assert answer.incomplete_details is not None
            assert answer.incomplete_details.reason == "content_filter"
            assert "bluebird" not in answer.model_dump_json()
            seen = list(client.responses.create(model=MODEL, input=f"{BEFORE}{PLAN}", stream=True))
        assert seen[-1].type == "response.incomplete"
        assert "bluebird" not in "".join(event.model_dump_json() for event in seen)

    def test_the_audit_line_and_the_metric(self, world: Guarded) -> None:
        world.settled()
        before = world.findings("ended", category="DENY_PATTERN", action="deny", direction="response")
        world.stream(ENDED, f"{BEFORE}{PLAN}")
        world.settled()
        assert world.findings("ended", category="DENY_PATTERN", action="deny", direction="response") == before + 1
        lines = [line.partition("sluice.audit: ")[2] for line in world.gateway.filter.output().splitlines()]
        line = [json.loads(each) for each in lines if each][-1]
        assert line["denied_by"] == "ended/DENY_PATTERN"
        assert line["findings"] == {"response/DENY_PATTERN/deny": 1}


class TestMask:
    TEXT = f"Write to {EMAIL} with {SECRET} and be glad."

    def test_a_whole_answer(self, world: Guarded) -> None:
        assert world.chat(HIDDEN, self.TEXT) == "Write to [EMAIL] with [SECRET] and be glad."

    @pytest.mark.parametrize("size", [*range(1, 25), 48, 1000])
    def test_every_cut_of_a_stream(self, world: Guarded, size: int) -> None:
        found = world.stream(HIDDEN, self.TEXT, sim=f"echo:{size}")
        assert found == ("Write to [EMAIL] with [SECRET] and be glad.", "stop")

    @pytest.mark.parametrize("stream", [False, True])
    def test_every_choice(self, world: Guarded, stream: bool) -> None:
        body = {"model": MODEL, "messages": [user(self.TEXT)], "stream": stream, "n": 4}
        reply = world.post(HIDDEN, body)
        assert reply.status == 200
        assert EMAIL.encode() not in reply.body
        assert SECRET[:12].encode() not in reply.body
        if not stream:
            assert {each["message"]["content"] for each in reply.json["choices"]} == {
                "Write to [EMAIL] with [SECRET] and be glad."
            }

    def test_tool_arguments(self, world: Guarded) -> None:
        tool = {"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}
        body = {"model": MODEL, "messages": [user(f'tool "x" \\ {EMAIL}\n')], "tools": [tool], "stream": True}
        found = events(world.post(HIDDEN, body, **{"x-sim": "echo:1"}))
        calls = [
            call for each in found[:-1] for choice in each["choices"] for call in choice["delta"].get("tool_calls", ())
        ]
        arguments = "".join(call["function"]["arguments"] for call in calls)
        assert json.loads(arguments) == {"text": 'tool "x" \\ [EMAIL]\n'}

    def test_what_the_user_wrote_comes_back_and_what_the_model_adds_does_not(self, world: Guarded) -> None:
        assert world.chat(BOTH, f"Mail {EMAIL}") == f"Mail {EMAIL}"
        assert world.stream(BOTH, f"Mail {EMAIL}", sim="echo:2") == (f"Mail {EMAIL}", "stop")

    def test_reasoning(self, world: Guarded, upstream: Dripping) -> None:
        chunks = [{"reasoning_content": "ask ann.lee@ex"}, {"reasoning_content": "ample.org first"}, {"content": "ok"}]
        upstream.answer = [sse(delta) for delta in chunks] + [sse({}, "stop"), b"data: [DONE]\n\n"]
        reply = post_stream(world)
        deltas = [choice["delta"] for each in events(reply)[:-1] for choice in each["choices"]]
        assert "".join(each.get("reasoning_content", "") for each in deltas) == "ask [EMAIL] first"


def test_a_dry_run_changes_nothing(world: Guarded) -> None:
    world.settled()
    before = world.findings("dry", category="DENY_PATTERN", direction="response")
    text = f"{BEFORE}{PLAN} {EMAIL}"
    assert world.stream(DRY, text) == (text, "stop")
    assert world.chat(DRY, text) == text
    world.settled()
    assert world.findings("dry", category="DENY_PATTERN", direction="response") == before + 2


def sse(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def post_stream(world: Guarded) -> Reply:
    body = json.dumps({"model": MODEL, "messages": [user("hi")], "stream": True}).encode()
    data = request(body, host=DRIPS, **{"content-type": "application/json"})
    with RawConnection(world.gateway.port) as connection:
        return connection.send(data).reply()


@pytest.mark.parametrize("seed", range(RANDOM_STREAMS))
def test_random_cuts_on_the_wire(world: Guarded, upstream: Dripping, seed: int) -> None:
    """Texts cut into events anywhere, events cut into writes anywhere, line ends of both kinds."""
    random = Random(seed)
    values = random.choices([EMAIL, SECRET, "13800138000"], k=3)
    words = ["好的", "so", "1", "the 9.9", "\n", "😀", "a@b"]
    text = "".join(f"{random.choice(words)} {value} {random.choice(words)}，" for value in values)
    cuts = sorted(random.sample(range(1, len(text)), random.randint(0, len(text) - 1)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    frames = b"".join(sse({"content": piece}) for piece in pieces) + sse({}, "stop") + b"data: [DONE]\n\n"
    if seed % 3 == 0:
        frames = frames.replace(b"\n", b"\r\n")
    splits = sorted(random.sample(range(1, len(frames)), random.randint(0, 60)))
    upstream.answer = [frames[a:b] for a, b in zip([0, *splits], [*splits, len(frames)], strict=True)]
    reply = post_stream(world)
    body = reply.body.replace(b"\r\n", b"\n")
    chunks = events(Reply(reply.status, reply.headers, body))
    assert chunks[-1] == "[DONE]"
    said = "".join(c["delta"].get("content", "") for each in chunks[:-1] for c in each["choices"])
    expected = text
    for value, name in ((EMAIL, "[EMAIL]"), (SECRET, "[SECRET]"), ("13800138000", "[PHONE]")):
        expected = expected.replace(value, name)
    assert said == expected


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"content-type: text/plain", f"mail {EMAIL}".encode()),
        (b"content-type: application/octet-stream", f"mail {EMAIL}".encode()),
        (b"content-type: text/event-stream\r\ncontent-encoding: gzip", f"mail {EMAIL}".encode()),
        (b"content-type: application/json\r\ncontent-encoding: compress", f'"mail {EMAIL}"'.encode()),
        (b"content-type: application/json", f'{{"a":"mail {EMAIL}","a":1}}'.encode()),
        (b"content-type: application/json", f"mail {EMAIL}".encode()),
        (b"content-type: text/event-stream", f"data: mail {EMAIL}\n\n".encode()),
        (b"x-no-type: 1", f"mail {EMAIL}".encode()),
        (b"x-sluice-reason: forged\r\ncontent-type: application/json", f'{{"a":"mail {EMAIL}"}}'.encode()),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_what_cannot_be_looked_into_never_passes(
    world: Guarded, upstream: Dripping, head: bytes, body: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "head", head)
    monkeypatch.setattr(upstream, "status", status)
    upstream.answer = [body[:10], body[10:]]
    data = json.dumps({"model": MODEL, "messages": [user("hi")]}).encode()
    with RawConnection(world.gateway.port) as connection:
        seen = connection.send(request(data, host=DRIPS, connection="close")).rest()
    assert EMAIL[:7].encode() not in seen
    if status != 200:
        assert seen.startswith(b"HTTP/1.1 %d " % status) or b"unreadable_answer" in seen, seen


def test_the_text_of_an_error_is_masked(world: Guarded, upstream: Dripping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "head", b"content-type: application/json")
    monkeypatch.setattr(upstream, "status", 429)
    upstream.answer = [json.dumps({"error": {"message": f"too many for {EMAIL}", "code": "x"}}).encode()]
    reply = post_stream(world)
    assert reply.status == 429
    assert reply.json == {"error": {"message": "too many for [EMAIL]", "code": "x"}}


FULL_STOP = sse({}, "stop") + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "frames",
    [
        [f": mail {EMAIL}\n\n".encode(), sse({"content": "ok"})],
        [f'data: {{"error": {{"message": "no mail to {EMAIL}"}}}}\n\n'.encode()],
        [sse({"refusal": EMAIL[:9]}), sse({"refusal": EMAIL[9:]})],
        [sse({"content": [{"type": "text", "text": EMAIL}]})],
        [
            sse({"function_call": {"name": "f", "arguments": EMAIL[:5]}}),
            sse({"function_call": {"arguments": EMAIL[5:]}}),
        ],
        [sse({"audio": {"transcript": EMAIL[:5]}}), sse({"audio": {"transcript": EMAIL[5:]}})],
        [sse({"invented": {"deep": [EMAIL]}})],
        [
            sse({"content": EMAIL[:5], "reasoning_content": EMAIL[:7]}),
            sse({"reasoning_content": EMAIL[7:], "content": ""}),
        ],
        [sse({"content": EMAIL[:5]}), FULL_STOP, sse({"content": EMAIL[5:]})],
        [sse({"content": "a"}).replace(b'"model": "m"', f'"model": "m", "note": "{EMAIL}"'.encode())],
        [b"data: " + json.dumps({"choices": [], "usage": {"note": EMAIL}}).encode() + b"\n\n"],
        [sse({"content": EMAIL})[:-40]],
        [f"data: {EMAIL}\n\n".encode()],
        [b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"' + EMAIL.encode() + b'"}}]}\n\n'],
        [sse({"content": "ok"}), FULL_STOP, f"data: {EMAIL}\n\n".encode()],
        [b"data:" + sse({"content": "\\u0061nn.lee@example.org"}).removeprefix(b"data: ").replace(b"\\\\u", b"\\u")],
    ],
    ids=range(16),
)
def test_a_value_passes_nowhere_in_a_stream(world: Guarded, upstream: Dripping, frames: list[bytes]) -> None:
    """Wherever a model's words may stand. Ids, roles, types and codes are the API's own and pass."""
    upstream.answer = [*frames, FULL_STOP]
    data = json.dumps({"model": MODEL, "messages": [user("hi")], "stream": True}).encode()
    with RawConnection(world.gateway.port) as connection:
        seen = connection.send(request(data, host=DRIPS, connection="close")).rest()
    said = seen.replace(b"\r\n", b"").decode(errors="replace")
    assert EMAIL not in said, said
    assert EMAIL[4:] not in said, said
    texts = [json.loads(line[6:]) for line in said.split("\n") if line.startswith("data: {")]
    assert EMAIL not in json.dumps(texts)
