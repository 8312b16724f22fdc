"""Cross-checks of names and routes: what each says, and that it stays silent for what is right."""

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
        (
            'headers: {x: {regex: ""}}',
            ".headers.x.regex: an empty pattern fits the empty value only; write `exact: ''`",
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
