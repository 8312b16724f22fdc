import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import yaml
from aiohttp import ClientSession

from extproc.admin.server import AdminServer, AdminView
from extproc.scheduling.ramp import Command
from extproc.scheduling.status import PolicyState
from extproc.steps.explain import Explained, WrittenRequest
from extproc.telemetry.endpoints import EndpointStatus
from extproc.telemetry.exposition import Exposition
from extproc.telemetry.metrics import Metrics

CONFIG = {"providers": {"通义": {"apiKey": "<redacted>", "models": ["qwen-max"]}}, "generation": 3}
ENDPOINT = EndpointStatus(pool="qwen", address="10.0.0.1:8000", up=True, in_flight=2)
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"


class NoPolicies:
    """A inspection without flow control."""

    async def state(self) -> list[PolicyState]:
        return []

    async def command(self, name: str, command: Command) -> PolicyState:
        raise KeyError(name, command)

    async def explain(self, asked: WrittenRequest) -> Explained:
        return Explained(route=asked.path)


class State:
    """What the pages are asked about, changeable by a test."""

    def __init__(self) -> None:
        self.live = True
        self.ready = (True, "")
        self.endpoints: Any = [ENDPOINT]
        self.metrics = Metrics(endpoints=lambda: self.endpoints)

    async def scrape(self, accept: str) -> Exposition:
        return await self.metrics.scrape(accept)

    def view(self) -> AdminView:
        return AdminView(
            metrics=self.scrape,
            live=lambda: self.live,
            ready=lambda: self.ready,
            config=lambda: CONFIG,
            endpoints=lambda: self.endpoints,
            policies=NoPolicies(),
        )


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def client(state: State) -> AsyncIterator[ClientSession]:
    server = AdminServer(state.view(), "127.0.0.1", 0)
    await server.start()
    async with ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session
    await server.stop()


async def test_liveness_and_readiness_with_its_reason(client: ClientSession, state: State) -> None:
    for path in ("/healthz", "/readyz"):
        async with client.get(path) as response:
            assert response.status == 200
    state.ready = (False, "no endpoint of pool qwen is up")
    async with client.get("/readyz") as response:
        assert (response.status, await response.text()) == (503, "no endpoint of pool qwen is up\n")
    state.live = False
    async with client.get("/healthz") as response:
        assert response.status == 503


async def test_metrics_in_the_format_that_is_accepted(client: ClientSession) -> None:
    async with client.get("/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'sluice_endpoint_in_flight{endpoint="10.0.0.1:8000",pool="qwen"} 2.0' in await response.text()
    async with client.get("/metrics", headers={"Accept": OPENMETRICS}) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert (await response.text()).endswith("# EOF\n")


async def test_config_as_yaml_or_json_and_without_keys(client: ClientSession) -> None:
    async with client.get("/config") as response:
        text = await response.text()
        assert response.content_type == "application/yaml"
        assert yaml.safe_load(text) == CONFIG
        assert "通义" in text
    async with client.get("/config", headers={"Accept": "application/json"}) as response:
        assert response.content_type == "application/json"
        assert await response.json() == CONFIG


async def test_endpoints_are_the_views_as_json(client: ClientSession) -> None:
    async with client.get("/endpoints") as response:
        assert response.content_type == "application/json"
        assert msgspec.json.decode(await response.read(), type=list[EndpointStatus]) == [ENDPOINT]


async def test_the_index_names_every_page_and_every_page_answers_head(client: ClientSession) -> None:
    async with client.get("/") as response:
        index = await response.text()
    pages = [line.split()[0] for line in index.splitlines() if line.startswith("/")]
    assert pages == ["/healthz", "/readyz", "/metrics", "/config", "/endpoints", "/policies", "/explain"]
    for path in pages[:-1]:
        async with client.head(path) as response:
            assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/secrets", 404, "not_found"),
        ("GET", "/config/../../etc/passwd", 404, "not_found"),
        ("POST", "/config", 405, "method_not_allowed"),
        ("DELETE", "/endpoints", 405, "method_not_allowed"),
        ("OPTIONS", "/metrics", 405, "method_not_allowed"),
    ],
)
async def test_anything_else_is_a_json_error(
    client: ClientSession, method: str, path: str, status: int, code: str
) -> None:
    async with client.request(method, path) as response:
        assert response.status == status
        assert (await response.json())["error"]["code"] == code
        if status == 405:
            assert response.headers["Allow"] == "GET, HEAD"


async def test_a_page_that_fails_tells_nothing_of_why(
    client: ClientSession, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    state.endpoints = [object()]
    async with client.get("/endpoints") as response:
        body = await response.text()
        assert response.status == 500
    assert "internal_error" in body
    assert "object" not in body
    assert "the page /endpoints failed" in caplog.text


async def test_concurrent_readers_are_all_served(client: ClientSession) -> None:
    async def read(path: str) -> int:
        async with client.get(path) as response:
            await response.read()
            return response.status

    paths = ["/metrics", "/config", "/endpoints", "/readyz"] * 10
    assert set(await asyncio.gather(*map(read, paths))) == {200}


async def test_a_taken_address_is_an_error_and_leaves_nothing_open(state: State) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = AdminServer(state.view(), "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match="address"):
            await server.start()
    await server.stop()


async def test_it_can_be_stopped_without_having_been_started(state: State) -> None:
    await AdminServer(state.view(), "127.0.0.1", 0).stop()
