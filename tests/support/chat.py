"""One chat request over a bare socket, step by step: half a body, one event, one more."""

from __future__ import annotations

import json
from typing import Any

from tests.support.raw import NoReplyError, RawConnection, Reply, request

PATH = "/v1/chat/completions"


class Chat(RawConnection):
    """Sends a chat request on a connection of its own; with `half`, half of the body is left to `send_rest`."""

    def __init__(
        self,
        port: int,
        host: str = "x",
        *,
        model: str = "m",
        stream: bool = False,
        half: bool = False,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(port)
        messages = [{"role": "user", "content": "hi"}]
        body = json.dumps({"model": model, "messages": messages, "stream": stream, **fields}).encode()
        self._buffer = b""
        self._rest = b""
        self._last = False
        data = request(body, path=PATH, host=host, **{"content-type": "application/json", **(headers or {})})
        if half:
            cut = len(data) - len(body) // 2
            data, self._rest = data[:cut], data[cut:]
        self.send(data)

    def __enter__(self) -> Chat:
        return self

    def send_rest(self) -> Chat:
        self.send(self._rest)
        return self

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer."""
        return self._head()

    def event(self) -> str | None:
        """Data of the next event of the stream, None at its proper end. Raises NoReplyError if it breaks off."""
        while b"\n\n" not in self._buffer and not self._last:
            size = int(self._line().partition(b";")[0] or self._broken(), 16)
            self._last = size == 0
            self._buffer += self._exactly(size)
            self._line()
        frame, _, self._buffer = self._buffer.partition(b"\n\n")
        return frame.decode().removeprefix("data: ") if frame else None

    def text(self) -> str | None:
        """Content of the next event; an empty string for one without, None at the end."""
        data = self.event()
        if data is None or data == "[DONE]":
            return None
        choices = json.loads(data)["choices"]
        return choices[0]["delta"].get("content", "") if choices else ""

    def remaining(self) -> str:
        """All the text up to the end of the stream, which must be proper and come after `[DONE]`."""
        texts, done = [], False
        while (data := self.event()) is not None:
            done = data == "[DONE]"
            choices = [] if done else json.loads(data)["choices"]
            texts += [choice["delta"].get("content", "") for choice in choices]
        assert done, texts
        return "".join(texts)

    def _broken(self) -> bytes:
        raise NoReplyError(self._buffer)


def chat(port: int, host: str = "x", **options: Any) -> Reply:
    """A whole exchange that is not streamed."""
    with Chat(port, host, **options) as connection:
        return connection.reply()
