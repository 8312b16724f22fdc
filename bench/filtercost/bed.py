"""The test bed: one Envoy for every filter, the filters, and the destination behind all of them."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from bench.filtercost import manifests
from bench.filtercost.processes import Child, accepts, free_ports
from bench.filtercost.variants import LANES, Variant

_STATS = "http.gateway.ext_proc.sluice."


@dataclass(frozen=True, slots=True)
class Lane:
    """An Envoy and its filter, if it has one."""

    port: int
    admin: int
    envoy: Child
    filter: Child | None

    def messages(self) -> tuple[int, int]:
        """Streams opened and messages sent to the filter so far."""
        if self.filter is None:
            return 0, 0
        stats = json.loads(fetch(f"http://127.0.0.1:{self.admin}/stats?format=json&filter=ext_proc"))["stats"]
        values = {each["name"]: each["value"] for each in stats if "value" in each}
        return values[_STATS + "streams_started"], values[_STATS + "stream_msgs_sent"]


class Bed:
    """Everything runs from `start` until the `with` block ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.lanes: dict[str, Lane] = {}
        self.ready_seconds = 0.0
        """From the start of `sluice serve` until its `/readyz` says yes: the median of several starts."""

    def __enter__(self) -> Self:
        self.place = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-")))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, starts: int) -> None:
        """Starts Sluice `starts` times, then all the rest. Raises RuntimeError with the output of what fails."""
        listener, sluice_admin, self._provider, *endpoints = free_ports(6)
        self._upstream([self._provider, *endpoints])
        directory = self.place / "manifests"
        directory.mkdir()
        manifests.write_manifests(
            directory, listener=listener, admin=sluice_admin, provider=self._provider, endpoints=endpoints
        )
        address = f"unix:{self.place}/sluice.sock"
        times = [self._time_start(directory, address, sluice_admin) for _ in range(starts - 1)]
        sluice, last = self._sluice(self._stack, directory, address, sluice_admin)
        self.ready_seconds = statistics.median([*times, last])
        filters: dict[str, tuple[Child | None, str | None]] = {"sluice": (sluice, address), "none": (None, None)}
        filters["grpcio"] = self._another("grpcio", directory, sluice_admin, "--transport", "grpcio")
        filters["native"] = self._another("native", directory, sluice_admin)
        for kind in ("plain", "own"):
            filters[kind] = self._empty(kind)
        rendered = self._render(directory, address)
        counting = self._render(self.place / "native", address)
        for name in LANES:
            self.lanes[name] = self._lane(name, counting if name == "native" else rendered, *filters[name])

    def seen(self) -> dict[str, Any]:
        """What the destination has got: counters and the last request."""
        found: dict[str, Any] = json.loads(fetch(f"http://127.0.0.1:{self._provider}/seen"))
        return found

    def check(self, variant: Variant, body: bytes) -> None:
        """Sends one request through and looks at what arrives: the variants must do what they are measured for.

        Raises RuntimeError.
        """
        lane = self.lanes[variant.lane]
        headers = {"Host": variant.host, "Content-Type": "application/json", "Authorization": "Bearer client"}
        try:
            answer = fetch(f"http://127.0.0.1:{lane.port}/v1/chat/completions", body, headers).decode()
        except RuntimeError as error:
            log = lane.filter.output() if lane.filter is not None else ""
            raise RuntimeError(f"{variant.title}: {error}\n{log}") from None
        seen = self.seen()
        arrived = seen["head"].lower() + seen["body"]
        facts = {
            "the target model": (manifests.TARGET_MODEL in arrived, variant.edits),
            "the provider's key": (f"bearer {manifests.KEY}" in arrived, variant.edits and not variant.steers),
            "a chosen endpoint": ("x-gateway-destination-endpoint" in arrived, variant.steers),
            "a request for usage": ('"include_usage":true' in arrived, variant.edits and b'"stream":true' in body),
            "usage in the client's stream": ("prompt_tokens" in answer, b'"stream":true' not in body),
        }
        for what, (found, wanted) in facts.items():
            if found is not wanted:
                raise RuntimeError(f"{variant.title}: {'no ' if wanted else 'unexpectedly '}{what}:\n{arrived[:2000]}")

    def _upstream(self, ports: list[int]) -> None:
        command = [sys.executable, "-m", "bench.filtercost.upstream", *map(str, ports)]
        child = self._stack.enter_context(Child(command, self.place / "upstream.log"))
        child.await_ready(lambda: accepts(ports[-1]))

    def _another(self, name: str, directory: Path, admin: int, *options: str) -> tuple[Child, str]:
        """Sluice with the same configuration and an admin page elsewhere, so that it can run beside the first."""
        place, (own_admin,) = self.place / name, free_ports(1)
        shutil.copytree(directory, place)
        for file in place.iterdir():
            text = file.read_text().replace(f"admin: {{port: {admin}}}", f"admin: {{port: {own_admin}}}")
            file.write_text(text.replace("usage: filter", "usage: envoy") if name == "native" else text)
        address = f"unix:{self.place}/{name}.sock"
        return self._sluice(self._stack, place, address, own_admin, *options)[0], address

    def _sluice(
        self, stack: ExitStack, directory: Path, address: str, admin: int, *options: str
    ) -> tuple[Child, float]:
        command = [sys.executable, "-m", "extproc", "serve", "-c", str(directory), "--listen", address, *options]
        began = time.perf_counter()
        child = Child(
            [*command, "--log-level", "warning"],
            self.place / f"sluice-{directory.name}.log",
            {"BENCH_KEY": manifests.KEY},
        )
        stack.enter_context(child)
        child.await_ready(lambda: _answers(f"http://127.0.0.1:{admin}/readyz"))
        return child, time.perf_counter() - began

    def _time_start(self, directory: Path, address: str, admin: int) -> float:
        with ExitStack() as stack:
            return self._sluice(stack, directory, address, admin)[1]

    def _empty(self, kind: str) -> tuple[Child, str]:
        port = free_ports(1)[0]
        socket = self.place / f"{kind}.sock"
        address = f"127.0.0.1:{port}" if kind == "plain" else f"unix:{socket}"
        command = [sys.executable, "-m", "bench.filtercost.empty", kind, address]
        child = self._stack.enter_context(Child(command, self.place / f"{kind}.log"))
        child.await_ready(lambda: accepts(port) if kind == "plain" else socket.exists())
        return child, address

    def _render(self, directory: Path, address: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "extproc", "render", "envoy", "-c", str(directory), "--filter", address]
        environ = {**os.environ, "BENCH_KEY": manifests.KEY}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"`sluice render envoy` failed:\n{done.stderr}")
        config: dict[str, Any] = yaml.safe_load(done.stdout)
        return config

    def _lane(self, name: str, rendered: dict[str, Any], filter_: Child | None, address: str | None) -> Lane:
        port, admin = free_ports(2)
        if name in ("sluice", "grpcio", "native"):
            config = manifests.on_ports(rendered, listener=port, admin=admin, filter_address=address)
        else:
            config = manifests.without_sluice(rendered, listener=port, admin=admin, filter_address=address)
        file = self.place / f"envoy-{name}.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        command = [str(envoy_binary()), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        envoy = self._stack.enter_context(Child(command, self.place / f"envoy-{name}.log"))
        envoy.await_ready(lambda: _answers(f"http://127.0.0.1:{admin}/ready"))
        return Lane(port, admin, envoy, filter_)


def envoy_binary() -> Path:
    """The Envoy beside this Python, else the one on PATH. Raises RuntimeError if there is none."""
    found = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
    if found is None:
        raise RuntimeError("Envoy is not installed: run `make setup`")
    return Path(found)


def fetch(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
    """Body of the answer. Raises RuntimeError for any other status than 200."""
    request = urllib.request.Request(url, body, headers or {})  # noqa: S310 servers that this program started
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            data: bytes = response.read()
            return data
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url} answered {error.code}: {error.read()[:500]!r}") from None


def _answers(url: str) -> bool:
    try:
        fetch(url)
    except (RuntimeError, OSError):
        return False
    return True
