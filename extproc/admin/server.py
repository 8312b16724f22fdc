"""Sluice's own HTTP address: health, readiness, metrics, effective configuration, endpoints and traffic policies.

Read-only but for the commands to load ramps.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import yaml
from aiohttp import web

from extproc.admin import policies
from extproc.admin.replies import error, json, text
from extproc.telemetry.exposition import Exposition

_logger = logging.getLogger("sluice.admin")

_PAGES = {
    "/healthz": "200 while the process serves, else 503",
    "/readyz": "200 once requests can be routed, else 503 and the reason",
    "/metrics": "Prometheus or OpenMetrics text, by Accept",
    "/config": "effective configuration, secrets redacted; YAML, or JSON by Accept",
    "/endpoints": "pool endpoints as the picker sees them, JSON",
    **policies.PAGES,
}
_LARGEST = 32 << 20
"""Bytes of a request that is to be explained."""
_SHUTDOWN_SECONDS = 1.0
"""How long a page being read may hold up the end of the process."""


class AdminView(msgspec.Struct, frozen=True, kw_only=True):
    """What the pages show, asked anew for each request, on the event loop."""

    metrics: Callable[[str], Awaitable[Exposition]]
    """From an `Accept` header to the scrape: `Metrics.scrape`."""
    live: Callable[[], bool]
    ready: Callable[[], tuple[bool, str]]
    """Whether requests can be routed, and why, or why not."""
    config: Callable[[], Mapping[str, Any]]
    """Plain data with the secrets already redacted."""
    endpoints: Callable[[], Sequence[Any]]
    """Anything that `msgspec` can encode."""
    policies: policies.PolicyInspection


class _Pages:
    def __init__(self, view: AdminView) -> None:
        self._view = view

    async def index(self, _request: web.Request) -> web.Response:
        width = max(map(len, _PAGES))
        return text("Sluice\n\n" + "".join(f"{path:<{width}}  {what}\n" for path, what in _PAGES.items()))

    async def healthz(self, _request: web.Request) -> web.Response:
        return text("ok\n") if self._view.live() else text("not serving\n", status=503)

    async def readyz(self, _request: web.Request) -> web.Response:
        ready, reason = self._view.ready()
        return text(f"{reason or ('ready' if ready else 'not ready')}\n", status=200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        exposition = await self._view.metrics(request.headers.get("Accept", ""))
        # web.Response splits a content type and its charset, and would lose the other parameters.
        return web.Response(body=exposition.body, headers={"Content-Type": exposition.content_type})

    async def config(self, request: web.Request) -> web.Response:
        config = msgspec.to_builtins(self._view.config())
        if "application/json" in request.headers.get("Accept", ""):
            return json(config)
        written = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        return web.Response(text=written, content_type="application/yaml")

    async def endpoints(self, _request: web.Request) -> web.Response:
        return json(self._view.endpoints())


def build(view: AdminView) -> web.Application:
    """The application: every error is a JSON error object."""
    pages = _Pages(view)
    app = web.Application(middlewares=[_errors], client_max_size=_LARGEST)
    app.add_routes(
        [
            web.get("/", pages.index),
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
            web.get("/metrics", pages.metrics),
            web.get("/config", pages.config),
            web.get("/endpoints", pages.endpoints),
            *policies.PolicyPages(view.policies).routes(),
        ]
    )
    return app


class AdminServer:
    """Serves an `AdminView`. `port` 0 picks a free port, to be read from `port` after `start`."""

    def __init__(self, view: AdminView, address: str, port: int) -> None:
        self._runner = web.AppRunner(
            build(view), access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        self.address = address
        self.port = port

    async def start(self) -> None:
        """Raises OSError if the address cannot be had; nothing is left open then."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.address, self.port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the address and the open connections. Harmless if not started."""
        await self._runner.cleanup()

    def __repr__(self) -> str:
        return f"<AdminServer {self.address}:{self.port}>"


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return error(404, "not_found", f"no page at {request.path}; see /")
    except web.HTTPMethodNotAllowed as fault:
        allowed = ", ".join(sorted(fault.allowed_methods))
        response = error(405, "method_not_allowed", f"this page takes {allowed}")
        response.headers["Allow"] = allowed
        return response
    except web.HTTPException as fault:
        return error(fault.status, "bad_request", fault.reason)
    except Exception:
        _logger.exception("the page %s failed", request.path)
        return error(500, "internal_error", "the page failed; the log says why")
