"""The examples in `envoy/` are current, hold no key and are accepted by Envoy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from extproc.envoyproxy.process import find_envoy
from extproc.render.clusters import clusters
from extproc.render.examples import examples
from tests.render.harness import snapshot

DIRECTORY = Path(__file__).parents[2] / "envoy"
CURRENT = examples(DIRECTORY)
CA = "/etc/ssl/certs/ca-certificates.crt"


def test_they_are_what_the_samples_say() -> None:
    assert {file.name: file.read_text() for file in DIRECTORY.glob("*.yaml")} == CURRENT, "run `make render`"


def test_they_hold_no_key() -> None:
    assert not [name for name, text in CURRENT.items() if "example-key" in text]


@pytest.mark.e2e
@pytest.mark.parametrize("name", CURRENT)
def test_envoy_accepts_them(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(CURRENT[name].replace(CA, _system_ca()))
    command = [str(find_envoy()), "--mode", "validate", "-l", "warning", "-c", str(tmp_path / name)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.strip()) == (0, "")


def _system_ca() -> str:
    provider = clusters(snapshot("provider a: {host: a.example}"), "unix:/f")[-1]
    context = provider["transport_socket"]["typed_config"]["common_tls_context"]
    return str(context["validation_context"]["trusted_ca"]["filename"])
