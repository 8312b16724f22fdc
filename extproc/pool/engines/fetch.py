"""Fetches one page of one server again and again, over one connection, with as little work as that can be done with.

A general HTTP client spends several times as long on a request as it takes to read the page's figures.
"""

from __future__ import annotations

import asyncio
from typing import cast

from extproc.pool.engines.dns import split_address
from extproc.pool.engines.http import BadResponse, Response, ResponseReader

_SLACK = 0.001
"""Seconds by which a timer may be early."""


class Unanswered(ConnectionError):
    """The connection ended before the first byte of an answer."""


class Fetcher:
    """`get` one page at a time, `close` at last. `address` is `IP:PORT`; `limit` is for a page, in bytes."""

    def __init__(self, address: str, limit: int) -> None:
        self._address = address
        self._host, self._port = split_address(address)
        self._limit = limit
        self._path = ""
        self._request = b""
        self._wire: _Wire | None = None

    async def get(self, path: str, seconds: float) -> Response:
        """Connecting included. Raises TimeoutError, OSError or BadResponse."""
        if path != self._path:
            self._path, self._request = path, _request(path, self._address)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if self._wire is not None and self._wire.open:
            try:
                return await self._wire.ask(self._request, self._limit, deadline)
            except Unanswered:
                pass  # servers close idle connections when they like; a new one tells how things are
        async with asyncio.timeout_at(deadline):
            _, self._wire = await loop.create_connection(_Wire, self._host, self._port)
        return await self._wire.ask(self._request, self._limit, deadline)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.abort()


def _request(path: str, address: str) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: sluice\r\nAccept: text/plain\r\n"
    # A page is asked for as it is: nothing may grow by being unpacked.
    return f"{head}Accept-Encoding: identity\r\n\r\n".encode()


class _Wire(asyncio.Protocol):
    """One connection. Its timer stays armed over many requests, and is only moved where one ends earlier."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._begun = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, limit: int, deadline: float) -> Response:
        """Raises Unanswered, or as `Fetcher.get` does."""
        if self._transport is None or self._transport.is_closing():
            raise Unanswered("connection closed without an answer")
        self._reader, self._begun = ResponseReader(limit), False
        self._answer = self._loop.create_future()
        self._arm(deadline)
        self._transport.write(request)
        try:
            response = await self._answer
        except BaseException:  # whatever it was, an answer that is still to come must meet nobody
            self.abort()
            raise
        finally:
            self._answer = None
        if not response.reusable:
            self.abort()
        return response

    def abort(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done() or self._reader is None:
            self.abort()  # nobody has asked
            return
        self._begun = True
        try:
            response = self._reader.feed(data)
        except BadResponse as error:
            self._fail(error)
            return
        if response is not None:
            self._answer.set_result(response)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._answer is None or self._answer.done() or self._reader is None:
            return
        if not self._begun:
            self._fail(Unanswered("connection closed without an answer"))
        elif error is not None:
            self._fail(error)
        else:
            try:
                self._answer.set_result(self._reader.end())
            except BadResponse as incomplete:
                self._fail(incomplete)

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _arm(self, deadline: float) -> None:
        self._deadline = deadline
        if self._timer is not None:
            if self._fires_at <= deadline:
                return
            self._timer.cancel()
        self._fires_at = deadline
        self._timer = self._loop.call_at(deadline, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        if self._answer is None:
            return
        if self._deadline - self._loop.time() > _SLACK:
            self._arm(self._deadline)
        else:
            self._fail(TimeoutError())
