"""A real gateway for tests: real Envoy, real filter process, manifests written for the occasion."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import BIN, Process, free_port, http_status, wait_until

API = "sluice.dev/v1alpha1"
USAGE = {"usage": os.environ["SLUICE_TEST_USAGE"]} if "SLUICE_TEST_USAGE" in os.environ else {}
"""Who counts tokens, where a whole run of the tests shall say so."""
Manifest = dict[str, Any]


def manifest(kind: str, name: str, **spec: Any) -> Manifest:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def provider(name: str, host: str, *, port: int, key: str | None = "${KEY}", **spec: Any) -> Manifest:
    """A provider; `model`, `stream` and `mode` in `spec` go to its `openAIConfig`."""
    names = {"model", "stream", "mode"} & spec.keys()
    config = {name_: spec.pop(name_) for name_ in names} | ({"apiKey": key} if key else {})
    return manifest(
        "LLMProvider",
        name,
        host=host,
        port=port,
        configs={"defaultConfig": {"openAIConfig": config}},
        **({} if key else {"authentication": "none"}),
        **spec,
    )


def route(name: str, host: str, *rules: Mapping[str, Any]) -> Manifest:
    return manifest("LLMRoute", name, host=host, rules=list(rules))


def pool(name: str, addresses: Sequence[str], **spec: Any) -> Manifest:
    return manifest("InferencePool", name, endpoints=[{"address": address} for address in addresses], **spec)


def write_manifests(directory: Path, *manifests: Manifest) -> None:
    """Replaces the whole configuration at once, as a deployment would: by renaming one file into place."""
    temporary = directory / ".all.yaml.new"
    temporary.write_text(yaml.safe_dump_all(manifests, allow_unicode=True), encoding="utf-8")
    temporary.rename(directory / "all.yaml")


@dataclass
class Gateway:
    """Where a running gateway is reached, and what it wrote."""

    directory: Path
    port: int
    admin_port: int
    filter: Process
    envoy: Process | None = None
    """Envoy's own process where the filter does not run it."""
    access_log: Path = field(default_factory=Path)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def admin_text(self, path: str) -> str:
        with urllib.request.urlopen(self.admin + path, timeout=10) as response:  # noqa: S310 the test's own server
            text: str = response.read().decode()
            return text

    def metric(self, name: str, **labels: str) -> float:
        """Sum of all series of a metric that have these labels."""
        total = 0.0
        for line in self.admin_text("/metrics").splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{key}="{wanted}"' in head for key, wanted in labels.items()):
                total += float(value)
        return total

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.access_log.read_text().splitlines() if line.endswith("}")]

    def log_line(self, **wanted: object) -> dict[str, Any]:
        """The newest access log line with these values; waits for it, as Envoy writes lines a little later."""

        def find() -> dict[str, Any] | None:
            fitting = [line for line in self.log_lines() if all(line.get(k) == v for k, v in wanted.items())]
            return fitting[-1] if fitting else None

        wait_until(find, f"an access log line with {wanted}", 20)
        found = find()
        assert found is not None
        return found

    def configure(self, *manifests: Manifest) -> None:
        """Writes a new configuration and waits until it is in force."""
        generation = self.metric("sluice_config_generation")
        write_manifests(self.directory, *manifests, self.gateway_manifest())
        wait_until(lambda: self.metric("sluice_config_generation") > generation, "the new configuration", 30)

    def gateway_manifest(self) -> Manifest:
        return self._gateway

    _gateway: Manifest = field(default_factory=dict)


class Gateways:
    """Starts gateways; all of them end with the `with` block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._count = 0

    def __enter__(self) -> Gateways:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def start(
        self,
        *manifests: Manifest,
        environ: Mapping[str, str] | None = None,
        split: bool = False,
        **gateway_spec: Any,
    ) -> Gateway:
        """Runs `sluice run`, or with `split` a `sluice serve` and an Envoy with the rendered file beside it.

        `gateway_spec` adds to the `Gateway` manifest, such as `trustedCa` or `limits`.
        """
        self._count += 1
        place = self._directory / f"gateway{self._count}"
        (place / "config").mkdir(parents=True)
        log = place / "access.log"
        log.touch()
        port, admin_port = free_port(), free_port()
        spec = {
            "listener": {"port": port},
            "admin": {"port": admin_port},
            "accessLog": {"path": str(log)},
            **USAGE,
            **gateway_spec,
        }
        own = manifest("Gateway", "test", **spec)
        write_manifests(place / "config", *manifests, own)
        environ = {"KEY": "sk-simulated", **(environ or {})}
        gateway = Gateway(place / "config", port, admin_port, None, None, log, own)  # type: ignore[arg-type]
        if split:
            self._start_split(gateway, place, environ)
        else:
            command = [sys.executable, "-m", "extproc", "run", "-c", str(gateway.directory)]
            gateway.filter = self._process(command, place / "run.log", environ)
        self.wait_ready(gateway)
        return gateway

    def start_filter(self, gateway: Gateway, environ: Mapping[str, str] | None = None) -> None:
        """Starts the filter of a split gateway, again after it was killed."""
        place = gateway.directory.parent
        command = [sys.executable, "-m", "extproc", "serve", "-c", str(gateway.directory)]
        command += ["--listen", f"unix:{place / 'filter.sock'}"]
        gateway.filter = self._process(command, place / "filter.log", {"KEY": "sk-simulated", **(environ or {})})
        gateway.filter.wait_ready(lambda: http_status(f"{gateway.admin}/readyz") == 200, "the filter")

    def wait_ready(self, gateway: Gateway) -> None:
        gateway.filter.wait_ready(lambda: http_status(f"{gateway.admin}/readyz") == 200, "the filter")
        wait_until(lambda: http_status(f"{gateway.url}/v1/models"), "Envoy's listener")

    def _start_split(self, gateway: Gateway, place: Path, environ: Mapping[str, str]) -> None:
        self.start_filter(gateway, environ)
        rendered = place / "envoy.yaml"
        command = [sys.executable, "-m", "extproc", "render", "envoy", "-c", str(gateway.directory)]
        command += ["--filter", f"unix:{place / 'filter.sock'}", "--envoy-admin", f"unix:{place / 'admin.sock'}"]
        render = Process([*command, "-o", str(rendered)], place / "render.log", environ)
        assert render.wait() == 0, render.output()
        envoy = [str(BIN / "envoy"), "-c", str(rendered), "--concurrency", "1", "--disable-hot-restart"]
        envoy += ["-l", "warning", "--file-flush-interval-msec", "100"]
        gateway.envoy = self._process(envoy, place / "envoy.log", {})

    def _process(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> Process:
        return self._stack.enter_context(Process(command, log, environ))
