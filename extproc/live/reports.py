"""The report server that the configuration asks for, and its change from one configuration to the next."""

from __future__ import annotations

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


class Reports:
    """`apply` as often as needed, `stop` at last. `token` gives the one that is valid at this moment."""

    def __init__(self, pools: Callable[[str], ReportedPool | None], token: Callable[[], str | None]) -> None:
        self._pools = pools
        self._token = token
        self._current: _Wanted | None = None
        self._server: ReportServer | None = None

    async def apply(self, agents: gateway.Agents | None, directory: Path) -> None:
        """Serves as `agents` says; what stays the same keeps its streams. Raises OSError: all is as before then, but
        for the streams.
        """
        wanted = None if agents is None else _wanted(agents, directory)
        if wanted == self._current:
            return
        before = self._current
        await self._replace(None)
        try:
            await self._replace(wanted)
        except OSError:
            await self._replace(before)
            raise

    async def stop(self) -> None:
        await self._replace(None)

    async def _replace(self, wanted: _Wanted | None) -> None:
        server, self._server, self._current = self._server, None, None
        if server is not None:
            await server.stop()
        if wanted is not None:
            server = ReportServer(wanted.settings, AgentSessions(self._pools, silence=wanted.silence), self._token)
            await server.start()
            self._server, self._current = server, wanted


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
    return _Wanted(settings, agents.heartbeat * agents.missed_heartbeats)
