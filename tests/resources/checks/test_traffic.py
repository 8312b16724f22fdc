"""Traffic policies and labels: everything that a check refuses, or warns of."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from extproc.resources.load import load
from tests.resources.manifests import POOL, PROVIDER, gateway, route, said

ROUTE = route("- backendRefs: [{pool: gpus}]\n  name: x\n")
SOURCES = gateway("sources:\n  - {name: shop, cidrs: [10.0.0.0/8], labels: {team: web}}\nlabels: {tier: {header: x}}\n")


def policy(kind: str, spec: str, name: str = "p") -> str:
    """A policy whose `spec` begins on line 5."""
    head = f"apiVersion: sluice.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n"
    return head + textwrap.indent(textwrap.dedent(spec), "  ")


def rate(capacity: str = "10", fill: str = "1", more: str = "", parameters: str = "", name: str = "p") -> str:
    limiter = (
        f"bucketCapacity: {capacity}, fillAmount: {fill}, parameters: {{{parameters}}}{', ' if more else ''}{more}"
    )
    return policy("RateLimitingPolicy", f"rateLimiter: {{{limiter}}}\n", name)


def scheduler(text: str) -> str:
    return policy(
        "ConcurrencySchedulingPolicy", f"concurrencyScheduler: {{maxConcurrency: 4, scheduler: {{{text}}}}}\n"
    )


def ramp(steps: str, drivers: str = "") -> str:
    more = f"drivers: {{{drivers}}}\n" if drivers else ""
    return policy("LoadRampingPolicy", f"loadRamp: {{steps: [{steps}]}}\n{more}")


def step(percentage: int) -> str:
    return f"{{targetAcceptPercentage: {percentage}, duration: 1m}}"


def thresholds(**values: float) -> str:
    criteria = ", ".join(f"{name}: {{threshold: {value}}}" for name, value in values.items())
    return f"averageLatencyDrivers: [{{criteria: {{{criteria}}}}}]"


def workload(name: str, tier: str = "") -> str:
    matcher = f"labelMatcher: {{matchLabels: {{tier: {tier}}}}}, " if tier else ""
    return f"{{name: {name}, {matcher}parameters: {{priority: 2}}}}"


def caching(text: str) -> str:
    return policy("CachingPolicy", f"cache: {{{text}}}\n")


def adaptive(text: str) -> str:
    return policy("AverageLatencySchedulingPolicy", f"{text}\n")


MATCHES = "selectors: [{labelMatcher: {%s}}]"
EXPRESSION = "matchExpressions: [{key: tier, operator: %s}]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (rate(fill="0"), ".rateLimiter.fillAmount: 0 is out of range; must be more than 0"),
        (rate(fill="-1"), ".rateLimiter.fillAmount: -1 is out of range"),
        (rate(capacity="0.5"), ".rateLimiter.bucketCapacity: 0.5 is out of range; must be at least 1"),
        (rate(parameters="interval: 0s"), ".rateLimiter.parameters.interval: must be more than 0"),
        (
            rate(capacity="100", more="unit: tokens"),
            "warning: RateLimitingPolicy/p $.spec.rateLimiter.bucketCapacity: ",
        ),
        (
            rate(parameters="limitByLabelKey: teir"),
            "limitByLabelKey: nothing gives a label `teir`; did you mean `tier`?",
        ),
        (rate(parameters="limitByLabelKey: claim.sub"), "no token is verified, so there are no claims"),
        (
            rate(parameters="limitByLabelKey: source.taem"),
            "no source of the Gateway has this label; did you mean `team`",
        ),
        (rate(parameters="limitByLabelKey: 'http.request.header.a b'"), "not a valid header name"),
        (rate(more="selectors: [{service: chat.exmple}]"), "no LLMRoute has this host; did you mean `chat.example`?"),
        (rate(more=MATCHES % "matchLabels: {nobody: x}"), "matchLabels.nobody: nothing gives a label `nobody`"),
        (rate(more=MATCHES % (EXPRESSION % "In")), "matchExpressions[0].values: In needs at least one value"),
        (rate(more=MATCHES % (EXPRESSION % "'Exists', values: [a]")), ".values: Exists takes no values"),
        (rate(more=MATCHES % "matchLabels: {http.request.header.X-Api-Key: k}"), "policies see a digest of it only"),
        (rate(more=MATCHES % "matchPatterns: [{key: tier}]"), "matchPatterns[0]: give `prefix` or `regex`"),
        (rate(more=MATCHES % "matchPatterns: [{key: tier, regex: '('}]"), "regex: not a valid RE2 pattern"),
        (
            rate(more=MATCHES % (f"matchLabels: {{tier: a}}, {EXPRESSION % 'NotIn, values: [a]'}")),
            ".selectors[0]: matches nothing: no value of label `tier`",
        ),
        (scheduler(f"workloads: [{workload('a', 'x')}, {workload('a', 'y')}]"), "workloads[1].name: the name is taken"),
        (scheduler(f"workloads: [{workload('default', 'x')}]"), "workloads[0].name: the name is taken"),
        (scheduler(f"workloads: [{workload('a')}, {workload('b', 'y')}]"), "workload 'a' takes them all"),
        (scheduler("workloads: [{name: a, parameters: {priority: 0}}]"), "priority: 0 is out of range"),
        (scheduler("workloads: [{name: a, parameters: {priority: -2}}]"), "priority: -2 is out of range"),
        (scheduler("fairnessKey: nobody"), "fairnessKey: nothing gives a label `nobody`"),
        (scheduler("priorityLabelKey: http.request.header.x"), "clients choose their own priority"),
        (scheduler("maxSize: 0"), "maxSize: 0 is out of range"),
        (ramp(""), ".loadRamp.steps: a ramp needs at least one step"),
        (ramp(f"{step(50)}, {step(10)}"), "steps[1].targetAcceptPercentage: is below the step before"),
        (ramp("{targetAcceptPercentage: 5, duration: 0s}"), "steps[0].duration: must be more than 0"),
        (ramp(step(5), thresholds(forward=3000, backward=2000)), "a loop: the threshold of forward, 3000, is above"),
        (ramp(step(5), thresholds(forward=3000, reset=2000)), "a loop: the threshold of forward"),
        (ramp(step(5), thresholds(backward=3000, reset=2000)), "a loop: the threshold of backward"),
        (ramp(step(5), "errorRateDrivers: [{criteria: {}}]"), "criteria: give at least one of"),
        (
            ramp(step(5), "errorRateDrivers: [{criteria: {reset: {threshold: 5}}}]"),
            "criteria.reset.threshold: an error rate is a part of 1; for 5 % write 0.05",
        ),
        (caching("scopeLabelKeys: []"), "warning: CachingPolicy/p $.spec.cache.scopeLabelKeys: tenants see each other"),
        (caching("maxSize: 1KiB, maxEntrySize: 1MiB"), "maxEntrySize: is above maxSize"),
        (adaptive("latencyBaseliner: {longTermQueryInterval: 30s}"), "must be longer than shortTermQueryInterval"),
        (adaptive("loadSchedulingCore: {setpoint: 0}"), "setpoint: 0 is out of range; must be more than 0"),
        (
            adaptive("loadSchedulingCore: {aimdLoadScheduler: {gradient: {minGradient: 0.9, maxGradient: 0.5}}}"),
            "minGradient: is above maxGradient",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    found = said(tmp_path, a=text, b=PROVIDER, c=POOL, d=ROUTE, e=SOURCES)
    assert len(found) == 1, found
    assert found[0].startswith("a.yaml:6: " if "drivers" in found[0] else "a.yaml:5: ")
    assert problem in found[0]


def test_policies_of_every_spelling_are_good(tmp_path: Path) -> None:
    text = policy(
        "RateLimitingPolicy",
        """\
        rate_limiter:
          bucket_capacity: 50
          fill_amount: 5
          parameters: {interval: 30s, limit_by_label_key: http.request.header.user_id}
          selectors:
            - service: any
              label_matcher:
                match_labels: {http.request.header.user_type: guest}
                match_expressions: [{key: tenant, operator: NotIn, values: [ops]}, {key: tier, operator: Exists}]
                match_patterns: [{key: source.team, prefix: we}]
        """,
    )
    assert said(tmp_path, a=text, b=PROVIDER, c=POOL, d=ROUTE, e=SOURCES) == []
    assert list(load(tmp_path, environ={"KEY": "k"}).traffic) == ["RateLimitingPolicy/p"]


def test_a_gateway_without_pools_has_no_saturation(tmp_path: Path) -> None:
    found = said(tmp_path, a=adaptive("loadSchedulingCore: {signal: saturation}"), b=PROVIDER)
    assert [each for each in found if "there is no InferencePool to be saturated" in each] == found != []


@pytest.mark.parametrize(
    ("labels", "line", "problem"),
    [
        ("host: {value: x}", 6, "$.spec.labels.host: every request has a label of this name already"),
        ("claim.sub: {value: x}", 6, "every request has a label of this name already"),
        ("1st: {value: x}", 6, "not a valid name of a label"),
        ("tier: {}", 6, "give exactly one of `header`, `claim` and `cel`, or `value` alone; found none"),
        ("tier: {header: a, cel: '\"b\"'}", 6, "found `header` and `cel`"),
        ("tier: {header: 'a b'}", 6, "labels.tier.header: not a valid header name"),
        ("tier: {claim: sub}", 6, "labels.tier.claim: no token is verified"),
        ("tier: {cel: '1 +'}", 6, "labels.tier.cel: no CEL expression"),
        ("tier: {cel: 'headers.x'}", 6, "labels.tier.cel: unknown name 'headers'"),
        ("tier: {cel: 'labels.tenat'}", 6, "nothing gives a label `tenat`; did you mean `tenant`?"),
        ("tier: {cel: 'labels.rank'}\nrank: {header: rank}", 6, "reads `rank`, which is not declared above it"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, labels: str, line: int, problem: str) -> None:
    found = said(tmp_path, a=gateway(f"labels:\n{textwrap.indent(labels, '  ')}\n"), b=PROVIDER)
    assert len(found) == 1, found
    assert found[0].startswith(f"a.yaml:{line}: Gateway/main ")
    assert problem in found[0]


def test_labels_may_read_those_above_and_the_tenant_its_own_default(tmp_path: Path) -> None:
    labels = """\
    labels:
      tenant: {cel: 'labels["tenant"] == "shop" ? labels["http.request.header.x-team"] : labels["tenant"]'}
      tier: {cel: 'labels.tenant == "acme" ? "gold" : "bronze"', value: bronze}
    """
    assert said(tmp_path, a=gateway(labels), b=PROVIDER) == []


CLASHES = [
    (
        rate(fill="1"),
        rate(fill="2", name="q"),
        "RateLimitingPolicy/p contradicts it for the same requests; see a.yaml:1",
    ),
    (rate(), rate(name="q"), "RateLimitingPolicy/p says the same of the same requests"),
    (ramp(step(5)), ramp(step(6)).replace("name: p", "name: q"), "LoadRampingPolicy/p contradicts it"),
    (caching("ttl: 1m"), caching("ttl: 2m").replace("name: p", "name: q"), "CachingPolicy/p contradicts it"),
]


@pytest.mark.parametrize(("first", "second", "problem"), CLASHES)
def test_two_policies_that_contradict_each_other(tmp_path: Path, first: str, second: str, problem: str) -> None:
    found = [each for each in said(tmp_path, a=first, b=second, c=PROVIDER) if "warning: " not in each]
    assert len(found) == 1
    assert found[0].startswith("b.yaml:4: ")
    assert problem in found[0]


@pytest.mark.parametrize(
    "second",
    [
        rate(capacity="500", fill="1000", parameters="interval: 1h", name="q"),
        rate(fill="2", parameters="limitByLabelKey: source", name="q"),
        rate(fill="2", more="selectors: [{labelMatcher: {matchLabels: {source: a}}}]", name="q"),
        rate(fill="2", name="q") + "  dryRun: true\n",
    ],
)
def test_policies_that_only_look_alike(tmp_path: Path, second: str) -> None:
    assert said(tmp_path, a=rate(), b=second, c=PROVIDER) == []


def test_limits_that_are_never_reached(tmp_path: Path) -> None:
    slow = rate(capacity="50", fill="100", parameters="interval: 10s", name="q")
    assert ["never reached: RateLimitingPolicy/p is tighter" in each for each in said(
        tmp_path, a=rate(), b=slow, c=PROVIDER
    )] == [True]  # fmt: skip


def test_a_limit_before_a_queue_of_the_same_size(tmp_path: Path) -> None:
    limit = policy("ConcurrencyLimitingPolicy", "concurrencyLimiter: {maxConcurrency: 4}\n")
    found = said(tmp_path, a=limit, b=scheduler("maxSize: 9"), c=PROVIDER)
    assert len(found) == 1
    assert "nothing ever waits: ConcurrencyLimitingPolicy/p refuses before" in found[0]


def test_the_order_of_selectors_makes_no_difference(tmp_path: Path) -> None:
    one, two = "{labelMatcher: {matchLabels: {source: a}}}", "{labelMatcher: {matchLabels: {source: b}}}"
    first, second = rate(more=f"selectors: [{one}, {two}]"), rate(fill="3", more=f"selectors: [{two}, {one}]", name="q")
    assert any("contradicts" in each for each in said(tmp_path, a=first, b=second, c=PROVIDER))


def test_nothing_is_said_of_names_that_an_unreadable_file_may_hold(tmp_path: Path) -> None:
    found = said(tmp_path, a=rate(parameters="limitByLabelKey: elsewhere"), b="kind: [", c=PROVIDER)
    assert [each for each in found if "elsewhere" in each] == []


@pytest.mark.parametrize(
    ("ordering", "warned"), [("", True), ("ordering: fifo, ", True), ("ordering: shortest, ", False)]
)
@pytest.mark.parametrize("setting", ["guard: slack", "guard: none", "slack: 4", "slack: 8"])
def test_a_guard_without_an_order_to_guard_is_a_warning(
    tmp_path: Path, ordering: str, setting: str, *, warned: bool
) -> None:
    key = setting.partition(":")[0]
    text = policy(
        "ConcurrencySchedulingPolicy",
        f"concurrencyScheduler:\n  maxConcurrency: 4\n  scheduler:\n    {{{ordering}\n    {setting}}}\n",
    )
    found = said(tmp_path, p=text, pool=POOL, r=ROUTE)
    if not warned:
        assert found == []
        return
    (only,) = found
    place = f"$.spec.concurrencyScheduler.scheduler.{key}: "
    assert ":9: warning: ConcurrencySchedulingPolicy/p " + place + "has no effect with `ordering: fifo`" in only
