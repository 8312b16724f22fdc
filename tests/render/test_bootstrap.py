"""Files for Envoy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from extproc.envoyproxy.process import find_envoy
from extproc.render import dynamic_bootstrap, dynamic_files, render, static_bootstrap, to_yaml
from tests.render.harness import snapshot

EVERYTHING = """
gateway g:
  listener: {address: '::1', port: 8443}
  accessLog: {enabled: false}
  jwt:
  - {name: a, issuer: a, jwks: '{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256","kid":"1"}]}', audiences: [x]}
  - {name: b, issuer: b, required: true, jwks: '{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256","kid":"1"}]}'}
pool p:
  endpoints: [{address: 'engines.local:80'}, {address: '[::1]:80'}]
  outlierDetection: {consecutiveGatewayErrors: 3}
  connectionPool: {maxRequestsPerConnection: 10, tcpKeepaliveTime: 300s}
provider x: {host: 10.0.0.1, retries: {statusCodes: [429], 'on': ['5xx', gateway-error, retriable-4xx]}}
provider y: {host: api.example.com, outlierDetection: {}}
route r:
  host: '*.example.com'
  rules:
  - {matches: [{headers: {a: {regex: 'b.*'}}, path: {regex: '/.*'}}], backendRefs: [{pool: p}]}
  - {backendRefs: [{provider: x}, {provider: y}]}
"""


@pytest.mark.e2e
def test_envoy_accepts_everything_without_a_warning(tmp_path: Path) -> None:
    config = render(snapshot(EVERYTHING), "filters.local:18080,[::1]:18081")
    file = tmp_path / "envoy.yaml"
    file.write_text(to_yaml(static_bootstrap(config, "127.0.0.1:9901"), ""))
    command = [str(find_envoy()), "--mode", "validate", "-l", "warning", "-c", str(file)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.strip()) == (0, "")


def test_yaml_is_plain_and_commented() -> None:
    shared = {"a": 1}
    text = to_yaml({"z": shared, "y": shared, "text": "中文"}, "First\n\nlast")
    assert text == "# First\n#\n# last\nz:\n  a: 1\ny:\n  a: 1\ntext: 中文\n"


def test_the_same_resources_give_the_same_files(tmp_path: Path) -> None:
    files = dynamic_files(render(snapshot(EVERYTHING), "unix:/f"), tmp_path)
    assert files == dynamic_files(render(snapshot(EVERYTHING), "unix:/f"), tmp_path)
    other = dynamic_files(render(snapshot(EVERYTHING.replace("host: 10.0.0.1", "host: 10.0.0.2")), "unix:/f"), tmp_path)
    changed = {name for name in files if files[name].version != other[name].version}
    assert changed == {"cds.json", "rds.json"}


def test_files_are_discovery_responses_of_their_version(tmp_path: Path) -> None:
    for file in dynamic_files(render(snapshot(EVERYTHING), "unix:/f"), tmp_path).values():
        found = json.loads(file.text)
        assert sorted(found) == ["resources", "type_url", "version_info"]
        assert found["version_info"] == file.version
        assert {item["@type"] for item in found["resources"]} == {found["type_url"]}


def test_endpoints_of_agents_come_from_the_filter(tmp_path: Path) -> None:
    text = EVERYTHING + "pool filled: {membership: agents}\n"
    for address in ("unix:/f", "filter.local:80"):
        config = render(snapshot(text), address)
        (own,) = [cluster for cluster in config.clusters if cluster["name"] == "sluice"]
        wanted = own | {"name": "sluice-endpoints"}
        wanted["load_assignment"] = own["load_assignment"] | {"cluster_name": "sluice-endpoints"}
        alone, watching = static_bootstrap(config, "127.0.0.1:1"), dynamic_bootstrap(tmp_path, "127.0.0.1:1", config)
        assert wanted in alone["static_resources"]["clusters"]
        assert watching["static_resources"]["clusters"] == [wanted]
        assert alone["node"] == watching["node"]
    plain = static_bootstrap(render(snapshot(EVERYTHING), "unix:/f"), "127.0.0.1:1")
    assert "sluice-endpoints" not in str(plain)


def test_rendering_changes_no_config(tmp_path: Path) -> None:
    config = render(snapshot(EVERYTHING), "unix:/f")
    before = repr(config)
    static_bootstrap(config, "127.0.0.1:9901")
    dynamic_files(config, tmp_path)
    assert repr(config) == before


def test_the_admin_interface_may_be_a_socket(tmp_path: Path) -> None:
    config = render(snapshot(EVERYTHING), "unix:/f")
    found = yaml.safe_load(to_yaml(dynamic_bootstrap(tmp_path, f"unix:{tmp_path}/a", config), ""))
    assert found["admin"] == {"address": {"pipe": {"path": f"{tmp_path}/a"}}}
