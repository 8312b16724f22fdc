"""Performs what the core says, on an asyncio transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from extproc.wire.http2.call import Call
from extproc.wire.http2.connection import Connection
from extproc.wire.http2.limits import Limits
from extproc.wire.http2.messages import UNIMPLEMENTED
from extproc.wire.http2.stream import Ended, Event, Message, Opened

log = logging.getLogger(__name__)

Handler = Callable[[Call], None]
"""Begins to serve a call, by `Call.serve` or `Call.run`."""
Find = Callable[[str], Handler | None]
"""The handler of a method, by its path `/package.Service/Method`."""


class Driver(asyncio.Protocol):
    """One connection. `known` is where the server keeps its drivers; one that has ended takes itself out and says so
    by `left`."""

    def __init__(
        self,
        find: Find,
        limits: Limits,
        clock: Callable[[], float],
        known: set[Driver],
        left: Callable[[], None],
    ) -> None:
        self._find = find
        self._limits = limits
        self._clock = clock
        self._known = known
        self._left = left
        self._core = Connection(limits, clock())
        self._receiving = False
        self._scheduled = False
        self._stalled: float | None = None
        """Since when the peer has not taken what is sent."""

    def __repr__(self) -> str:
        return f"Driver(streams={len(self._core.streams)}, over={self._core.over})"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._known) >= self._limits.connections:
            log.warning("a connection is refused: there are %d already", len(self._known))
            self._transport.abort()
            return
        self._known.add(self)
        self._transport.set_write_buffer_limits(high=self._limits.unsent)
        self._write()

    def data_received(self, data: bytes) -> None:
        self._receiving = True
        try:
            for event in self._core.receive(data, self._clock()):
                self._happened(event)
        finally:
            self._receiving = False
        self._write()

    def connection_lost(self, error: Exception | None) -> None:
        self._known.discard(self)
        self._core.over = True
        streams = list(self._core.streams.values())
        if error is not None:
            log.debug("connection lost with %d streams: %s", len(streams), error)
        for stream in streams:
            stream.owner.close()
        self._left()

    def pause_writing(self) -> None:
        """The peer takes less than it gets: nothing more is read from it, and messages wait in their streams."""
        self._core.paused = True
        self._stalled = self._clock()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._core.paused = False
        self._stalled = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._core.pump()
        self._write()

    def tick(self, now: float) -> None:
        """Called every few seconds."""
        if self._stalled is not None and now - self._stalled > self._limits.keepalive_timeout:
            log.warning("a connection is cut: its peer has taken nothing for %.0f s", now - self._stalled)
            self._transport.abort()
            return
        self._core.tick(now)
        self._write()

    def shut(self) -> None:
        """Asks the peer to go; open streams are served to their end."""
        self._core.shut(self._clock())
        self._write()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def _happened(self, event: Event) -> None:
        if type(event) is Opened:
            self._open(event)
            return
        call: Call = event.stream.owner
        if call.over:
            return  # ended while earlier events of the same bytes were handled
        if type(event) is Message:
            call.arrived(event.data)
        elif type(event) is Ended:
            call.heard()
        else:
            call.close()

    def _open(self, event: Opened) -> None:
        call = event.stream.owner = Call(self._core, event.stream, event.path, self._flush_soon, event.metadata)
        handler = self._find(event.path)
        if handler is None:
            call.end(UNIMPLEMENTED, f"there is no method {event.path}")
        else:
            call.begin(handler)

    def _flush_soon(self) -> None:
        """What is sent within one turn of the loop is written together."""
        if not self._receiving and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        core, transport = self._core, self._transport
        self._scheduled = True  # what is sent from here on goes out below
        while (core.out or core.drained) and not transport.is_closing():
            if core.drained:
                drained, core.drained = core.drained, []
                for stream in drained:
                    stream.owner.drained()
            elif core.bulky:
                transport.writelines(core.take())
                core.pump()
            else:
                transport.write(b"".join(core.take()))
        self._scheduled = False
        if core.over and not transport.is_closing():
            if core.fault:
                log.warning("a connection is closed: %s", core.fault)
            transport.close()
