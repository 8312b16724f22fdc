"""What nobody sees: keys."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.certs import Certificates
from bench.provider import ProviderServer
from tests.e2e.talk import hello, last, send
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, provider, route

HOST = "api.example.com"
SECRETS = {name: f"sk-{name}-6f1c2b9d" for name in ("environment", "file", "literal", "wrong", "header")}


@pytest.fixture(scope="module")
def acme(far_side: FarSide, certificates: Certificates) -> ProviderServer:
    return far_side.provider(certificates, keys=[SECRETS[name] for name in ("environment", "file", "literal")])


@pytest.fixture(scope="module")
def gateway(
    acme: ProviderServer, gateways: Gateways, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Gateway:
    """One host for each way to name a key; `wrong` is a key that the provider refuses."""
    key_file = tmp_path_factory.mktemp("keys") / "key"
    key_file.write_text(SECRETS["file"])
    keys = {
        "environment": "${KEY}",
        "file": f"${{file:{key_file}}}",
        "literal": SECRETS["literal"],
        "wrong": "${WRONG}",
    }
    edits = {"set": {"x-upstream-token": SECRETS["header"]}}
    return gateways.start(
        *(provider(name, HOST, port=443, key=key) for name, key in keys.items()),
        *(route(name, f"{name}.test", {"backendRefs": [{"provider": name}], "requestHeaders": edits}) for name in keys),
        environ={"KEY": SECRETS["environment"], "WRONG": SECRETS["wrong"]},
        trustedCa=str(certificates.ca),
        hostAliases={HOST: acme.address},
        telemetry={"auditLog": True},
        split=True,
    )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


def envoy_admin(gateway: Gateway, path: str) -> str:
    connection = _UnixConnection(gateway.directory.parent / "admin.sock")
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def visible(gateway: Gateway) -> Iterator[tuple[str, str]]:
    """Everything that a person or another program can look at."""
    for page in ("/", "/healthz", "/readyz", "/config", "/metrics", "/endpoints"):
        yield page, gateway.admin_text(page)
    for page in ("/config_dump?include_eds", "/stats", "/clusters", "/listeners"):
        yield f"envoy {page}", envoy_admin(gateway, page)
    assert gateway.envoy is not None
    yield "log of the filter", gateway.filter.output()
    yield "log of Envoy", gateway.envoy.output()
    yield "access log", gateway.access_log.read_text()
    yield "Envoy's configuration", (gateway.directory.parent / "envoy.yaml").read_text()
    for path in (f"/proc/{gateway.filter.pid}/cmdline", f"/proc/{gateway.envoy.pid}/cmdline"):
        yield path, Path(path).read_text()


def test_keys_are_nowhere_to_be_seen(gateway: Gateway, acme: ProviderServer) -> None:
    answers = {}
    for name in ("environment", "file", "literal", "wrong"):
        for sim, status in (("", 200), ("status:500", 500)):
            reply = send(gateway, hello(model="m"), host=f"{name}.test", x_sim=sim)
            answers[f"answer of {name} {sim}"] = f"{reply.headers} {reply.body.decode()}"
            assert reply.status == (401 if name == "wrong" else status)
        assert last(acme).headers["authorization"] == f"Bearer {SECRETS[name]}"
        assert last(acme).headers["x-upstream-token"] == SECRETS["header"]
        gateway.log_line(target=f"provider/{name}")
    shown = dict(visible(gateway))
    assert "provider/literal" in shown["envoy /config_dump?include_eds"], "the search looks at the real thing"
    assert "provider/wrong" in shown["access log"]
    assert "provider/wrong" in shown["log of the filter"]
    pattern = re.compile("|".join(SECRETS.values()))
    assert {place for place, text in (shown | answers).items() if pattern.search(text)} == set()
