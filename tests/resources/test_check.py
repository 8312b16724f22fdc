"""Every cross-check: what it says, and that it stays silent for what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.resources.manifests import POOL, PROVIDER, gateway, route, said

TO_POOL = "- backendRefs: [{pool: gpus}]\n"


def test_a_complete_configuration_has_no_findings(tmp_path: Path) -> None:
    rules = """\
        - name: vip
          matches:
            - headers: {user-type: {exact: subscriber}, ":method": {regex: "POST|PUT"}}
              path: {prefix: /v1}
              model: {regex: "qwen.*"}
              sourceLabels: {team: shop}
              claims: {realm.tenant: {prefix: a}}
          backendRefs:
            - {providerHost: api.acme.example, weight: 0}
            - {provider: acme, weight: 3}
            - backendRef: {name: gpus, group: inference.networking.k8s.io}
        - backendRefs: [{pool: gpus}]
        """
    spec = """\
        sources: [{name: shop, cidrs: [10.0.0.1/8, "fd00::/8"], labels: {team: shop}}, {name: others}]
        jwt: [{name: j, issuer: me, jwks: '{"keys": [{"kty": "RSA"}]}'}]
        hostAliases: {api.acme.example: "[::1]:443"}
        """
    assert said(tmp_path, a=PROVIDER, b=POOL, c=route(rules), d=gateway(spec)) == []


def test_names_are_unique_within_a_kind(tmp_path: Path) -> None:
    same = route(TO_POOL, name="gpus")
    assert said(tmp_path, a=POOL, b=same, c=POOL) == [
        "c.yaml:3: InferencePool/gpus $.metadata.name: another InferencePool has this name; see a.yaml:1"
    ]


def test_one_gateway(tmp_path: Path) -> None:
    second = gateway("limits: {}\n").replace("main", "second")
    assert said(tmp_path, a=gateway("limits: {}\n"), b=second) == [
        "b.yaml:2: Gateway/second $.kind: there can be only one Gateway; see a.yaml:1"
    ]


def test_a_name_that_is_none(tmp_path: Path) -> None:
    assert said(tmp_path, a=POOL.replace("gpus", "'g p/u'")) == [
        "a.yaml:3: InferencePool/g p/u $.metadata.name: not a valid name; use up to 253 letters, digits, `.`, `_` and "
        "`-`, beginning and ending with a letter or digit"
    ]


def test_one_route_per_host(tmp_path: Path) -> None:
    first, second = route(TO_POOL, "r1"), route(TO_POOL, "r2")
    assert said(tmp_path, a=POOL, b=first, c=second) == [
        "c.yaml:5: LLMRoute/r2 $.spec.host: LLMRoute/r1 has this host already; put the rules into one route, see "
        "b.yaml:1"
    ]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("*", None),
        ("*.example.com", None),
        ("demo-llm-server", None),
        ("https://a.example/v1", "a host has no scheme (`https://`); write `a.example`"),
        ("a.example:8080", "a host has no port; write `a.example`: a route takes every port of its host"),
        ("a.example/v1", "a host has no path; write `a.example`"),
        ("A.example", "a host is written in lower case; write `a.example`"),
        ("a.*.example", "not a valid host name"),
        ("", "not a valid host name"),
    ],
)
def test_hosts_of_routes(tmp_path: Path, host: str, expected: str | None) -> None:
    found = said(tmp_path, a=POOL, b=route(TO_POOL, host=host))
    assert found == ([f"b.yaml:5: LLMRoute/r $.spec.host: {expected}"] if expected else [])


def test_hosts_of_providers(tmp_path: Path) -> None:
    text = PROVIDER.replace("api.acme.example", "api.acme.example:8443")
    assert said(tmp_path, a=text) == [
        "a.yaml:5: LLMProvider/acme $.spec.host: a host has no port; write `api.acme.example` and `port:` beside it"
    ]


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("pool: gpu", ".pool: there is no InferencePool `gpu`; did you mean `gpus`? (allowed: gpus)"),
        ("backendRef: {name: x}", ".backendRef: there is no InferencePool `x` (allowed: gpus)"),
        ("provider: acm", ".provider: there is no LLMProvider `acm`; did you mean `acme`? (allowed: acme)"),
        (
            "providerHost: api.acme.exmaple",
            ".providerHost: there is no LLMProvider with host `api.acme.exmaple`; did you mean `api.acme.example`? "
            "(allowed: api.acme.example)",
        ),
        (
            "pool: gpus, provider: acme",
            ": give exactly one of `providerHost`, `provider`, `pool`, `backendRef`; found `provider` and `pool`",
        ),
        ("weight: 1", ": give exactly one of `providerHost`, `provider`, `pool`, `backendRef`; found none"),
    ],
)
def test_destinations_exist(tmp_path: Path, ref: str, expected: str) -> None:
    text = route(f"- backendRefs:\n    - pool: gpus\n    - {{{ref}}}\n")
    assert said(tmp_path, a=PROVIDER, b=POOL, c=text) == [
        f"c.yaml:9: LLMRoute/r $.spec.rules[0].backendRefs[1]{expected}"
    ]


def test_weights_and_empty_lists(tmp_path: Path) -> None:
    zero = route("- backendRefs: [{pool: gpus, weight: 0}]\n", "r1", "a.example")
    none = route("- backendRefs: []\n", "r2", "b.example")
    rules = route("[]\n", "r3", "c.example")
    assert said(tmp_path, a=POOL, b=zero, c=none, d=rules) == [
        "b.yaml:7: LLMRoute/r1 $.spec.rules[0].backendRefs: all weights are 0, so no destination gets requests",
        "c.yaml:7: LLMRoute/r2 $.spec.rules[0].backendRefs: a rule needs at least one destination",
        "d.yaml:6: LLMRoute/r3 $.spec.rules: a route needs at least one rule",
    ]


@pytest.mark.parametrize("conditions", ["", "matches: [{}]\n  "])
def test_rules_after_the_default_are_never_reached(tmp_path: Path, conditions: str) -> None:
    text = route(f"- {conditions}backendRefs: [{{pool: gpus}}]\n- backendRefs: [{{pool: gpus}}]\n")
    (found,) = said(tmp_path, a=POOL, b=text)
    assert "warning: LLMRoute/r $.spec.rules[1]: this rule is never reached; `rules[0]` before it" in found


def test_two_rules_of_one_name(tmp_path: Path) -> None:
    text = route("- {name: x, matches: [{model: {exact: m}}], backendRefs: [{pool: gpus}]}\n" * 2)
    assert said(tmp_path, a=POOL, b=text) == [
        "b.yaml:8: warning: LLMRoute/r $.spec.rules[1].name: another rule of this route has this name"
    ]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("model: {}", ".model: give exactly one of `exact`, `prefix` and `regex`; found none"),
        (
            "model: {exact: a, regex: b}",
            ".model: give exactly one of `exact`, `prefix` and `regex`; found `exact` and `regex`",
        ),
        ('model: {regex: "(a"}', ".model.regex: not a valid RE2 pattern: missing ): (a"),
        (
            r'headers: {x: {regex: "(?=a)"}}',
            ".headers.x.regex: not a valid RE2 pattern: invalid perl operator: (?=",
        ),
        ('headers: {"a b": {exact: x}}', '.headers["a b"]: not a valid header name'),
        ("path: {exact: v1}", ".path.exact: must start with `/`"),
        ('path: {prefix: "/v1?x"}', ".path.prefix: must not hold white space, `?` or `#`"),
        (
            "claims: {sub: {exact: x}}",
            ".claims: claims are known only from verified tokens; name the issuer in `spec.jwt` of the Gateway",
        ),
        (
            "sourceLabels: {taem: shop}",
            ".sourceLabels.taem: no source of the Gateway has this label; did you mean `team`? (allowed: team)",
        ),
        (
            "sourceLabels: {team: chat}",
            ".sourceLabels.team: no source of the Gateway has this label with value `chat` (allowed: shop)",
        ),
    ],
)
def test_matches(tmp_path: Path, match: str, expected: str) -> None:
    text = route(f"- matches:\n    - {match}\n  backendRefs: [{{pool: gpus}}]\n")
    sources = gateway("sources: [{name: s, cidrs: [10.0.0.0/8], labels: {team: shop}}]\n")
    assert said(tmp_path, a=POOL, b=text, c=sources) == [f"b.yaml:8: LLMRoute/r $.spec.rules[0].matches[0]{expected}"]


def test_source_labels_without_sources(tmp_path: Path) -> None:
    text = route("- {matches: [{sourceLabels: {team: shop}}], backendRefs: [{pool: gpus}]}\n")
    assert said(tmp_path, a=POOL, b=text) == [
        "b.yaml:7: LLMRoute/r $.spec.rules[0].matches[0].sourceLabels.team: no source of the Gateway has this label; "
        "give the Gateway `spec.sources` with labels"
    ]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ("remove: ['x-ratelimit-*', Server]", None),
        ("set: {x-a: b}", None),
        ("remove: ['x-*-y']", ".remove[0]: not a valid header name; a single `*` may end it"),
        ("remove: ['*']", ".remove[0]: not a valid header name; a single `*` may end it"),
        ("remove: [Host]", ".remove[0]: this header belongs to Envoy and cannot be edited"),
        ('set: {":path": x}', '.set[":path"]: not a valid header name'),
        ("set: {Content-Length: '1'}", ".set.Content-Length: this header belongs to Envoy and cannot be edited"),
        (r'set: {x-a: "b\r\nc: d"}', ".set.x-a: holds a line break or another control character"),
    ],
)
def test_header_edits(tmp_path: Path, edit: str, expected: str | None) -> None:
    text = route(f"- backendRefs: [{{pool: gpus}}]\n  responseHeaders: {{{edit}}}\n")
    found = said(tmp_path, a=POOL, b=text)
    assert found == ([f"b.yaml:8: LLMRoute/r $.spec.rules[0].responseHeaders{expected}"] if expected else [])


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
        "a.yaml:5: InferencePool/gpus $.spec.endpoints: a pool needs at least one endpoint"
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
