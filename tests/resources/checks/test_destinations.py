from __future__ import annotations

from pathlib import Path

import pytest

from tests.resources.manifests import POOL, PROVIDER, route, said

SHARED = "---\n".join([PROVIDER, PROVIDER.replace("name: acme", "name: acme2")])


def test_providers_that_share_a_host_are_named_by_routes(tmp_path: Path) -> None:
    rules = "- backendRefs: [{provider: acme}, {provider: acme2}]\n"
    assert said(tmp_path, a=SHARED, b=route(rules, host="api.acme.example")) == []
    by_host = route("- backendRefs: [{providerHost: api.acme.example}]\n", host="api.acme.example")
    assert said(tmp_path, a=SHARED, b=by_host) == [
        "b.yaml:7: LLMRoute/r $.spec.rules[0].backendRefs[0].providerHost: 2 providers have this host; "
        "write `provider:` with one of acme, acme2"
    ]


def test_a_shared_host_without_a_route_goes_to_the_first(tmp_path: Path) -> None:
    assert said(tmp_path, a=SHARED) == [
        "a.yaml:14: warning: LLMProvider/acme2 $.spec.host: requests for this host go to LLMProvider/acme, which has "
        "it too; add an LLMRoute for the host that says `provider:`"
    ]


def test_settings_for_a_rule_that_does_not_exist(tmp_path: Path) -> None:
    text = PROVIDER + "    routeSpecificConfigs: {vip: {}, vpi: {}}\n"
    rules = "- {name: vip, backendRefs: [{provider: acme}]}\n"
    assert said(tmp_path, a=text, b=route(rules)) == [
        "a.yaml:9: warning: LLMProvider/acme $.spec.configs.routeSpecificConfigs.vpi: no rule of this name sends "
        "requests to this provider; did you mean `vip`? (allowed: vip)"
    ]


KEYLESS = PROVIDER.replace(', apiKey: "${KEY}"', "")


def test_a_provider_without_a_key(tmp_path: Path) -> None:
    hint = "write `apiKey: ${NAME}` here, or `authentication: none` into the spec"
    path = "LLMProvider/acme $.spec.configs.defaultConfig.openAIConfig"
    assert said(tmp_path, a=KEYLESS) == [f"a.yaml:8: {path}: no apiKey for a rule without a name; {hint}"]
    assert said(tmp_path, a=KEYLESS + "  authentication: none\n") == []
    assert said(tmp_path, a="\n".join(KEYLESS.splitlines()[:5])) == [
        f"a.yaml:4: {path}: no apiKey for a rule without a name; {hint}"
    ]


def test_a_key_for_every_rule_is_enough(tmp_path: Path) -> None:
    text = KEYLESS + '    routeSpecificConfigs: {vip: {openAIConfig: {apiKey: "${KEY}"}}}\n'
    vip = "- {name: vip, matches: [{model: {exact: m}}], backendRefs: [{provider: acme}]}\n"
    other = "- {name: rest, backendRefs: [{provider: acme}]}\n"
    assert said(tmp_path, a=text, b=route(vip, host="api.acme.example")) == []
    (found,) = said(tmp_path, a=text, b=route(vip + other, host="api.acme.example"))
    assert "openAIConfig: no apiKey for rule `rest`;" in found


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("${KEY}", None),
        ("${中文的KEY}", None),
        ("${file:good}", None),
        (
            "${NONE}",
            "environment variable `NONE` is not set; set it, or write `${file:PATH}` to read a file",
        ),
        ("${EMPTY}", "environment variable `EMPTY` is empty; set it, or write `${file:PATH}` to read a file"),
        ("${file:none}", "file none cannot be read: No such file or directory"),
        ("${file:empty}", "file empty is empty"),
        ("${file:lines}", "file lines holds a line break or another character that no header can carry"),
        ("${file:binary}", "file binary is not text"),
        ("${file:.}", "file  cannot be read: Is a directory"),
        ("$KEY", "not a reference to a key; `${NAME}` reads the environment, `${file:PATH}` a file"),
        ("${KEY", "not a reference to a key; `${NAME}` reads the environment, `${file:PATH}` a file"),
        ("${}", "not a reference to a key; `${NAME}` reads the environment, `${file:PATH}` a file"),
        ("", "the key is empty"),
    ],
)
def test_references_to_keys(tmp_path: Path, key: str, expected: str | None) -> None:
    for name, raw in {"good": b"k\n", "empty": b" \n", "lines": b"a\nb", "binary": b"\xff\xfe"}.items():
        (tmp_path / name).write_bytes(raw)
    environ = {"KEY": "k", "EMPTY": "", "中文的KEY": "k"}
    found = said(tmp_path, environ=environ, a=PROVIDER.replace("${KEY}", key))
    path = "a.yaml:8: LLMProvider/acme $.spec.configs.defaultConfig.openAIConfig.apiKey"
    if key == "${file:.}":
        assert "cannot be read: Is a directory" in found[0]
    else:
        assert found == ([f"{path}: {expected}"] if expected else [])


def test_a_literal_key_is_a_warning_that_does_not_show_it(tmp_path: Path) -> None:
    assert said(tmp_path, a=PROVIDER.replace("${KEY}", "sk-123")) == [
        "a.yaml:8: warning: LLMProvider/acme $.spec.configs.defaultConfig.openAIConfig.apiKey: a key in a manifest is "
        "easily copied and committed; write `${NAME}` to read the environment or `${file:PATH}` to read a file"
    ]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1:8000", None),
        ("[fd00::1]:8000", None),
        ("vllm.models.svc:8000", None),
        ("http://10.0.0.1:8000", "an address has no scheme: expected `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`"),
        ("10.0.0.1", "expected `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`"),
        ("fd00::1:8000", "expected `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`"),
        ("10.0.0.1:0", "the port must be from 1 to 65535"),
        ("10.0.0.1:70000", "the port must be from 1 to 65535"),
        ("10.0.0.256:80", "not an IP address or DNS name: expected `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`"),
        ("[10.0.0.1]:80", "not an IPv6 address: expected `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`"),
        ("a b:80", "not an IP address or DNS name: expected `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`"),
    ],
)
def test_addresses_of_endpoints(tmp_path: Path, address: str, expected: str | None) -> None:
    found = said(tmp_path, a=POOL.replace("10.0.0.1:8000", address))
    path = "a.yaml:5: InferencePool/gpus $.spec.endpoints[0].address"
    assert found == ([f"{path}: not a valid address: {expected}"] if expected else [])


def test_endpoints_are_there_and_different(tmp_path: Path) -> None:
    twice = POOL.replace('{address: "10.0.0.1:8000"}', '{address: "a:1"}, {address: "A:1"}')
    assert said(tmp_path, a=twice) == [
        "a.yaml:5: InferencePool/gpus $.spec.endpoints[1].address: the same address as `endpoints[0]`"
    ]
    assert said(tmp_path, a=POOL.replace('{address: "10.0.0.1:8000"}', "")) == [
        "a.yaml:5: InferencePool/gpus $.spec.endpoints: a pool needs at least one endpoint; "
        "list them, or write `membership: agents` for those that agents register"
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("metrics: {interval: 0s}", ".metrics.interval: must be more than 0 and at most a year"),
        ("timeouts: {idle: 9000000h}", ".timeouts.idle: must be more than 0 and at most a year"),
        ("metrics: {path: metrics}", ".metrics.path: must start with `/`"),
        ("timeouts: {idle: 1m30s}", None),
    ],
)
def test_durations_and_paths_of_pools(tmp_path: Path, spec: str, expected: str | None) -> None:
    found = said(tmp_path, a=f"{POOL}  {spec}\n")
    assert found == ([f"a.yaml:6: InferencePool/gpus $.spec{expected}"] if expected else [])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("path: v1", ".path: must start with `/`"),
        ("keyHeader: {name: 'x y'}", ".keyHeader.name: not a valid header name"),
        ("keyHeader: {name: Host}", ".keyHeader.name: this header belongs to Envoy and cannot be edited"),
        (r'keyHeader: {prefix: "a\n"}', ".keyHeader.prefix: holds a line break or another control character"),
        ("keyHeader: {name: api-key, prefix: ''}", None),
        ("retries: {on: [reset, 5xx], statusCodes: [429]}", None),
        (
            "retries: {on: [yes]}",
            ".retries.on[0]: unknown value (allowed: 5xx, connect-failure, gateway-error, refused-stream, reset, "
            "retriable-4xx)",
        ),
    ],
)
def test_values_of_providers(tmp_path: Path, spec: str, expected: str | None) -> None:
    found = said(tmp_path, a=f"{PROVIDER}  {spec}\n")
    assert found == ([f"a.yaml:9: LLMProvider/acme $.spec{expected}"] if expected else [])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("least-requests", "unknown policy 'least-requests'; did you mean `least-request`?"),
        ("pd-split", "unknown policy 'pd-split'; means `static-pd`"),
        ("{name: prefix-cache, parameters: {ownWeigth: 1}}", "its parameters are "),
        ("{name: round-robin, parameters: {a: 1}}", "its parameters are none"),
        ("'no.such.module:Policy'", "cannot be made: No module named 'no'"),
    ],
)
def test_a_policy_that_is_not_there_or_takes_no_such_parameter(tmp_path: Path, policy: str, message: str) -> None:
    (found,) = said(tmp_path, pool=POOL + f"  policy: {policy}\n")
    assert "InferencePool/gpus $.spec.policy: " in found
    assert message in found


def test_policies_with_and_without_parameters(tmp_path: Path) -> None:
    for policy in ("static-pd", "{name: prefix-cache, parameters: {ownWeight: 1.5, sessionWeight: 0.3}}"):
        assert said(tmp_path, pool=POOL + f"  policy: {policy}\n") == []


def test_a_session_header_that_no_policy_looks_at_is_a_warning(tmp_path: Path) -> None:
    (found,) = said(tmp_path, pool=POOL + "  sessionHeader: x-session\n")
    assert "warning: InferencePool/gpus $.spec.sessionHeader: prefix-cache keeps no sessions together" in found
    weighed = POOL + "  sessionHeader: x\n  policy: {name: least-request, parameters: {sessionWeight: 0.3}}\n"
    assert said(tmp_path, pool=weighed) == []
