"""A gateway that is about to be treated badly, and what must still hold afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.engine.server import EngineServer
from bench.provider import ProviderServer
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, pool, provider, route
from tests.support.processes import wait_until
from tests.support.raw import RawConnection, Reply, request, send

LIMIT = 256 * 1024
"""Bytes of a request body."""
ANSWER_LIMIT = 2**20
"""Bytes of an answer that is held or decoded to be edited."""

CHAT = b'{"model":"qwen3-8b","messages":[{"role":"user","content":"hi"}]}'
STREAM = CHAT[:-1] + b',"stream":true}'

CLOUD = "cloud.test"
"""Goes to the provider, which answers at once."""
NAMED = "named.test"
"""Goes there too, and puts the requested model's name back into the answer."""
IMPATIENT = "impatient.test"
"""Goes there too, and waits one second at most for more of a request."""
GPUS = "gpus.test"
"""Goes to the pool."""
MODELS = "models.test"
"""Goes to the pool for `qwen3-8b` only."""
HEADERS = "headers.test"
"""Goes to the pool with `x-tier: gold` only."""


@dataclass
class Stage:
    gateway: Gateway
    provider: ProviderServer
    engine: EngineServer
    envoy: int
    """Process id of Envoy, the filter's child."""

    def send(self, data: bytes, method: str = "POST") -> Reply:
        """Bytes on a connection of their own."""
        return send(self.gateway.port, data, method)

    def post(self, body: bytes, host: str = CLOUD, **parts: Any) -> Reply:
        """A request with a true content-length, as `raw.request` makes it."""
        return self.send(request(body, host=host, **parts), parts.get("method", "POST"))

    def connect(self) -> RawConnection:
        return RawConnection(self.gateway.port)

    def arrived(self) -> dict[str, Any]:
        """The latest request as the provider saw it: `method`, `path`, `headers`, `body`."""
        found: dict[str, Any] = self.provider.recorder.snapshot()["last"]
        return {**found, "headers": {name.lower(): value for name, value in found["headers"]}}

    def count(self) -> int:
        """Requests that reached the provider."""
        return self.provider.recorder.seen

    def in_flight(self) -> float:
        metric = self.gateway.metric
        return metric("sluice_exchanges_in_flight") + metric("sluice_endpoint_in_flight")

    def open_files(self) -> tuple[int, int]:
        """Of the filter and of Envoy."""
        return _open_files(self.gateway.filter.pid), _open_files(self.envoy)

    def resident(self) -> tuple[int, int]:
        """Bytes of memory that the filter and Envoy occupy."""
        return _resident(self.gateway.filter.pid), _resident(self.envoy)

    def check_unharmed(self) -> None:
        """Nothing is in flight any more, no process is another one, the filter met no fault, requests are served."""
        wait_until(lambda: self.in_flight() == 0, "every exchange to end")
        assert self.gateway.filter.alive()
        assert _children(self.gateway.filter.pid) == [self.envoy]
        log = self.gateway.filter.output()
        assert "Traceback" not in log, log
        assert self.post(CHAT).json["model"] == "qwen-turbo"
        assert self.post(CHAT, NAMED).json["model"] == "qwen3-8b"
        assert self.post(CHAT[:-1] + b',"max_tokens":1}', GPUS).status == 200


@contextmanager
def stage(far_side: FarSide, gateways: Gateways) -> Iterator[Stage]:
    """A running gateway in front of a plain provider and a pool of one engine; checked to be unharmed at the end."""
    cloud, engine = far_side.provider(), far_side.engine(time_scale=20.0)
    hosts = (CLOUD, NAMED, IMPATIENT)
    to_pool = {"backendRefs": [{"pool": "gpus"}]}
    gateway = gateways.start(
        pool("gpus", [engine.address]),
        *(_provider(host) for host in hosts),
        *(
            route(host, host, {"backendRefs": [{"providerHost": host}], **_ANY_PATH, **_EXTRA.get(host, {})})
            for host in hosts
        ),
        route("gpus", GPUS, to_pool),
        route("models", MODELS, {"matches": [{"model": {"exact": "qwen3-8b"}}], **to_pool}),
        route("headers", HEADERS, {"matches": [{"headers": {"x-tier": {"exact": "gold"}}}], **to_pool}),
        limits={"requestBody": LIMIT, "responseBody": ANSWER_LIMIT},
        hostAliases=dict.fromkeys(hosts, cloud.address),
    )
    [envoy] = _children(gateway.filter.pid)
    found = Stage(gateway, cloud, engine, envoy)
    found.check_unharmed()
    yield found
    found.check_unharmed()


_ANY_PATH: dict[str, Any] = {"matches": [{"path": {"prefix": "/"}}]}
"""The key of the provider is lent for whatever is asked."""
_EXTRA = {NAMED: {"responseModel": "requested"}}


def _provider(host: str) -> Manifest:
    more: Manifest = {"timeouts": {"idle": "1s"}} if host == IMPATIENT else {}
    return provider(host.partition(".")[0], host, port=80, protocol="http", model="qwen-turbo", **more)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _resident(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
