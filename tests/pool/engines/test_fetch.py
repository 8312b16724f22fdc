"""The fetcher against servers that write what they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from extproc.pool.engines.fetch import Fetcher, Unanswered
from extproc.pool.engines.http import BadResponse

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage"


class Server:
    """Answers each request by `answer`, which gets the writer and the number of the request on its connection."""

    def __init__(self) -> None:
        self.answer: Callable[[asyncio.StreamWriter, int], None] = lambda writer, _: writer.write(PAGE)
        self.heads: list[bytes] = []
        self.connections = 0
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = 0
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                self.answer(writer, number)
                number += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(host: str = "127.0.0.1") -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, host, 0)
    port = listening.sockets[0].getsockname()[1]
    server.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        yield server
    finally:
        listening.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as one:
        yield one


@asynccontextmanager
async def fetching(server: Server) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(server.address, 1000)
    try:
        yield fetcher
    finally:
        fetcher.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_pages_come_over_one_connection(host: str) -> None:
    async with running(host) as server, fetching(server) as fetcher:
        for path in ("/a", "/a", "/b?c=%2F"):
            assert (await fetcher.get(path, 5.0)).body == b"page"
        assert server.connections == 1
        lines = [head.split(b"\r\n") for head in server.heads]
        assert [line[0] for line in lines] == [b"GET /a HTTP/1.1", b"GET /a HTTP/1.1", b"GET /b?c=%2F HTTP/1.1"]
        assert f"Host: {server.address}".encode() in lines[0]


async def test_a_kept_connection_that_the_server_has_closed_is_opened_again(server: Server) -> None:
    def once(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 0:
            writer.write(PAGE)
        else:
            writer.close()

    server.answer = once
    async with fetching(server) as fetcher:
        for _ in range(3):
            assert (await fetcher.get("/", 5.0)).body == b"page"
    assert server.connections == 3


async def test_a_fresh_connection_without_an_answer_is_trouble(server: Server) -> None:
    server.answer = lambda writer, _: writer.close()
    async with fetching(server) as fetcher:
        with pytest.raises(Unanswered, match="closed without an answer"):
            await fetcher.get("/", 5.0)
    assert server.connections == 1


async def test_silence_ends_with_the_timeout_and_late_answers_meet_nobody(server: Server) -> None:
    async with fetching(server) as fetcher:
        await fetcher.get("/", 5.0)
        server.answer = lambda writer, _: writer.write(PAGE[:20])
        with pytest.raises(TimeoutError):
            await fetcher.get("/", 0.02)
        server.answer = lambda writer, _: writer.write(PAGE)
        assert (await fetcher.get("/", 5.0)).body == b"page"
    assert server.connections == 2


async def test_more_than_was_asked_for_costs_the_connection(server: Server) -> None:
    server.answer = lambda writer, _: writer.write(PAGE + PAGE)
    async with fetching(server) as fetcher:
        for _ in range(2):
            assert (await fetcher.get("/", 5.0)).body == b"page"
    assert server.connections == 2


async def test_a_page_beyond_the_limit_is_cut_off(server: Server) -> None:
    server.answer = lambda writer, _: writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000)
    async with fetching(server) as fetcher:
        assert (await fetcher.get("/", 5.0)).body is None


async def test_garbage_is_an_error_and_the_next_try_starts_anew(server: Server) -> None:
    server.answer = lambda writer, _: writer.write(b"220 mail.example ESMTP\r\n\r\n")
    async with fetching(server) as fetcher:
        with pytest.raises(BadResponse):
            await fetcher.get("/", 5.0)
        server.answer = lambda writer, _: writer.write(PAGE)
        assert (await fetcher.get("/", 5.0)).body == b"page"


async def test_a_cancelled_fetch_leaves_a_usable_fetcher(server: Server) -> None:
    asked = asyncio.Event()
    server.answer = lambda _writer, _number: asked.set()
    async with fetching(server) as fetcher:
        fetch = asyncio.create_task(fetcher.get("/", 5.0))
        await asked.wait()
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        server.answer = lambda writer, _: writer.write(PAGE)
        assert (await fetcher.get("/", 5.0)).body == b"page"


async def test_nobody_there() -> None:
    async with running() as server:
        address = server.address
    with pytest.raises(ConnectionRefusedError):
        await Fetcher(address, 1000).get("/", 5.0)
