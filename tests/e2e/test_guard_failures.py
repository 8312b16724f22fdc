"""What a guarded route does without its filter, and policies that change while requests run."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import openai
import pytest

from tests.e2e.guarded import ANSWERS, EMAIL, MODEL, SECRET, UPSTREAM, Guarded, guarded, policy, to_provider, user
from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, pool, route, write_manifests
from tests.support.held import Held
from tests.support.processes import http_status, wait_until
from tests.support.raw import NoReplyError

WATCHED, MASKED, FREE, OPEN_POOL, GUARDED_POOL = "watched.test", "masked.test", "free.test", "open.test", "pool.test"
HALVES = SECRET[:20], SECRET[20:]


@dataclass
class Stage:
    gateways: Gateways
    gateway: Gateway
    upstream: Held


@pytest.fixture(scope="module")
def running(far_side: FarSide, gateways: Gateways) -> Iterator[Stage]:
    """Envoy and the filter as two processes, in front of an upstream that waits for the test's word."""
    to_pool = {"backendRefs": [{"pool": "gpus"}]}
    with Held(far_side) as upstream:
        gateway = gateways.start(
            *to_provider([WATCHED, MASKED, FREE]),
            pool("gpus", [upstream.address], failureMode="open"),
            route("open", OPEN_POOL, to_pool),
            route("pool", GUARDED_POOL, to_pool),
            policy("watched", WATCHED, inspect=ANSWERS, actions={"SECRET": "mask"}),
            policy("masked", MASKED),
            policy("pool", GUARDED_POOL),
            hostAliases={UPSTREAM: upstream.address},
            split=True,
        )
        yield Stage(gateways, gateway, upstream)


@pytest.fixture
def stage(running: Stage) -> Iterator[Stage]:
    yield running
    if running.gateway.filter.alive():
        running.gateway.filter.signal(signal.SIGCONT)
    else:
        running.gateways.start_filter(running.gateway)
    wait_until(lambda: http_status(f"{running.gateway.admin}/readyz") == 200, "the filter")


def broken_after(client: Chat) -> str:
    """What a client still gets before its stream breaks off; fails if it ends properly."""
    texts: list[str] = []
    with pytest.raises(NoReplyError):
        while True:
            text = client.text()
            assert text is not None, f"the stream ended as if it were complete: {texts}"
            texts.append(text)
    return "".join(texts)


class TestTheFilterDies:
    def test_in_the_middle_of_a_guarded_stream(self, stage: Stage) -> None:
        with Chat(stage.gateway.port, WATCHED, stream=True) as client:
            call = stage.upstream.next()
            call.event("Fine weather today. ")
            assert client.head()[0] == 200
            seen = client.text() or ""
            call.event(f"The key is {HALVES[0]}")
            stage.gateway.filter.kill()
            with contextlib.suppress(ConnectionError):  # Envoy may have left already
                call.event(f"{HALVES[1]} and more")
            seen += broken_after(client)
            assert call.gone.wait(20)
        assert seen.startswith("Fine weather")
        for half in HALVES:
            assert half not in seen
        assert "more" not in seen

    def test_before_the_answer_to_a_guarded_request(self, stage: Stage) -> None:
        with Chat(stage.gateway.port, WATCHED) as client:
            call = stage.upstream.next()
            stage.gateway.filter.kill()
            with contextlib.suppress(asyncio.InvalidStateError):
                call.answer(note=f"mail {EMAIL}")
            reply = client.reply()
        assert reply.status >= 500, reply
        assert EMAIL.encode() not in reply.body

    def test_an_unguarded_stream_goes_on(self, stage: Stage) -> None:
        with Chat(stage.gateway.port, FREE, stream=True) as client:
            call = stage.upstream.next()
            call.event("first ")
            assert client.head()[0] == 200
            assert client.text() == "first "
            stage.gateway.filter.kill()
            call.event("second")
            call.end()
            assert client.remaining() == "second"

    def test_no_guarded_request_passes_without_it_while_an_unguarded_pool_goes_on(self, stage: Stage) -> None:
        stage.gateway.filter.kill()
        arrived = stage.upstream.arrived
        for host in (WATCHED, MASKED, GUARDED_POOL):
            reply = chat(stage.gateway.port, host, messages=[user(EMAIL)])
            assert reply.status == 503, reply
        assert stage.upstream.arrived == arrived
        with Chat(stage.gateway.port, OPEN_POOL) as client:
            stage.upstream.next().answer()
            assert client.reply().status == 200

    def test_a_filter_that_hangs_lets_nothing_of_a_guarded_answer_through(self, stage: Stage) -> None:
        with Chat(stage.gateway.port, WATCHED, stream=True) as client:
            call = stage.upstream.next()
            call.event("hello there, ")
            assert client.head()[0] == 200
            seen = client.text() or ""
            stage.gateway.filter.signal(signal.SIGSTOP)
            call.event(f"the key is {SECRET} and more")
            seen += broken_after(client)
        assert SECRET[:10] not in seen
        assert "more" not in seen


LEFT, RIGHT = "left.test", "right.test"
CLIENTS, RELOADS = 12, 6


@pytest.fixture(scope="module")
def pair(far_side: FarSide, gateways: Gateways) -> Guarded:
    return guarded(
        far_side,
        gateways,
        (LEFT, RIGHT),
        policy("left", LEFT, denyPatterns=["apples"]),
        policy("right", RIGHT, denyPatterns=["pears"], message="text"),
    )


def test_two_policies_on_two_hosts(pair: Guarded) -> None:
    for host, denied, allowed in ((LEFT, "apples", "pears"), (RIGHT, "pears", "apples")):
        assert pair.chat(host, f"some {allowed}") == f"some {allowed}"
        with pytest.raises(openai.PermissionDeniedError) as refused:
            pair.chat(host, f"some {denied}")
        plain = refused.value.response.text == "request was denied by asm llm proxy"
        assert plain == (host == RIGHT)


class Load:
    """Clients that stream masked answers from one host while it is reloaded, and what went wrong for them."""

    def __init__(self, world: Guarded, host: str) -> None:
        self._url = f"{world.gateway.url}/v1"
        self._host = host
        self._stop = False
        self.complete = 0
        self.wrong: Counter[str] = Counter()

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._work(i)) for i in range(CLIENTS)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    def got_on(self, before: int) -> bool:
        return self.complete > before or bool(self.wrong)

    async def _work(self, number: int) -> None:
        headers = {"host": self._host, "x-sim": "echo:3"}
        async with openai.AsyncOpenAI(
            base_url=self._url, api_key="x", max_retries=0, default_headers=headers
        ) as client:
            while not self._stop:
                text = f"I am person{number}.{self.complete}@example.org, hello"
                messages: Any = [user(text)]
                try:
                    chunks = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
                    said = [choice.delta.content or "" async for chunk in chunks for choice in chunk.choices]
                except openai.OpenAIError as error:
                    self.wrong[repr(error)] += 1
                    continue
                if "".join(said) == text:
                    self.complete += 1
                else:
                    self.wrong["".join(said)] += 1


async def test_policies_change_under_load(pair: Guarded) -> None:
    words = [f"word{number}" for number in range(RELOADS)]

    def manifests(word: str) -> list[Manifest]:
        return [*to_provider((LEFT, RIGHT)), policy("left", LEFT, denyPatterns=[word]), policy("right", RIGHT)]

    async with Load(pair, LEFT) as load:
        for word in words:
            before = load.complete
            await asyncio.to_thread(pair.gateway.configure, *manifests(word))
            with pytest.raises(openai.PermissionDeniedError):
                await asyncio.to_thread(pair.chat, LEFT, f"say {word}")
            if word != words[0]:
                assert await asyncio.to_thread(pair.chat, LEFT, f"say {words[0]}") == f"say {words[0]}"
            await asyncio.to_thread(wait_until, partial(load.got_on, before), "progress")
    assert not load.wrong
    assert load.complete > RELOADS


def test_a_policy_that_is_refused_leaves_the_last_one_in_force(pair: Guarded) -> None:
    pair.gateway.configure(*to_provider((LEFT, RIGHT)), policy("left", LEFT, denyPatterns=["plums"]))
    bad = policy("left", LEFT, denyPatterns=["pl(ums"])
    write_manifests(pair.gateway.directory, *to_provider((LEFT, RIGHT)), bad, pair.gateway.gateway_manifest())
    wait_until(lambda: "pl(ums" in pair.gateway.filter.output(), "the refusal", 20)
    with pytest.raises(openai.PermissionDeniedError):
        pair.chat(LEFT, "plums")
