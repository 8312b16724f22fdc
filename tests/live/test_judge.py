"""The judge over HTTP, a real server on this machine as the far side."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from detectors.judge import Opinion
from extproc.live.judge import LONGEST_ANSWER, JudgeClient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Far:
    """A chat completion server whose answers a test sets."""

    def __init__(self) -> None:
        self.seen: list[tuple[str | None, str]] = []
        self.answer: Handler = self.saying('{"result": "deny", "reason": "internal"}')
        self.url = ""

    def saying(self, content: str, status: int = 200) -> Handler:
        async def handler(_: web.Request) -> web.Response:
            return web.json_response({"choices": [{"message": {"content": content}}]}, status=status)

        return handler

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.seen.append((request.headers.get("authorization"), body["messages"][1]["content"].splitlines()[1]))
        return await self.answer(request)


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    found = Far()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", found.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    found.url = f"http://127.0.0.1:{port}/v1/chat/completions"
    yield found
    await runner.cleanup()


def client(far: Far, **options: object) -> JudgeClient:
    return JudgeClient(far.url, "m", key=lambda: "k1", **options)  # type: ignore[arg-type]


async def test_an_opinion_is_asked_for_once(far: Far) -> None:
    judge = client(far)
    assert await judge.ask("plan") == Opinion(True, "internal")
    assert await judge.ask("plan") == Opinion(True, "internal")
    assert far.seen == [("Bearer k1", "plan")]
    await judge.close()


async def test_one_question_at_a_time_about_one_text(far: Far) -> None:
    judge = client(far)
    found = await asyncio.gather(*(judge.ask("plan") for _ in range(20)))
    assert set(found) == {Opinion(True, "internal")}
    assert len(far.seen) == 1
    await judge.close()


async def test_no_more_questions_than_allowed_at_one_time(far: Far) -> None:
    at_once, most = 0, 0
    gate = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if len(far.seen) >= 2:
            gate.set()
        await gate.wait()
        at_once -= 1
        return await far.saying('{"result": "allow"}')(request)

    far.answer = slow
    judge = client(far, max_concurrent=2, timeout=30)
    await asyncio.gather(*(judge.ask(str(i)) for i in range(6)))
    assert most == 2
    await judge.close()


@pytest.mark.parametrize("kind", ["status", "nonsense", "redirect", "long", "broken"])
async def test_what_is_no_opinion_is_none_and_is_asked_again(far: Far, kind: str) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def redirect(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/v1/elsewhere")

    async def long(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b" " * (LONGEST_ANSWER + 1))

    good = far.answer
    far.answer = {
        "status": far.saying('{"result": "allow"}', 500),
        "nonsense": far.saying("I would rather not say"),
        "redirect": redirect,
        "long": long,
        "broken": broken,
    }[kind]
    judge = client(far)
    assert await judge.ask("plan") is None
    assert judge.failing
    far.answer = good
    assert await judge.ask("plan") == Opinion(True, "internal")
    assert repr(judge).endswith("1 opinions>")
    await judge.close()


async def test_a_judge_that_hangs_or_is_away_costs_the_timeout_only(far: Far) -> None:
    gate = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    far.answer = hang
    judge = client(far, timeout=0.05)
    assert await judge.ask("plan") is None
    gate.set()
    await judge.close()
    away = JudgeClient("http://127.0.0.1:1/", "m", key=lambda: None, timeout=5)
    assert await away.ask("plan") is None
    await away.close()


async def test_opinions_are_bounded(far: Far) -> None:
    judge = client(far, entries=1)
    for text in ("a", "b", "a"):
        await judge.ask(text)
    assert len(far.seen) == 3
    await judge.close()


async def test_whoever_gives_up_does_not_take_the_question_from_others(far: Far) -> None:
    gate = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return await far.saying('{"result": "allow"}')(request)

    far.answer = slow
    judge = client(far, timeout=30)
    first, second = asyncio.ensure_future(judge.ask("x")), asyncio.ensure_future(judge.ask("x"))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == Opinion(False)
    await judge.close()
