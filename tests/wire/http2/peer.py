"""A peer for the core: a client by the `h2` library, and frames written by hand."""

from __future__ import annotations

from collections.abc import Sequence

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from extproc.wire.http2 import frames
from extproc.wire.http2.connection import Connection
from extproc.wire.http2.frames import PREFACE, Kind
from extproc.wire.http2.limits import Limits
from extproc.wire.http2.stream import Ended, Message, Opened
from extproc.wire.http2.stream import Event as OwnEvent

PATH = "/test.Service/Method"
BLOCK = b"\x83\x86\x04" + bytes((len(PATH),)) + PATH.encode() + b"\x0f\x10\x10application/grpc"
"""POST, http, PATH, content type, all without the dynamic table."""
GREETING = PREFACE + frames.frame(Kind.SETTINGS, 0, 0)


def connection(limits: Limits | None = None, *, greet: bool = True) -> Connection:
    """A core that has been greeted, whose own greeting has been taken."""
    core = Connection(limits or Limits(), 0.0)
    if greet:
        assert core.receive(GREETING, 0.0) == []
        core.take()
    return core


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def opening(number: int, *, end: bool = False) -> bytes:
    return frames.frame(Kind.HEADERS, frames.END_HEADERS | (frames.END_STREAM if end else 0), number, BLOCK)


def data(number: int, payload: bytes, flags: int = 0) -> bytes:
    return frames.frame(Kind.DATA, flags, number, payload)


def sent(core: Connection) -> list[tuple[Kind, int, int, bytes]]:
    """Kind, flags, stream and payload of the frames that the core has for its peer."""
    found = []
    out = b"".join(core.take())
    while out:
        high, low, kind, flags, number = frames.unpack_head(out, 0)
        size = high << 16 | low
        found.append((Kind(kind), flags, number, out[9 : 9 + size]))
        out = out[9 + size :]
    return found


def codes(core: Connection) -> list[tuple[Kind, int, frames.Code]]:
    """Resets and GOAWAYs, as kind, stream and code."""
    found: list[tuple[Kind, int, frames.Code]] = []
    for kind, _, number, payload in sent(core):
        if kind is Kind.RST_STREAM:
            found.append((kind, number, frames.Code(int.from_bytes(payload, "big"))))
        elif kind is Kind.GOAWAY:
            found.append((kind, 0, frames.Code(int.from_bytes(payload[4:8], "big"))))
    return found


def echo(core: Connection, events: Sequence[OwnEvent]) -> None:
    """Answers every message with itself, and the end with the end."""
    for event in events:
        if isinstance(event, Message):
            core.message(event.stream, event.data)
        elif isinstance(event, Ended):
            core.end(event.stream, 0)


class Client:
    """A conversation of the `h2` library with a core, without I/O in between. `log` is all that the client was told."""

    def __init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.log: list[Event] = []

    def call(self, path: str = PATH, **headers: str) -> int:
        number: int = self.h2.get_next_available_stream_id()
        fixed = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "filter"}
        fields = {**fixed, "te": "trailers", "content-type": "application/grpc", **headers}
        self.h2.send_headers(number, list(fields.items()))
        return number

    def heard(self, out: Sequence[bytes | memoryview]) -> None:
        for event in self.h2.receive_data(b"".join(out)):
            self.log.append(event)
            if isinstance(event, DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def talk(self, core: Connection, now: float = 0.0) -> None:
        """Lets both sides speak until neither has anything to say; the core echoes."""
        while True:
            said = self.h2.data_to_send()
            if said:
                echo(core, core.receive(said, now))
            out = core.take()
            self.heard(out)
            if not said and not out:
                return

    def body(self, number: int) -> bytes:
        return b"".join(
            event.data for event in self.log if isinstance(event, DataReceived) and event.stream_id == number
        )

    def headers(self, number: int) -> list[dict[str, str]]:
        """Headers and trailers of an answer."""
        kinds = (ResponseReceived, TrailersReceived)
        mine = [event for event in self.log if isinstance(event, kinds) and event.stream_id == number]
        return [{str(name): str(value) for name, value in event.headers} for event in mine]

    def ended(self, number: int) -> bool:
        return any(isinstance(event, StreamEnded) and event.stream_id == number for event in self.log)

    def resets(self, number: int) -> list[int]:
        return [event.error_code for event in self.log if isinstance(event, StreamReset) and event.stream_id == number]


def streams(events: Sequence[OwnEvent]) -> list[int]:
    """Numbers of the streams that were opened."""
    return [event.stream.number for event in events if isinstance(event, Opened)]


def messages(events: Sequence[OwnEvent]) -> list[bytes]:
    return [event.data for event in events if isinstance(event, Message)]
