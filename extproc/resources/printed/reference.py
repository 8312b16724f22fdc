"""The configuration reference, written from the same source as the schema, so that it cannot fall behind."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from extproc.resources.base import Duration, Size
from extproc.resources.load import KINDS
from extproc.resources.printed.schema import default_of, description, field_docs, structs
from extproc.resources.shape import struct_type, unwrap

_INTRODUCTION = """\
# Configuration reference

Manifests are YAML files (`*.yaml`, `*.yml`) in one directory, with one or several documents each. `apiVersion` is
`sluice.dev/v1alpha1` or `istio.alibabacloud.com/v1beta1`; plain Kubernetes objects (`apiVersion: v1`) may stand
beside them and are not read. A field that is not listed here is an error. `sluice check` tells what is wrong and where;
`sluice schema` prints the same as JSON Schema.

Words such as `on`, `yes` and `1:30` are strings, as in YAML 1.2. A duration is a number with a unit (`250ms`, `10s`,
`1m30s`, `1h`), a size is a number of bytes or has a unit (`512KiB`, `32MiB`).
"""

_EXAMPLES = {
    "Gateway": """\
apiVersion: sluice.dev/v1alpha1
kind: Gateway
metadata:
  name: main
spec:
  listener:
    address: 0.0.0.0
    port: 10000
  limits:
    requestBody: 8MiB
  sources:
    - name: checkout
      cidrs: [10.1.0.0/16]
      labels: {team: shop}
    - name: others
""",
    "InferencePool": """\
apiVersion: sluice.dev/v1alpha1
kind: InferencePool
metadata:
  name: qwen3-8b
spec:
  models: [qwen3-8b]
  endpoints:
    - address: 10.0.0.11:8000
    - address: vllm.models.svc.cluster.local:8000
""",
    "LLMProvider": """\
apiVersion: sluice.dev/v1alpha1
kind: LLMProvider
metadata:
  name: dashscope
spec:
  host: dashscope.aliyuncs.com
  path: /compatible-mode/v1/chat/completions
  configs:
    defaultConfig:
      openAIConfig:
        model: qwen-turbo
        apiKey: ${DASHSCOPE_API_KEY}
    routeSpecificConfigs:
      vip:
        openAIConfig:
          model: qwen-max
""",
    "LLMRoute": """\
apiVersion: sluice.dev/v1alpha1
kind: LLMRoute
metadata:
  name: chat
spec:
  host: chat.internal
  rules:
    - name: vip
      matches:
        - headers:
            user-type: {exact: subscriber}
      backendRefs:
        - providerHost: dashscope.aliyuncs.com
    - name: shared
      backendRefs:
        - pool: qwen3-8b
          weight: 80
        - providerHost: dashscope.aliyuncs.com
          weight: 20
""",
    "LLMSecurityPolicy": """\
apiVersion: sluice.dev/v1alpha1
kind: LLMSecurityPolicy
metadata:
  name: external
spec:
  targets:
    providers: [dashscope]
  inspect:
    response: true
  denyPatterns: ['(?i)project\\s+aurora']
  actions:
    PERSON: mask
    IP_ADDRESS: mask
""",
    "RateLimitingPolicy": """\
apiVersion: sluice.dev/v1alpha1
kind: RateLimitingPolicy
metadata:
  name: example
spec:
  rateLimiter:
    bucketCapacity: 20000
    fillAmount: 1000
    unit: tokens
    parameters:
      interval: 1s
      limitByLabelKey: http.request.header.user-id
""",
    "QuotaSchedulingPolicy": """\
apiVersion: sluice.dev/v1alpha1
kind: QuotaSchedulingPolicy
metadata:
  name: example
spec:
  quotaScheduler:
    bucketCapacity: 100
    fillAmount: 10
    scheduler:
      workloads:
        - name: interactive
          labelMatcher:
            matchLabels: {http.request.header.user-type: subscriber}
          parameters: {priority: 200}
""",
    "ConcurrencyLimitingPolicy": """\
apiVersion: sluice.dev/v1alpha1
kind: ConcurrencyLimitingPolicy
metadata:
  name: example
spec:
  concurrencyLimiter:
    maxConcurrency: 4
    parameters:
      limitByLabelKey: http.request.header.user-id
""",
    "ConcurrencySchedulingPolicy": """\
apiVersion: sluice.dev/v1alpha1
kind: ConcurrencySchedulingPolicy
metadata:
  name: example
spec:
  concurrencyScheduler:
    maxConcurrency: 64
    scheduler:
      fairnessKey: tenant
      ordering: shortest
""",
    "AverageLatencySchedulingPolicy": """\
apiVersion: sluice.dev/v1alpha1
kind: AverageLatencySchedulingPolicy
metadata:
  name: example
spec:
  loadSchedulingCore:
    signal: ttft
  latencyBaseliner:
    latencyToleranceMultiplier: 1.25
""",
    "LoadRampingPolicy": """\
apiVersion: sluice.dev/v1alpha1
kind: LoadRampingPolicy
metadata:
  name: example
spec:
  drivers:
    averageLatencyDrivers:
      - criteria:
          forward: {threshold: 2000}
          reset: {threshold: 8000}
  loadRamp:
    sampler: {labelKey: http.request.header.user-id}
    steps:
      - {targetAcceptPercentage: 5, duration: 1m}
      - {targetAcceptPercentage: 100, duration: 10m}
""",
    "CachingPolicy": """\
apiVersion: sluice.dev/v1alpha1
kind: CachingPolicy
metadata:
  name: example
spec:
  cache:
    ttl: 10m
    scopeLabelKeys: [tenant]
""",
}


def example(kind: str) -> str:
    """A manifest of this kind. All of them together are a complete configuration that needs `DASHSCOPE_API_KEY`.

    Raises KeyError for a kind that does not exist.
    """
    return _EXAMPLES[kind]


def reference_markdown() -> str:
    """The whole reference: an example per kind and a table per struct."""
    lines = [_INTRODUCTION]
    for each in structs():
        is_kind = each in KINDS.values()
        lines.append(f"## {each.__name__}\n" if is_kind else f"### {each.__name__}\n")
        if text := description(each):
            lines.append(f"{text}\n")
        if is_kind:
            lines.append(f"```yaml\n{example(each.__name__)}```\n")
        lines.append(_table(each))
    return "\n".join(lines)


def _table(kind: type[msgspec.Struct]) -> str:
    docs = field_docs(kind)
    rows = ["| field | type | default | description |", "|---|---|---|---|"]
    for field in struct_type(kind).fields:
        cells = [f"`{field.encode_name}`", type_text(field.type), _default_text(field), docs.get(field.name, "")]
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def type_text(kind: inspect.Type) -> str:
    """A type in words, structs as links."""
    kind = unwrap(kind)
    if isinstance(kind, inspect.StructType):
        return f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})"
    if isinstance(kind, inspect.CustomType):
        return {Duration: "duration", Size: "size"}[kind.cls]
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, inspect.ListType):
        return f"list of {type_text(kind.item_type)}"
    if isinstance(kind, inspect.DictType):
        return f"map of {type_text(kind.value_type)}"
    if isinstance(kind, inspect.UnionType):
        return " or ".join(type_text(each) for each in kind.types if not isinstance(each, inspect.NoneType))
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        word = "integer" if isinstance(kind, inspect.IntType) else "number"
        above = "" if kind.gt is None else f", more than {kind.gt}"
        return word + above + _bounds(kind.ge, kind.le)
    names: dict[type[inspect.Type], str] = {inspect.StrType: "string", inspect.BoolType: "boolean"}
    return names.get(type(kind), "any value")


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else f", at most {high}" if high is not None else ""


def _default_text(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value: Any = default_of(field)
    if value is NODEFAULT or value in ({}, [], ""):
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"
