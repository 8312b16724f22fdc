"""The pages of flow control: live state, why a request would wait, and commands to ramps."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec
from aiohttp import web

from extproc.admin.replies import error, json
from extproc.scheduling.ramp import Command
from extproc.scheduling.status import PolicyState
from extproc.steps.explain import Explained, WrittenRequest

PAGES = {
    "/policies": "traffic policies: what is left, who waits, multipliers and ramp steps, JSON",
    "/explain": "POST a request as JSON: which policy would let it pass, wait or refuse it",
}
_Kind = TypeVar("_Kind")


class PolicyInspection(Protocol):
    """What the pages ask, on the event loop."""

    async def state(self) -> list[PolicyState]:
        """Every policy in the order of processing."""
        ...

    async def command(self, name: str, command: Command) -> PolicyState:
        """To the ramp called `KIND/NAME`, whose state is given. Raises KeyError where there is none."""
        ...

    async def explain(self, asked: WrittenRequest) -> Explained: ...


class _Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    command: Command


class BadPost(ValueError):
    """What was posted cannot be read; the message says why."""


class PolicyPages:
    """Handlers. What is posted has to say that it is JSON: no web page of another site can send that unasked."""

    def __init__(self, inspection: PolicyInspection) -> None:
        self._inspection = inspection

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/policies", self.policies),
            web.post("/policies/{kind}/{name}/ramp", self.ramp),
            web.post("/explain", self.explain),
        ]

    async def policies(self, _request: web.Request) -> web.Response:
        return json(await self._inspection.state())

    async def explain(self, request: web.Request) -> web.Response:
        try:
            asked = await _read(request, WrittenRequest)
        except BadPost as fault:
            return error(400, "bad_request", str(fault))
        return json(await self._inspection.explain(asked))

    async def ramp(self, request: web.Request) -> web.Response:
        try:
            order = await _read(request, _Order)
            return json(await self._inspection.command("{kind}/{name}".format_map(request.match_info), order.command))
        except KeyError as fault:
            return error(404, "not_found", f"there is no ramp called {fault.args[0]!r}")
        except BadPost as fault:
            return error(400, "bad_request", str(fault))


async def _read(request: web.Request, kind: type[_Kind]) -> _Kind:
    """The body of a request. Raises BadPost."""
    if request.content_type != "application/json":
        raise BadPost("send application/json")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadPost(str(fault)) from None
