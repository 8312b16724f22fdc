from __future__ import annotations

import json
from pathlib import Path

from extproc.resources.load import load
from extproc.resources.redact import to_builtins
from tests.resources.manifests import PROVIDER, gateway, route, write

ROUTE = route("""\
    - backendRefs: [{provider: acme}]
      requestHeaders: {set: {X-Api-Key: sk-header, x-tier: gold}}
    """)
JWT = gateway("""jwt: [{name: j, issuer: i, jwks: '{"keys": [{"kty": "oct", "k": "sk-jwt"}]}'}]\n""")


def test_references_are_shown_and_values_are_not(tmp_path: Path) -> None:
    text = PROVIDER + "    routeSpecificConfigs: {vip: {openAIConfig: {apiKey: sk-literal}}}\n"
    snapshot = load(write(tmp_path, a=text, b=ROUTE, c=JWT), environ={"KEY": "sk-environment"})
    shown = to_builtins(snapshot)
    configs = shown["providers"]["acme"]["spec"]["configs"]
    assert configs["defaultConfig"]["openAIConfig"] == {"model": "m1", "apiKey": "${KEY}", "mode": "override"}
    assert configs["routeSpecificConfigs"]["vip"]["openAIConfig"]["apiKey"] == "***"
    edits = shown["routes"]["r"]["spec"]["rules"][0]["requestHeaders"]
    assert edits["set"] == {"X-Api-Key": "***", "x-tier": "gold"}
    assert "sk-" not in json.dumps(shown)


def test_unredacted_it_is_what_was_written_and_never_what_it_stands_for(tmp_path: Path) -> None:
    snapshot = load(write(tmp_path, a=PROVIDER, b=ROUTE, c=JWT), environ={"KEY": "sk-environment"})
    text = json.dumps(to_builtins(snapshot, redacted=False))
    assert "sk-header" in text
    assert "sk-jwt" in text
    assert "sk-environment" not in text


def test_defaults_and_implied_routes_are_part_of_it(tmp_path: Path) -> None:
    shown = to_builtins(load(write(tmp_path, a=PROVIDER), environ={"KEY": "k"}))
    assert shown["gateway"]["spec"]["limits"]["requestBody"] == "32MiB"
    assert shown["providers"]["acme"]["spec"]["timeouts"]["perTry"] == "1m"
    assert shown["routes"]["acme"]["spec"]["host"] == "api.acme.example"
    assert "outlierDetection" not in shown["providers"]["acme"]["spec"]


def test_a_resource_that_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    first = load(write(tmp_path, a=PROVIDER, b=ROUTE), environ={"KEY": "k"})
    shown = to_builtins(first, redacted=False)
    again = tmp_path / "again"
    again.mkdir()
    documents = [shown["gateway"], *shown["providers"].values(), *shown["routes"].values()]
    for index, document in enumerate(documents):
        (again / f"{index}.yaml").write_text(json.dumps(document))
    found = to_builtins(load(again, environ={"KEY": "k"}), redacted=False)
    assert found == shown
