"""A destination that answers with the bytes that a test gives it, piece by piece."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

_PAUSE = 0.003
"""Seconds between two pieces, so that Envoy reads each by itself."""


@dataclass
class Pieces:
    """`pieces` is the next answer's body; it ends well unless `broken`."""

    pieces: Sequence[bytes] = ()
    content_type: str = "text/event-stream"
    headers: str = ""
    broken: bool = False
    with_length: bool = False
    """Instead of chunks."""
    bodies: list[bytes] = field(default_factory=list)
    """Of the requests that came."""
    address: str = ""

    @contextmanager
    def serving(self) -> Iterator[Pieces]:
        pieces = self

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self) -> None:
                try:
                    while pieces.read_request(self):
                        pieces.answer(self)
                        if pieces.broken:
                            return
                except ConnectionError:
                    return  # the client has left

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.address = f"127.0.0.1:{server.server_address[1]}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield self
            finally:
                server.shutdown()

    def read_request(self, handler: socketserver.StreamRequestHandler) -> bool:
        length = 0
        method = handler.rfile.readline().partition(b" ")[0]
        while line := handler.rfile.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        if method == b"POST":
            self.bodies.append(handler.rfile.read(length))
            return True
        if method:
            handler.wfile.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return self.read_request(handler)
        return False

    def answer(self, handler: socketserver.StreamRequestHandler) -> None:
        framing = "transfer-encoding: chunked"
        if self.with_length:
            framing = f"content-length: {sum(map(len, self.pieces))}"
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {self.content_type}\r\n{self.headers}{framing}\r\n\r\n"
        handler.wfile.write(head.encode())
        for piece in self.pieces:
            time.sleep(_PAUSE)
            handler.wfile.write(piece if self.with_length else b"%x\r\n%b\r\n" % (len(piece), piece))
        time.sleep(_PAUSE)
        if not (self.broken or self.with_length):
            handler.wfile.write(b"0\r\n\r\n")
