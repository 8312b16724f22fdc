"""Masking through a real Envoy: values stay here and come back, in every shape of an answer, and from odd input."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from bench.quirks import WRITINGS
from tests.e2e.guarded import CARD, EMAIL, MODEL, PHONE, Guarded, guarded, policy, user
from tests.support.far_side import FarSide
from tests.support.gateway import Gateways
from tests.support.raw import Reply

PII, TALK, SMALL, KEPT = "pii.test", "talk.test", "small.test", "kept.test"
HASTY, EASY = "hasty.test", "easy.test"
TOOL: Any = {
    "type": "function",
    "function": {"name": "send", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def world(far_side: FarSide, gateways: Gateways) -> Guarded:
    return guarded(
        far_side,
        gateways,
        (PII, TALK, SMALL, KEPT, HASTY, EASY),
        policy("pii", PII, denyPatterns=["(?i)operation +bluebird"]),
        policy("talk", TALK, masking={"conversationHeader": "X-Conversation", "conversationTtl": "1h"}),
        policy("small", SMALL, budget={"characters": 1000}),
        policy("hasty", HASTY, budget={"time": "1ms"}),
        policy("easy", EASY, budget={"time": "1ms", "exceeded": "report"}),
        policy("kept", KEPT, masking={"restore": False}),
        limits={"requestBody": 4 * 2**20},
    )


class TestMasks:
    def test_values_stay_here_and_come_back(self, world: Guarded) -> None:
        text = f"Mail {EMAIL}, 电话{PHONE}，银行卡{CARD}。再发一次给{EMAIL}"
        assert world.chat(PII, text) == text
        assert world.texts() == ["Mail <EMAIL_1>, 电话<PHONE_1>，银行卡<BANK_CARD_1>。再发一次给<EMAIL_1>"]

    @pytest.mark.parametrize("way", range(1, len(WRITINGS)))
    def test_placeholders_come_back_as_models_write_them(self, world: Guarded, way: int) -> None:
        text = f"请致电 {PHONE} 或写信给 {EMAIL} ok"
        assert world.chat(PII, text, sim=f"echo:3,rewrite:{way}") == text
        assert world.texts() == ["请致电 <PHONE_1> 或写信给 <EMAIL_1> ok"]
        for size in (1, 4):
            assert world.stream(PII, text, sim=f"echo:{size},rewrite:{way}") == (text, "stop")

    def test_a_value_found_once_is_masked_wherever_it_stands(self, world: Guarded) -> None:
        text = "刚才的身份：7654321，编号7654321A"
        assert world.chat(PII, "电话 7654321", {"role": "assistant", "content": "7654321?"}, text) == text
        assert world.texts() == ["电话 <PHONE_1>", "<PHONE_1>?", "刚才的身份：<PHONE_1>，编号7654321A"]

    @pytest.mark.parametrize("size", [1, 2, 5, 1000])
    @pytest.mark.parametrize("quirk", ["", ",split", ",gzip", ",crlf,br"])
    def test_streams(self, world: Guarded, size: int, quirk: str) -> None:
        text = f"Mail {EMAIL} or call {PHONE}."
        assert world.stream(PII, text, sim=f"echo:{size}{quirk}") == (text, "stop")
        assert world.texts() == ["Mail <EMAIL_1> or call <PHONE_1>."]

    def test_a_compressed_answer(self, world: Guarded) -> None:
        reply = world.post(PII, {"model": MODEL, "messages": [user(EMAIL)]}, **{"x-sim": "echo:3,gzip"})
        body = gzip.decompress(reply.body) if "content-encoding" in reply.headers else reply.body
        assert json.loads(body)["choices"][0]["message"]["content"] == EMAIL

    def test_a_history_gets_the_same_placeholders(self, world: Guarded) -> None:
        first = f"I am {EMAIL}"
        world.chat(PII, first)
        answer = {"role": "assistant", "content": f"Hello {EMAIL}, call {PHONE}"}
        text = f"Was it {PHONE} or {EMAIL}?"
        assert world.chat(PII, first, answer, text) == text
        assert world.texts() == ["I am <EMAIL_1>", "Hello <EMAIL_1>, call <PHONE_1>", "Was it <PHONE_1> or <EMAIL_1>?"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_tool_arguments_stay_json(self, world: Guarded, stream: bool) -> None:
        value = '"ann lee"@example.org'
        text = f'use the tool "send" \\ to {EMAIL}\nor {value}'
        fields: Any = {"model": MODEL, "messages": [user(text)], "tools": [TOOL]}
        with world.client(PII, "echo:2") as client:
            if stream:
                chunks = client.chat.completions.create(stream=True, **fields)
                calls = [call for c in chunks for choice in c.choices for call in choice.delta.tool_calls or ()]
                arguments = "".join(call.function.arguments or "" for call in calls if call.function)
            else:
                answer = client.chat.completions.create(**fields)
                arguments = answer.choices[0].message.tool_calls[0].function.arguments
        assert json.loads(arguments) == {"text": text}
        assert EMAIL not in world.texts()[0]

    def test_arguments_of_earlier_calls_stay_json(self, world: Guarded) -> None:
        arguments = json.dumps({"to": EMAIL, "said": 'a "quote" \\ here'})
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        world.chat(PII, "hi", said, {"role": "tool", "tool_call_id": "1", "content": f"sent to {EMAIL}"}, "thanks")
        messages = world.arrived()["messages"]
        seen = json.loads(messages[1]["tool_calls"][0]["function"]["arguments"])
        assert seen == {"to": "<EMAIL_1>", "said": 'a "quote" \\ here'}
        assert messages[2]["content"] == "sent to <EMAIL_1>"

    def test_every_choice(self, world: Guarded) -> None:
        texts = ["", "", ""]
        with world.client(PII, "echo:4") as client:
            answer = client.chat.completions.create(model=MODEL, messages=[user(EMAIL)], n=3)
            assert [choice.message.content for choice in answer.choices] == [EMAIL] * 3
            for chunk in client.chat.completions.create(
                model=MODEL,
                messages=[user(EMAIL)],
                n=3,
                stream=True,
            ):
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or ""
        assert texts == [EMAIL] * 3

    @pytest.mark.parametrize("stream", [False, True])
    def test_legacy_completions(self, world: Guarded, stream: bool) -> None:
        with world.client(PII, "echo:2") as client:
            found: Any = client.completions.create(model=MODEL, prompt=f"To {EMAIL}", stream=stream)
            answers = list(found) if stream else [found]
        assert "".join(choice.text for answer in answers for choice in answer.choices) == f"To {EMAIL}"
        assert world.arrived()["prompt"] == "To <EMAIL_1>"

    def test_responses(self, world: Guarded) -> None:
        text = f"To {EMAIL}, {PHONE}"
        with world.client(PII, "echo:2") as client:
            answer = client.responses.create(model=MODEL, input=text)
            assert answer.output_text == text
            with client.responses.stream(model=MODEL, input=text) as events:
                deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
                assert events.get_final_response().output_text == text
        assert deltas == text
        assert world.arrived()["input"] == "To <EMAIL_1>, <PHONE_1>"

    def test_placeholders_may_stay(self, world: Guarded) -> None:
        assert world.chat(KEPT, f"To {EMAIL}") == "To <EMAIL_1>"

    def test_a_conversation_keeps_its_placeholders(self, world: Guarded) -> None:
        def say(text: str, conversation: str) -> str:
            with world.client(TALK, "echo:3", x_conversation=conversation) as client:
                answer = client.chat.completions.create(model=MODEL, messages=[user(text)])
            return str(answer.choices[0].message.content)

        assert say(f"I am {EMAIL}", "one") == f"I am {EMAIL}"
        assert say("Mail to bob@example.org, not to <EMAIL_1>", "one") is not None
        assert world.texts()[0].startswith("Mail to <EMAIL_2>")
        assert say("Mail to bob@example.org", "two") == "Mail to bob@example.org"
        assert world.texts() == ["Mail to <EMAIL_1>"]

    def test_nothing_is_kept_between_exchanges_otherwise(self, world: Guarded) -> None:
        world.chat(PII, f"I am {EMAIL}")
        assert world.chat(PII, "Who is <EMAIL_1>?") == "Who is <EMAIL_1>?"

    def test_other_bytes_stay(self, world: Guarded) -> None:
        body = b'{ "model":"m",  "messages":[ {"content":"ann.lee@example.org","role":"user","n":1e2} ], "seed": 1.50}'
        assert world.post(PII, body).status == 200
        raw = world.provider.recorder.snapshot()["last"]["body"]
        assert raw == body.decode().replace(EMAIL, "<EMAIL_1>")


class TestOddInput:
    """Bounded and defined: each of these gets an answer, and nothing of a value passes."""

    def send(self, world: Guarded, text: str, host: str = PII) -> Reply:
        return world.post(host, {"model": MODEL, "messages": [user(text)]})

    @pytest.mark.parametrize("character", ["a", "1", "@", "好", " ", "\u202e", "=", "-"])
    def test_a_megabyte_of_one_character(self, world: Guarded, character: str) -> None:
        body = json.dumps({"model": MODEL, "messages": [user(character * 2**20)]}, ensure_ascii=False).encode()
        reply = world.post(PII, body)
        assert reply.status == 403
        assert reply.error["code"] == "unchecked"

    @pytest.mark.parametrize("character", ["a", "1", "@", "好", "=", ".", "<"])
    def test_as_much_as_the_budget_takes(self, world: Guarded, character: str) -> None:
        reply = self.send(world, character * 100_000)
        assert reply.status in (200, 403), reply

    def test_over_the_budget(self, world: Guarded) -> None:
        assert self.send(world, "word " * 150, SMALL).status == 200
        reply = self.send(world, "word " * 300, SMALL)
        assert (reply.status, reply.error["code"]) == (403, "unchecked")
        assert world.gateway.metric("sluice_detector_failures_total", policy="small", detector="budget") >= 1

    def test_over_the_time_that_a_request_may_take(self, world: Guarded) -> None:
        text = "card 4111 1111 1111 1111, a@b.example or so. " * 2000
        reply = self.send(world, text, HASTY)
        assert (reply.status, reply.error["code"]) == (403, "unchecked")
        assert self.send(world, text, EASY).status == 200
        for name in ("hasty", "easy"):
            assert world.gateway.metric("sluice_detector_failures_total", policy=name) >= 1

    @pytest.mark.parametrize(
        "value",
        [
            "ann.lee\u200b@example.org",
            "\u202eann.lee@example.org\u202c",
            "ann.lee@example.org\ufeff",
            "ａｎｎ.ｌｅｅ@example.org",
            "１３８００１３８０００",
            "138 0013 8000",
            "电话13800138000号",
        ],
    )
    def test_disguised_values(self, world: Guarded, value: str) -> None:
        reply = self.send(world, f"联系 {value} 好")
        assert reply.status == 200
        assert reply.json["choices"][0]["message"]["content"] == f"联系 {value} 好"
        seen = world.texts()[0]
        assert "_1>" in seen, seen
        assert "example" not in seen

    def test_lone_surrogates(self, world: Guarded) -> None:
        body = b'{"model":"m","messages":[{"role":"user","content":"\\ud800 ann.lee@example.org \\udc00"}]}'
        before = world.count
        reply = world.post(PII, body)
        assert reply.status in (200, 400), reply
        if world.count > before:
            assert EMAIL not in world.provider.recorder.snapshot()["last"]["body"]

    def test_invalid_utf8(self, world: Guarded) -> None:
        before = world.count
        reply = world.post(PII, b'{"model":"m","messages":[{"role":"user","content":"\xff\xfe hi"}]}')
        assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
        assert world.count == before

    @pytest.mark.parametrize("deep", [100, 100_000])
    def test_deep_json(self, world: Guarded, deep: int) -> None:
        nested = b"[" * deep + b'"ann.lee@example.org"' + b"]" * deep
        before = world.count
        reply = world.post(PII, b'{"model":"m","messages":[{"role":"user","content":"hi"}],"x":' + nested + b"}")
        assert reply.status in (200, 400), reply
        if world.count > before:
            assert EMAIL not in world.provider.recorder.snapshot()["last"]["body"]

    def test_a_key_written_twice(self, world: Guarded) -> None:
        before = world.count
        body = b'{"model":"m","messages":[{"role":"user","content":"hi","content":"Operation Bluebird"}]}'
        reply = world.post(PII, body)
        assert reply.status in (400, 403), reply
        assert world.count == before

    def test_many_values(self, world: Guarded) -> None:
        text = " ".join(f"person{i}@example.org" for i in range(2000))
        reply = self.send(world, text)
        assert reply.status == 200
        assert reply.json["choices"][0]["message"]["content"] == text
        assert "@example.org" not in world.texts()[0]


class TestWhatJsonSays:
    """Values in any writing of JSON stay here and come back as valid JSON."""

    NOTE: Any = {
        "note": f"手机{PHONE}",
        "mobile": int(PHONE),
        "deep": json.dumps({"mail": f"邮箱{EMAIL}"}),
        PHONE: [EMAIL],
    }

    def test_tool_arguments_and_results(self, world: Guarded) -> None:
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps(self.NOTE)}}
        said: Any = {"role": "assistant", "content": None, "tool_calls": [call]}
        result: Any = {"role": "tool", "tool_call_id": "call_1", "content": json.dumps(self.NOTE)}
        assert world.post(PII, {"model": MODEL, "messages": [user("go"), said, result, user("on")]}).status == 200
        messages = world.arrived()["messages"]
        for text in (messages[1]["tool_calls"][0]["function"]["arguments"], messages[2]["content"]):
            note = json.loads(text)
            assert note["note"] == "手机<PHONE_1>" and note["mobile"] == "<PHONE_1>"
            assert json.loads(note["deep"]) == {"mail": "邮箱<EMAIL_1>"} and note["<PHONE_1>"] == ["<EMAIL_1>"]

    @pytest.mark.parametrize(
        "body",
        [
            {"messages": [user([[EMAIL]])]},
            {"messages": [user("go")], "user": EMAIL, "service_tier": EMAIL, "metadata": {EMAIL: [EMAIL]}},
            {"messages": [{"role": EMAIL, "content": "go"}, user("go")], "logit_bias": {PHONE: 1}},
            {
                "messages": [user("go")],
                "tools": [{"function": {"name": "f", "parameters": {"properties": {EMAIL: {}}}}}],
            },
            {"messages": [user("go")], "tool_choice": {"type": "function", "function": {"name": PHONE}}},
        ],
    )
    def test_any_field(self, world: Guarded, body: Any) -> None:
        world.post(PII, {"model": MODEL, **body})
        arrived = json.dumps(world.arrived(), ensure_ascii=False)
        assert EMAIL not in arrived and PHONE not in arrived and "_1>" in arrived

    def test_one_caller_does_not_get_anothers_values(self, world: Guarded) -> None:
        def arrived(key: str, phone: str) -> Any:
            body = {"model": MODEL, "messages": [user(f"call {phone}")]}
            world.post(TALK, body, **{"x-conversation": "same", "authorization": key})
            return world.texts()

        assert arrived("Bearer one", PHONE) == ["call <PHONE_1>"]
        assert arrived("Bearer two", "13900139000") == ["call <PHONE_1>"]
        assert arrived("bearer one", "13900139000") == ["call <PHONE_2>"]
