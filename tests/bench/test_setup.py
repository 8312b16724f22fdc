"""The quickstart finds its parts in the manifests and says which port is taken."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest

from bench import certs
from bench.setup import HOSTS, KEYS, LOCAL, TakenError, certificates, claim_ports, read_setup
from tests.support.processes import free_port

MANIFESTS = """\
kind: Gateway
apiVersion: sluice.dev/v1alpha1
metadata: {{name: gateway}}
spec:
  listener: {{port: {port}}}
  admin: {{port: 19001}}
  hostAliases: {{a.example: "127.0.0.1:19002", b.example: "127.0.0.1:19002", c.example: "10.0.0.1:443"}}
---
kind: InferencePool
apiVersion: sluice.dev/v1alpha1
metadata: {{name: gpus}}
spec: {{models: [m], endpoints: [{{address: "127.0.0.1:19003"}}, {{address: "10.0.0.2:8000"}}]}}
"""


def test_it_serves_what_the_manifests_point_at_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(MANIFESTS.format(port=19000))
    setup = read_setup(tmp_path, KEYS)
    assert (setup.url, setup.admin) == ("http://127.0.0.1:19000", "http://127.0.0.1:19001")
    assert setup.providers == {19002: ("a.example", "b.example")}
    assert setup.engines == {19003: ("m",)}
    assert [port for port, _ in setup.ports()] == [19000, 19001, 19002, 19003]


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "all.yaml").write_text(MANIFESTS.format(port=port))
    with socket.create_server((LOCAL, port)), pytest.raises(TakenError) as error:
        claim_ports(read_setup(tmp_path, KEYS))
    assert f"Port {port} cannot be had for the gateway" in str(error.value)


def test_certificates_stay_while_they_are_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = certificates(tmp_path).ca.read_bytes()
    assert certificates(tmp_path).ca.read_bytes() == first
    monkeypatch.setattr(certs, "LIFETIME", timedelta(hours=1))
    short = certs.make_certificates(tmp_path, HOSTS).ca.read_bytes()
    assert certificates(tmp_path).ca.read_bytes() != short
