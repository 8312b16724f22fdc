from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extproc.resources.load import KINDS, examine, load
from extproc.resources.problems import ConfigurationError
from extproc.resources.snapshot import provider_settings
from tests.resources.manifests import ENVIRON, POOL, PROVIDER, gateway, route, said, write

QUICKSTART = Path(__file__).parents[2] / "deploy" / "quickstart"

# The documents' own manifests, in their published form.
PUBLISHED = """\
apiVersion: istio.alibabacloud.com/v1beta1
kind: LLMProvider
metadata:
  name: dashscope-qwen
spec:
  host: dashscope.aliyuncs.com
  path: /compatible-mode/v1/chat/completions
  configs:
    defaultConfig:
      openAIConfig:
        model: qwen-1.8b-chat # 千问开源系列大模型
        stream: false
        apiKey: ${dashscope的API_KEY}
    routeSpecificConfigs:
      vip-route:
        openAIConfig:
          model: qwen-turbo # 订阅用户使用qwen-turbo模型
          stream: false
          apiKey: ${dashscope的API_KEY}
---
apiVersion: istio.alibabacloud.com/v1beta1
kind: LLMRoute
metadata:
  name: dashscope-route
spec:
  host: dashscope.aliyuncs.com
  rules:
  - name: vip-route
    matches:
    - headers:
        user-type:
          exact: subscriber
    backendRefs:
    - providerHost: dashscope.aliyuncs.com
  - backendRefs:
    - providerHost: dashscope.aliyuncs.com
---
apiVersion: v1
kind: Service
metadata:
  name: demo-llm-server
"""


def test_the_published_manifests_load_unchanged(tmp_path: Path) -> None:
    snapshot = load(write(tmp_path, all=PUBLISHED), environ={"dashscope的API_KEY": "k"})
    provider = snapshot.providers["dashscope-qwen"]
    assert provider_settings(provider, "").model == "qwen-1.8b-chat"
    assert provider_settings(provider, "vip-route").model == "qwen-turbo"
    vip, default = snapshot.routes["dashscope-route"].spec.rules
    assert vip.matches[0].headers["user-type"].exact == "subscriber"
    assert default.matches == []


def test_the_quickstart_needs_only_its_keys_and_its_certificate() -> None:
    environ = {"dashscope的API_KEY": "a", "Moonshot的API_KEY": "b"}
    found = examine(QUICKSTART, environ=environ)
    assert {each.path for each in found.problems} <= {"$.spec.trustedCa"}
    assert {each.path.rsplit(".", 1)[1] for each in examine(QUICKSTART, environ={}).problems} <= {"apiKey", "trustedCa"}


def test_an_unknown_field_names_the_nearest_and_the_allowed(tmp_path: Path) -> None:
    text = PROVIDER.replace("  host:", "  hots: x\n  host:").replace(
        "configs:\n", "configs:\n    defautlConfig: {}\n", 1
    )
    assert said(tmp_path, providers=text) == [
        "providers.yaml:5: LLMProvider/acme $.spec.hots: unknown field; did you mean `host`? (allowed: authentication, "
        "configs, connectionPool, host, includeUsage, keyHeader, outlierDetection, path, port, protocol, retries, "
        "timeouts)",
        "providers.yaml:8: LLMProvider/acme $.spec.configs.defautlConfig: unknown field; did you mean `defaultConfig`? "
        "(allowed: defaultConfig, routeSpecificConfigs)",
    ]


def test_all_problems_of_all_documents_are_found_at_once(tmp_path: Path) -> None:
    wrong_route = route("""\
        - backendRefs:
            - pool: gpus
              weight: -1
            - pool: [gpus]
              wieght: 2
        """)
    pool = POOL + "  retryCount: 9\n  metrics: {interval: 5}\n"
    assert said(tmp_path, a=wrong_route, b=pool) == [
        "a.yaml:9: LLMRoute/r $.spec.rules[0].backendRefs[0].weight: -1 is out of range; must be at least 0 and at "
        "most 1000000",
        "a.yaml:10: LLMRoute/r $.spec.rules[0].backendRefs[1].pool: expected a string, found a list",
        "a.yaml:11: LLMRoute/r $.spec.rules[0].backendRefs[1].wieght: unknown field; did you mean `weight`? "
        "(allowed: backendRef, model, pool, provider, providerHost, weight)",
        "b.yaml:6: InferencePool/gpus $.spec.retryCount: 9 is out of range; must be at least 0 and at most 5",
        "b.yaml:7: InferencePool/gpus $.spec.metrics.interval: 5 is not a duration: write a number with a unit, such "
        "as 250ms, 10s or 5m",
    ]


def test_kinds_and_versions(tmp_path: Path) -> None:
    text = (
        "apiVersion: sluice.dev/v1alpha1\nkind: LLMProvidr\n---\n"
        "apiVersion: sluice.dev/v1\nkind: InferencePool\nspec: {endpoints: []}\n---\n"
        "metadata: {}\n---\n"
        "- a list\n"
    )
    kinds = f"(allowed: {', '.join(sorted(KINDS))})"
    assert said(tmp_path, a=text) == [
        f"a.yaml:2: LLMProvidr $.kind: unknown kind; did you mean `LLMProvider`? {kinds}",
        "a.yaml:4: InferencePool $.apiVersion: unknown version; did you mean `sluice.dev/v1alpha1`? "
        "(allowed: istio.alibabacloud.com/v1beta1, sluice.dev/v1alpha1)",
        "a.yaml:4: InferencePool $: missing field `metadata`",
        f"a.yaml:8: $.kind: missing field `kind` {kinds}",
        "a.yaml:10: $: expected a mapping with `apiVersion`, `kind`, `metadata` and `spec`",
    ]


def test_plain_kubernetes_objects_are_not_read(tmp_path: Path) -> None:
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {spec: [1]}\n"
    assert said(tmp_path, a=other, b=POOL) == []


def test_a_number_where_a_string_belongs(tmp_path: Path) -> None:
    text = route("- matches: [{headers: {x-tier: {exact: 8}}}]\n  backendRefs: [{pool: gpus}]\n")
    assert said(tmp_path, a=text, b=POOL) == [
        "a.yaml:7: LLMRoute/r $.spec.rules[0].matches[0].headers.x-tier.exact: expected a string, found a number; "
        "put the value in quotes"
    ]


def test_a_syntax_error_and_what_stands_before_it(tmp_path: Path) -> None:
    text = f"{POOL}  polcy: x\n---\na: [\n"
    first, second = said(tmp_path, a=text)
    assert first.startswith("a.yaml:6: InferencePool/gpus $.spec.polcy: unknown field; did you mean `policy`?")
    assert second == "a.yaml:9: not valid YAML: while parsing a flow node, did not find expected node content"


def test_nothing_is_called_missing_that_a_broken_document_may_hold(tmp_path: Path) -> None:
    broken = PROVIDER.replace("host:", "hots:")
    found = said(tmp_path, a=broken, b=route("- backendRefs: [{providerHost: api.acme.example}]\n"))
    assert [each.split(":")[0] for each in found] == ["a.yaml", "a.yaml"]


def test_directories_without_manifests(tmp_path: Path) -> None:
    (tmp_path / "sub.yaml").mkdir()
    assert said(tmp_path)[0].endswith("holds no manifests; they are named *.yaml or *.yml")
    assert [str(each) for each in examine(tmp_path / "none", environ={}).problems] == [
        f"{tmp_path / 'none'}: cannot be read: No such file or directory"
    ]
    service = "apiVersion: v1\nkind: Service\n"
    assert "no manifest of any kind that is known here" in said(tmp_path, a=service)[0]


def test_load_raises_with_everything_and_warnings_alone_do_not(tmp_path: Path) -> None:
    literal = PROVIDER.replace("${KEY}", "sk-literal")
    assert load(write(tmp_path, a=literal), environ={}).providers["acme"].spec.host == "api.acme.example"
    write(tmp_path, b=POOL.replace("10.0.0.1:8000", "x"))
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, environ={})
    assert [each.severity for each in caught.value.problems] == ["warning", "error"]
    assert "sk-literal" not in str(caught.value)


def test_several_places_and_names_relative_to_each(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(f"sk-{name}\n")
    write(tmp_path / "one", a=PROVIDER.replace("${KEY}", "${file:key}"))
    write(tmp_path / "two", b=PROVIDER.replace("${KEY}", "${file:key}").replace("acme", "other"), c="not read: [")
    snapshot = load([tmp_path / "one", tmp_path / "two" / "b.yaml"], environ={})
    assert snapshot.directory == tmp_path / "one"
    references = {
        name: str(provider.spec.configs.default_config.open_ai_config.api_key)
        for name, provider in snapshot.providers.items()
    }
    assert references == {"acme": "${file:key}", "other": f"${{file:{tmp_path / 'two' / 'key'}}}"}


def test_yml_files_are_read_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(POOL)
    (tmp_path / "b.json").write_text("{")
    assert list(load(tmp_path, environ={}).pools) == ["gpus"]


def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("nowhere")
    assert said(tmp_path) == ["a.yaml: cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    "config",
    ["sk-mark", "[sk-mark]", "{apiKey: {x: sk-mark}}", "{apikey: sk-mark}", "{mode: sk-mark}", "{apiKey: $sk-mark}"],
)
def test_a_key_in_the_wrong_place_is_not_printed(tmp_path: Path, config: str) -> None:
    (found, *_) = said(tmp_path, a=PROVIDER.replace('{model: m1, apiKey: "${KEY}"}', config))
    assert "openAIConfig" in found
    assert "sk-mark" not in found


VALID = "---\n".join([PROVIDER, POOL, route("- backendRefs: [{pool: gpus, weight: 1}]\n"), gateway("limits: {}\n")])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=st.binary(max_size=200))
def test_garbage_is_only_ever_a_configuration_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.yaml").write_bytes(raw)
    with pytest.raises(ConfigurationError):
        load(tmp_path, environ=ENVIRON)


SNIPPETS = [
    "[",
    "]",
    "{",
    "}",
    ":",
    "- ",
    "&a ",
    "*a",
    "!!int ",
    '"',
    "'",
    "\n",
    "  ",
    "null",
    "1e999",
    "~",
    "|\n",
    "? ",
    "<<",
    "\x00",
]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, len(VALID)), cut=st.integers(0, 40), put=st.sampled_from(SNIPPETS) | st.text(max_size=8))
def test_damaged_manifests_load_or_are_refused(tmp_path: Path, at: int, cut: int, put: str) -> None:
    text = VALID[:at] + put + VALID[at + cut :]
    (tmp_path / "a.yaml").write_bytes(text.encode("utf-8", "replace"))
    found = examine(tmp_path, environ=ENVIRON)
    assert all(str(each) for each in found.problems)


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    kind=st.sampled_from(["LLMProvider", "LLMRoute", "InferencePool", "Gateway"]),
    field=st.sampled_from(
        ["host", "rules", "endpoints", "configs", "jwt", "sources", "hostAliases", "trustedCa", "retries"]
    ),
    value=YAML_VALUES,
)
def test_any_value_in_any_field_loads_or_is_refused(tmp_path: Path, kind: str, field: str, value: object) -> None:
    document = {"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": "n"}, "spec": {field: value}}
    # JSON is YAML, and it writes every value the same way on every run.
    (tmp_path / "a.yaml").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8", errors="replace")
    found = examine(tmp_path, environ=ENVIRON)
    assert (found.snapshot is None) == any(each.severity == "error" for each in found.problems)
