"""Streams of frames that nobody would send. The core neither raises nor grows, and says why it hangs up."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from extproc.wire.http2 import frames
from extproc.wire.http2.connection import Connection
from extproc.wire.http2.limits import Limits, Rate
from extproc.wire.http2.states import State
from extproc.wire.http2.stream import Ended, Lost, Message, Opened, Stream
from tests.wire.http2.peer import BLOCK, GREETING, framed

FREE = Rate(burst=1e9, per_second=1e9)
LIMITS = Limits(
    streams=40,
    held=400_000,
    message=lambda: 50_000,
    early_resets=FREE,
    pings=FREE,
    settings=FREE,
    empty=FREE,
    strays=FREE,
)
"""Without rates, so that a conversation goes on long enough to become strange."""
FEW = 20_000
MANY = 1_000_000


class Peer:
    """Sends what is mostly right, so that the rest meets streams in every state."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.next = 1

    def frame(self) -> bytes:
        random = self.random
        kind = random.choices(range(11), (30, 18, 1, 6, 1, 0.05, 2, 0.1, 12, 0.3, 0.5))[0]
        flags = random.choice((0, 0, 0, 1, 4, 5, 8, 0x20, 0x2D, random.randrange(256)))
        number = max(1, self.next - 2 * random.randint(0, 12)) | 1
        if random.random() < 0.002:
            number = random.choice((0, 2, number + 100, 2**31 - 1))
        payload = self.payload(kind)
        if kind == 1:
            number, flags = self.opening(number, flags)
        elif kind in (4, 6, 7) and random.random() < 0.99:
            number, flags = 0, flags & 1
            payload = b"" if kind == 4 and flags else payload
        elif kind == 0 and random.random() < 0.9:
            flags &= 1
        elif kind == 8 and random.random() < 0.5:
            number = 0
        return frames.frame(kind, flags, number, payload)

    def opening(self, number: int, flags: int) -> tuple[int, int]:
        if self.random.random() < 0.9:
            number, self.next = self.next, self.next + 2
            flags = 4 | flags & 1
        return number, flags if self.random.random() < 0.99 else flags & ~4

    def payload(self, kind: int) -> bytes:
        random = self.random
        if random.random() < 0.003:
            return random.randbytes(random.choice((0, 1, 3, 4, 6, 8, 100)))
        if kind == 0:
            message = framed(bytes(random.choice((0, 1, 200, 16_000, 60_000))))
            return message[: random.choice((16_384, 16_384, 3, 7))][:16_384]
        if kind == 1:
            return random.choice(
                (BLOCK, BLOCK, BLOCK + b"\x40\x01a\x01b", b"\x83\x86\x84\xbe", b"\x3f\xe1\x1f" + BLOCK)
            )
        sized = {2: 5, 3: 4, 6: 8, 7: 8}
        if kind == 4:
            return frames.settings({frames.Setting(random.randint(3, 4)): random.choice((0, 1000, 65535, 2**20))})
        if kind == 8:
            return random.choice((1, 100, 10_000)).to_bytes(4, "big")
        return random.randbytes(sized.get(kind, random.randint(0, 20)))


def conversation(core: Connection, peer: Peer) -> Iterator[None]:
    """Feeds one frame after the other, in pieces, and does with the events what a driver would do."""
    random, unread = peer.random, dict[Stream, list[int]]()
    while not core.over:
        said = peer.frame()
        cut = random.choice((0, len(said), random.randint(0, len(said))))
        for event in (*core.receive(said[:cut], 0.0), *core.receive(said[cut:], 0.0)):
            stream = event.stream
            if isinstance(event, Message) and stream.state is not State.CLOSED:
                if random.random() < 0.3:
                    core.keep(stream, len(event.data))
                    unread.setdefault(stream, []).append(len(event.data))
                elif stream.ending is None:
                    core.message(stream, event.data[:2000])
            elif isinstance(event, Ended) and stream.state is not State.CLOSED and stream.ending is None:
                core.end(stream, 0)
            elif isinstance(event, Lost):
                unread.pop(stream, None)
        for stream in list(unread):
            if random.random() < 0.5:
                core.release(stream, unread[stream].pop())
            if not unread[stream] or stream.state is State.CLOSED:
                del unread[stream]
        core.paused = random.random() < 0.1
        core.pump()
        core.take()
        core.drained.clear()
        check(core)
        yield


def check(core: Connection) -> None:
    """What holds at every moment."""
    assert len(core.streams) <= LIMITS.streams
    held = 0
    for number, stream in core.streams.items():
        assert number == stream.number
        assert stream.state is not State.CLOSED
        assert stream.unread >= 0
        assert 0 <= stream.receive_window <= LIMITS.stream_window
        held += stream.held
    assert core._held == held <= LIMITS.held + LIMITS.stream_window
    assert core._blocked.keys() <= set(core.streams.values())
    assert len(core._rest) <= frames.FRAME_SIZE + frames.HEAD_SIZE


def run(count: int, seed: int) -> set[str]:
    """Plays `count` frames in as many conversations as it takes; gives the reasons for hanging up."""
    random, reasons, opened = Random(seed), set[str](), 0
    while count > 0:
        core = Connection(LIMITS, 0.0)
        core.receive(GREETING, 0.0)
        for _ in conversation(core, Peer(random)):
            count -= 1
            if count <= 0:
                break
        opened += core._last_stream
        reasons.add(core.fault)
    assert opened
    return reasons


def test_any_frames_are_survived() -> None:
    assert len(run(FEW, seed=1)) > 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_frames_are_survived() -> None:
    assert len(run(MANY, seed=2)) > 10


def test_broken_bytes_are_survived() -> None:
    random = Random(3)
    peer = Peer(random)
    for _ in range(300):
        said = bytearray(GREETING + b"".join(peer.frame() for _ in range(20)))
        for _ in range(random.randint(1, 10)):
            at = random.randrange(len(said))
            said[at : at + random.randint(0, 3)] = random.randbytes(random.randint(0, 3))
        core = Connection(LIMITS, 0.0)
        while said and not core.over:
            size = random.choice((1, 7, 1000, len(said)))
            events = core.receive(bytes(said[:size]), 0.0)
            assert all(isinstance(event, Opened | Message | Ended | Lost) for event in events)
            del said[:size]
        check(core)
