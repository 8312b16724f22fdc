"""The pages of flow control over a inspection with a real flow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web

from extproc.admin.policies import PolicyPages
from extproc.live.flow import FlowControl
from extproc.live.inspect import Inspection
from extproc.resources.secrets import SecretStore
from extproc.steps.live import Live
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable
from tests.live.test_policies import RAMP, SELECTED, snapshot_of

RULE = RouteRule("r/0", (Backend("provider/p", 1, model="ours", is_provider=True),))
TABLE = RouteTable({"api": HostRoutes("api", (RULE,))})
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
FIRST_STEP = RAMP.partition("  drivers:")[0] + (
    "  start: false\n  loadRamp: {steps: [{targetAcceptPercentage: 0, duration: 1s},"
    " {targetAcceptPercentage: 100, duration: 1m}]}\n"
)
RATE = (
    SELECTED.partition("    selectors:")[0].replace("user_id", "user").replace("delayInitialFill: true", "maxKeys: 9")
)
RATE = RATE.replace(", maxKeys: 7", "").replace("unit: tokens", "unit: requests")


@pytest.fixture
async def client(tmp_path: Any) -> AsyncIterator[ClientSession]:
    control = FlowControl(lambda: 100.0)
    change = await control.prepare(snapshot_of(tmp_path, FIRST_STEP, RATE), SecretStore({}, tmp_path))
    change.commit()
    live_flow = change.live_flow
    inspection = Inspection(control, lambda: Live(TABLE, flow=live_flow), lambda _model, size: (size, 0))
    app = web.Application()
    app.add_routes(PolicyPages(inspection).routes())
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield session
    await runner.cleanup()
    await control.stop()


async def state(client: ClientSession) -> list[dict[str, Any]]:
    async with client.get("/policies") as response:
        found: list[dict[str, Any]] = await response.json()
        return found


async def test_every_policy_in_order(client: ClientSession) -> None:
    ramp, rate = await state(client)
    assert (ramp["name"], ramp["kind"], ramp["percentage"], ramp["command"]) == (
        "LoadRampingPolicy/p", "ramp", 0.0, "auto"
    )  # fmt: skip
    assert (rate["name"], rate["kind"]) == ("RateLimitingPolicy/p", "rate")


async def test_a_ramp_obeys(client: ClientSession) -> None:
    for command, direction in (("forward", 1), ("hold", 0), ("backward", -1), ("reset", 0), ("auto", 0)):
        async with client.post("/policies/LoadRampingPolicy/p/ramp", json={"command": command}) as response:
            told = await response.json()
            assert response.status == 200
            assert (told["command"], told["direction"]) == (command, direction)
        assert (await state(client))[0]["command"] == command


@pytest.mark.parametrize(
    ("path", "options", "status", "said"),
    [
        (
            "LoadRampingPolicy/q/ramp",
            {"json": {"command": "hold"}},
            404,
            "there is no ramp called 'LoadRampingPolicy/q'",
        ),
        ("RateLimitingPolicy/p/ramp", {"json": {"command": "hold"}}, 404, "there is no ramp called"),
        ("LoadRampingPolicy/%0A/ramp", {"json": {"command": "hold"}}, 404, "there is no ramp called"),
        ("LoadRampingPolicy/p/ramp", {"json": {"command": "jump"}}, 400, "'jump'"),
        ("LoadRampingPolicy/p/ramp", {"json": {"command": "hold", "x": 1}}, 400, "unknown field"),
        ("LoadRampingPolicy/p/ramp", {"data": '{"command": "hold"}'}, 400, "send application/json"),
        ("LoadRampingPolicy/p/ramp", {"data": b"\xff", "headers": {"content-type": "application/json"}}, 400, ""),
    ],
)
async def test_bad_commands_change_nothing(
    client: ClientSession, path: str, options: dict[str, Any], status: int, said: str
) -> None:
    async with client.post(f"/policies/{path}", **options) as response:
        assert response.status == status
        assert said in (await response.json())["error"]["message"]
    assert (await state(client))[0]["command"] == "auto"


async def test_why_a_request_would_be_refused(client: ClientSession) -> None:
    asked = {"headers": {"user": "alice"}, "body": CHAT}
    async with client.post("/explain", json=asked) as response:
        found = await response.json()
    ramp, rate = found["policies"]
    assert (found["route"], found["target"]) == ("r/0", "provider/p")
    assert found["labels"]["http.request.header.user"] == "alice"
    assert (ramp["says"], ramp["detail"]) == ("refuse", "ramped_out; 0.0 % are let through")
    assert (rate["says"], rate["cost"]) == ("pass", 1.0)
    assert [each.get("counts", {}) for each in await state(client)] == [{}, {}]


async def test_what_cannot_be_explained(client: ClientSession) -> None:
    async with client.post("/explain", json={"body": CHAT, "hosts": "x"}) as response:
        assert response.status == 400
        assert "hosts" in (await response.json())["error"]["message"]
    async with client.post("/explain", json={"body": CHAT, "host": "x"}) as response:
        assert (await response.json())["refused"].startswith("404 route_not_found")
