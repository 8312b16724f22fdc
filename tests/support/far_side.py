"""Simulated providers and engines in a thread of their own, so that tests may be synchronous or not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from bench.certs import Certificates
from bench.engine.config import EngineConfig
from bench.engine.server import EngineServer
from bench.provider import ProviderServer

Result = TypeVar("Result")


class FarSide:
    """`with FarSide() as far:`; everything it started ends with the block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="far-side", daemon=True)
        self._servers: list[EngineServer | ProviderServer] = []

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine on the far side's loop and waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def engine(self, **settings: Any) -> EngineServer:
        """A running engine; `settings` are those of `EngineConfig`."""
        engine = EngineServer(EngineConfig(**settings))
        self.run(engine.start())
        self._servers.append(engine)
        return engine

    def provider(self, certificates: Certificates | None = None, **settings: Any) -> ProviderServer:
        """A running provider, behind TLS if it has certificates."""
        provider = ProviderServer(certificates=certificates, **settings)
        self.run(provider.start())
        self._servers.append(provider)
        return provider

    def __enter__(self) -> FarSide:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            self.run(server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
