"""Plain HTTP to a gateway, byte for byte as written, for what the official client would tidy up."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bench.provider import ProviderServer
from tests.support.gateway import Gateway

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "请介绍你自己"}]


@dataclass(frozen=True)
class Reply:
    """One answer, its body as it came."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, checked for the shape that OpenAI's clients read."""
        assert self.headers["content-type"] == "application/json", self
        found = self.json
        assert list(found) == ["error"], found
        assert sorted(found["error"]) == ["code", "message", "param", "type"], found
        assert self.headers["x-sluice-reason"] == found["error"]["code"], self
        return dict(found["error"])

    @property
    def events(self) -> list[Any]:
        """The JSON data of each server-sent event; `[DONE]` as the string."""
        frames = self.body.replace(b"\r\n", b"\n").strip().split(b"\n\n")
        data = [line[6:] for frame in frames for line in frame.split(b"\n") if line.startswith(b"data: ")]
        return [item.decode() if item == b"[DONE]" else json.loads(item) for item in data]


def send(
    gateway: Gateway,
    body: Any = None,
    path: str = CHAT,
    *,
    host: str = "",
    method: str = "POST",
    **headers: str,
) -> Reply:
    """One request on a connection of its own. `body`: bytes as they are, anything else as JSON; an underscore in the
    name of a header stands for a dash."""
    with sending(gateway, body, path, host=host, method=method, **headers) as response:
        return Reply(response.status, _lower(response), response.read())


@contextmanager
def sending(
    gateway: Gateway,
    body: Any = None,
    path: str = CHAT,
    *,
    host: str = "",
    method: str = "POST",
    **headers: str,
) -> Iterator[http.client.HTTPResponse]:
    """The same with the answer's headers read and its body not; the connection is closed with the block."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        lines.setdefault("content-type", "application/json")
    if host:
        lines["host"] = host
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    try:
        connection.request(method, path, raw, lines)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def _lower(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def hello(**fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"messages": HELLO, **fields}


@dataclass(frozen=True)
class Seen:
    """A request as a provider saw it."""

    host: str
    sni: str | None
    path: str
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def last(provider: ProviderServer) -> Seen:
    """The latest request that arrived at a provider."""
    found = provider.recorder.snapshot()["last"]
    headers = {name.lower(): value for name, value in found["headers"]}
    return Seen(found["host"], found["sni"], found["path"], headers, found["body"])


Script = Callable[[int], int]
"""From the number of requests so far, this one included, to the status of the answer."""


@dataclass
class Scripted:
    """A destination on plain HTTP whose answers follow a script."""

    script: Script = lambda _number: 200
    paths: list[str] = field(default_factory=list)
    """One entry for each request."""
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[Scripted]:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                try:
                    self.answer()
                except ConnectionError:  # the gateway gave up on this attempt
                    self.close_connection = True

            def answer(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                scripted.paths.append(self.path)
                status = scripted.script(len(scripted.paths))
                body = json.dumps({"object": "chat.completion", "model": "m", "attempt": len(scripted.paths)}).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class names it so
                """Nothing: the test's own output stays readable."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join(10)
