"""The report server that the configuration asks for, and its change from one configuration to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from extproc.agents.server import ReportServer, ReportSettings, ReportTls
from extproc.agents.sessions import AgentSessions, ReportedPool
from extproc.pool.engines.dns import join_address
from extproc.resources.kinds import gateway


class _Wanted(msgspec.Struct, frozen=True):
    settings: ReportSettings
    silence: float
    port: int


class Reports:
    """`prepare` as often as needed, `stop` at last. `token` gives the one that is valid at this moment."""

    def __init__(self, pools: Callable[[str], ReportedPool | None], token: Callable[[], str | None]) -> None:
        self._pools = pools
        self._token = token
        self._current: _Wanted | None = None
        self._server: ReportServer | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def prepare(self, agents: gateway.Agents | None, directory: Path) -> ReportsChange:
        """A server as `agents` says, beside the one in force, which goes on if nothing has changed. Until the change is
        committed the new one refuses every agent, so that it comes again. Raises OSError if the address is taken or a
        file cannot be read."""
        wanted = None if agents is None else _wanted(agents, directory)
        if wanted == self._current:
            return ReportsChange(self, self._server, wanted)
        if wanted is None:
            return ReportsChange(self, None, None)
        server = ReportServer(wanted.settings, AgentSessions(self._pools, silence=wanted.silence), self._token)
        server.open = False
        await server.start(beside=self._current is not None and wanted.port == self._current.port)
        return ReportsChange(self, server, wanted)

    def use(self, server: ReportServer | None, wanted: _Wanted | None) -> None:
        """From here on agents report to this server; those of the one before come to it by themselves."""
        before, self._server, self._current = self._server, server, wanted
        if server is not None:
            server.open = True
        if before is not None and before is not server:
            before.end("the gateway's settings for agents have changed")
            task = asyncio.ensure_future(before.stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def serves(self, server: ReportServer) -> bool:
        return server is self._server

    async def stop(self) -> None:
        self.use(None, None)
        await asyncio.gather(*self._leaving)


class ReportsChange:
    """A configuration's report server, made ready: it listens already."""

    def __init__(self, reports: Reports, server: ReportServer | None, wanted: _Wanted | None) -> None:
        self._reports = reports
        self._server = server
        self._wanted = wanted

    def commit(self) -> None:
        self._reports.use(self._server, self._wanted)

    async def undo(self) -> None:
        if self._server is not None and not self._reports.serves(self._server):
            await self._server.stop()


def _wanted(agents: gateway.Agents, directory: Path) -> _Wanted:
    tls = agents.tls
    files = None
    if tls is not None:
        client_ca = None if tls.client_ca is None else directory / tls.client_ca
        files = ReportTls(directory / tls.cert, directory / tls.key, client_ca)
    settings = ReportSettings(
        address=join_address(agents.address, agents.port),
        tls=files,
        report_interval=agents.report_interval,
        heartbeat=agents.heartbeat,
    )
    return _Wanted(settings, agents.heartbeat * agents.missed_heartbeats, agents.port)
