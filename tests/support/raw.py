"""HTTP over a bare socket: what no client library sends, and exactly what comes back."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any

SILENCE = 45.0
"""Seconds without a byte from the gateway after which it counts as hanging."""


@dataclass(frozen=True)
class Reply:
    """One answer, its body without chunk framing."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI error object, checked for its exact shape and for the header that repeats its code."""
        found = json.loads(self.body)
        assert list(found) == ["error"], found
        assert sorted(found["error"]) == ["code", "message", "param", "type"], found
        assert self.headers["content-type"] == "application/json", self
        assert self.headers["x-sluice-reason"] == found["error"]["code"], self
        assert self.status >= 400, self
        return dict(found["error"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class NoReplyError(Exception):
    """The connection ended before an answer was complete; the bytes that did come are its argument."""


class RawConnection:
    """One TCP connection, closed at the end of the `with` block."""

    def __init__(self, port: int, silence: float = SILENCE) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), silence)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> RawConnection:
        """Sends everything, or as much as the gateway takes before it closes the connection."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer that came before says why
            self._socket.sendall(data)
        return self

    def half_close(self) -> RawConnection:
        """No more bytes will be sent, but an answer is awaited."""
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Closes with a TCP RST instead of a FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self._socket.close()

    def interim(self) -> int:
        """Status of an interim answer, such as 100."""
        status, _ = self._head()
        return status

    def reply(self, method: str = "POST") -> Reply:
        """The next final answer. Raises NoReplyError if the connection ends instead, TimeoutError after silence."""
        status, headers = self._head()
        while 100 <= status < 200 and status != 101:
            status, headers = self._head()
        return Reply(status, headers, self._body(method, status, headers))

    def rest(self) -> bytes:
        """Everything that still comes before the gateway closes the connection."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def _head(self) -> tuple[int, dict[str, str]]:
        lines: list[bytes] = []
        while True:
            line = self._line()
            if not line.endswith(b"\r\n"):
                raise NoReplyError(b"".join(lines) + line)
            if line == b"\r\n":
                break
            lines.append(line)
        pairs = (line.decode("latin-1").partition(":") for line in lines[1:])
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def _line(self) -> bytes:
        try:
            return self._file.readline()
        except ConnectionResetError:
            return b""

    def _body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (101, 204, 304):
            return b""
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return self.rest()
        body = b""
        while True:
            line = self._line()
            if not line.endswith(b"\r\n"):
                raise NoReplyError(body)
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            body += self._exactly(size)
            self._line()
        while self._line().strip():
            pass  # trailers
        return body

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise NoReplyError(data)
        return data


def request(
    body: bytes = b"", *, path: str = "/v1/chat/completions", method: str = "POST", host: str = "x", **headers: str
) -> bytes:
    """A request with a true `content-length`; `headers` are written with dashes for underscores."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def send(port: int, data: bytes, method: str = "POST") -> Reply:
    """Sends bytes on a connection of their own and gives the answer."""
    with RawConnection(port) as connection:
        return connection.send(data).reply(method)
