"""Calls over real sockets, from the gRPC library and from peers that are none."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest

from extproc.wire.http2 import frames
from extproc.wire.http2.call import Call, StatusError
from extproc.wire.http2.driver import Handler
from extproc.wire.http2.frames import Kind
from extproc.wire.http2.limits import Limits
from extproc.wire.http2.server import Server
from tests.wire.http2.peer import GREETING, data, framed

ENDLESS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Echo:
    """A receiver that says what it was told. `b"fault"` and `b"status"` make it raise."""

    def __init__(self, call: Call, log: list[str]) -> None:
        self.call = call
        self.log = log

    def message(self, data: bytes) -> None:
        if data == b"fault":
            raise RuntimeError("broken receiver")
        if data == b"status":
            raise StatusError(9, "not like this")
        self.call.send(data)

    def ended(self) -> None:
        self.call.end()

    def closed(self) -> None:
        self.log.append("closed")


async def echo(call: Call) -> None:
    while (message := await call.read()) is not None:
        if message == b"fault":
            raise RuntimeError("broken handler")
        if message == b"status":
            raise StatusError(9, "not like this")
        await call.write(message)


class Harness:
    """A server with both kinds of handlers, and what it noticed."""

    def __init__(self, address: str, limits: Limits, more: dict[str, Handler]) -> None:
        self.address = address
        self.log: list[str] = []
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        handlers: dict[str, Handler] = {
            "/test/Receiver": lambda call: call.serve(Echo(call, self.log)),
            "/test/Task": lambda call: call.run(echo(call)),
            "/test/Held": self.calls.put_nowait,
            **more,
        }
        self.server = Server(handlers.get, limits, monotonic)

    def channel(self) -> Any:
        return grpc.aio.insecure_channel(self.address, options=ENDLESS)

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_unix_connection(self.address.removeprefix("unix:"))
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def serving(place: Path, limits: Limits | None = None, **more: Callable[[Call], None]) -> AsyncIterator[Harness]:
    harness = Harness(
        f"unix:{place / 's.sock'}", limits or Limits(), {f"/test/{name}": served for name, served in more.items()}
    )
    await harness.server.start(harness.address)
    try:
        yield harness
    finally:
        await harness.server.stop(0)


async def talk(channel: Any, path: str, *sent: bytes) -> list[bytes]:
    """One call, each message after the answer to the last."""
    call = channel.stream_stream(path)()
    found = []
    for message in sent:
        await call.write(message)
        found.append(await call.read())
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    return found


@pytest.mark.parametrize("path", ["/test/Receiver", "/test/Task"])
async def test_messages_of_all_sizes_by_many_calls_at_once(tmp_path: Path, path: str) -> None:
    sizes = (0, 1, 16_000, 16_384, 70_000, 5_000_000)
    async with serving(tmp_path) as harness, harness.channel() as channel:
        sent = [[bytes([number]) * size for size in sizes[: 1 + number % 6]] for number in range(24)]
        found = await asyncio.gather(*(talk(channel, path, *messages) for messages in sent))
    assert found == sent


@pytest.mark.parametrize("path", ["/test/Receiver", "/test/Task"])
async def test_a_fault_ends_its_own_call_with_a_status(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as harness, harness.channel() as channel:
        other = channel.stream_stream(path)()
        await other.write(b"before")
        assert await other.read() == b"before"
        for message, code, text in (
            (b"fault", grpc.StatusCode.INTERNAL, "internal error"),
            (b"status", grpc.StatusCode.FAILED_PRECONDITION, "not like this"),
        ):
            call = channel.stream_stream(path)()
            await call.write(message)
            assert await call.code() is code
            assert await call.details() == text
        await other.write(b"after")
        assert await other.read() == b"after"
        await other.done_writing()
        assert await other.read() is grpc.aio.EOF
    assert caplog.text.count("fault while serving") == 1
    assert harness.log == ["closed"] * (3 if path == "/test/Receiver" else 0)


async def test_an_unknown_method_is_said_to_be_unknown(tmp_path: Path) -> None:
    async with serving(tmp_path) as harness, harness.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_what_a_peer_sends_ahead_waits_in_the_inbox(tmp_path: Path) -> None:
    async with serving(tmp_path) as harness, harness.channel() as channel:
        call = channel.stream_stream("/test/Held")()
        for index in range(5):
            await call.write(b"%d" % index)
        await call.done_writing()
        held = await harness.calls.get()
        found = []
        while (message := await held.read()) is not None:
            found.append(message)
        assert found == [b"0", b"1", b"2", b"3", b"4"]
        assert await held.read() is None
        held.end()
        assert await call.read() is grpc.aio.EOF


async def test_a_call_given_up_cancels_its_task_and_is_closed_once(tmp_path: Path) -> None:
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(tmp_path, Waits=lambda call: call.run(wait())) as harness, harness.channel() as channel:
        call = channel.stream_stream("/test/Waits")()
        await call.write(b"x")
        echoed = channel.stream_stream("/test/Receiver")()
        await echoed.write(b"x")
        await echoed.read()
        call.cancel()
        echoed.cancel()
        await asyncio.wait_for(cancelled.wait(), 10)
        await talk(channel, "/test/Receiver", b"y")  # comes after the resets
    assert harness.log == ["closed", "closed"]


async def test_a_peer_that_vanishes_ends_its_calls(tmp_path: Path) -> None:
    async with serving(tmp_path) as harness, harness.raw() as (_, writer):
        block = frames.frame(Kind.HEADERS, 4, 1, _block("/test/Held"))
        writer.write(GREETING + block)
        held = await harness.calls.get()
        reading = asyncio.create_task(held.read())
        writer.transport.abort()
        assert await asyncio.wait_for(reading, 10) is None
        held.send(b"nobody listens")
        held.end()
        assert held.over


async def test_a_slow_reader_is_waited_for(tmp_path: Path) -> None:
    """Neither the windows nor the socket take everything: `write` returns when the rest is on its way."""
    async with serving(tmp_path, Limits(unsent=65_536)) as harness, harness.raw() as (reader, writer):
        opened = frames.window_update(0, 2**30) + frames.frame(Kind.SETTINGS, 0, 0, b"\0\4\x7f\0\0\0")
        writer.write(GREETING + opened + frames.frame(Kind.HEADERS, 4, 1, _block("/test/Held")))
        held = await harness.calls.get()
        writing = asyncio.create_task(held.write(bytes(8_000_000)))
        await reader.readexactly(1_000_000)
        assert not writing.done()
        read = 1_000_000
        while read < 8_000_000:
            read += len(await asyncio.wait_for(reader.read(2**20), 10))
        await asyncio.wait_for(writing, 10)
        held.end()


async def test_a_receiver_gets_nothing_while_its_last_answer_waits(tmp_path: Path) -> None:
    async with serving(tmp_path) as harness, harness.raw() as (reader, writer):
        writer.write(GREETING + frames.frame(Kind.HEADERS, 4, 1, _block("/test/Receiver")))
        writer.write(frames.window_update(1, 10_000_000) + frames.window_update(0, 10_000_000))
        await writer.drain()
        for _ in range(4):  # of which the fifth byte beyond 65535 waits for the window of the first settings
            writer.write(data(1, framed(bytes(16_000))))
        await _until(reader, framed(bytes(16_000)), 4)


@pytest.mark.parametrize(
    ("said", "answer"), [(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"505 HTTP Version"), (b"\0" * 40, b"not HTTP/2")]
)
async def test_a_stranger_hears_goodbye_and_is_gone(tmp_path: Path, said: bytes, answer: bytes) -> None:
    async with serving(tmp_path) as harness, harness.raw() as (reader, writer):
        writer.write(said)
        assert answer in await asyncio.wait_for(reader.read(), 10)


async def test_a_tls_client_hears_an_alert(tmp_path: Path) -> None:
    context = ssl.create_default_context()
    async with serving(tmp_path) as harness:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol version|wrong version"):
            await asyncio.open_unix_connection(harness.address.removeprefix("unix:"), ssl=context, server_hostname="a")


async def test_connections_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(connections=1)) as harness, harness.channel() as channel:
        await talk(channel, "/test/Receiver", b"x")
        async with harness.raw() as (reader, _):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(1), 10)


async def test_leaving_under_load_loses_no_call(tmp_path: Path) -> None:
    """Clients go on with new calls while two servers share an address's work and one leaves."""
    async with serving(tmp_path) as harness, harness.channel() as channel:
        done = 0

        async def work() -> None:
            nonlocal done
            for index in range(40):
                message = b"%d" % index
                assert await talk(channel, "/test/Receiver", message, message) == [message, message]
                done += 1

        workers = [asyncio.create_task(work()) for _ in range(10)]
        for _ in range(5):
            await asyncio.sleep(0.02)
            harness.server.shut()
        await asyncio.gather(*workers)
    assert done == 400


async def test_stopping_waits_for_calls_and_no_longer_than_it_may(tmp_path: Path) -> None:
    async with serving(tmp_path) as harness, harness.channel() as channel:
        call = channel.stream_stream("/test/Receiver")()
        await call.write(b"x")
        await call.read()
        stop = asyncio.create_task(harness.server.stop(20))
        await call.write(b"y")
        assert await call.read() == b"y"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        await asyncio.wait_for(stop, 10)
        assert harness.server.connections == 0


async def test_tcp_and_taken_addresses(tmp_path: Path) -> None:
    async with serving(tmp_path) as harness:
        second = Server(lambda _: None, Limits(), monotonic)
        with pytest.raises(OSError, match="another process"):
            await second.start(harness.address)
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="no socket"):
            await second.start(f"unix:{tmp_path / 'file'}")
        with pytest.raises(OSError, match="neither"):
            await second.start("nowhere")
        tcp = Server({"/test/Task": lambda call: call.run(echo(call))}.get, Limits(), monotonic)
        port = await tcp.start("127.0.0.1:0")
        with pytest.raises(OSError, match="in use"):
            await second.start(f"127.0.0.1:{port}")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await talk(channel, "/test/Task", b"x") == [b"x"]
        await tcp.stop(1)


async def test_a_socket_that_a_dead_server_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    loop = asyncio.get_running_loop()
    dead = await loop.create_unix_server(asyncio.Protocol, str(path))
    dead.close()
    assert path.exists()
    async with serving(tmp_path) as harness, harness.channel() as channel:
        assert await talk(channel, "/test/Task", b"x") == [b"x"]


def _block(path: str) -> bytes:
    return b"\x83\x86\x04" + bytes((len(path),)) + path.encode() + b"\x0f\x10\x10application/grpc"


async def _until(reader: asyncio.StreamReader, wanted: bytes, times: int) -> None:
    found = b""
    while found.count(wanted) < times:
        chunk = await asyncio.wait_for(reader.read(2**20), 10)
        assert chunk, found[-100:]
        found += chunk
