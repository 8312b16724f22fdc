"""Traffic policies and labels from manifests to what flow control works with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extproc.live.policies import labelling_of, labels_used, policies_of
from extproc.resources.base import decode_hook
from extproc.resources.kinds import traffic
from extproc.resources.load import KINDS, examine, load
from extproc.resources.printed.reference import example
from extproc.resources.snapshot import Snapshot
from extproc.scheduling import policy
from extproc.scheduling.flow import Flow
from extproc.scheduling.labels import AnyOf, Condition, compile_match
from extproc.scheduling.workloads import LabelMatcher, Workload, WorkloadParameters
from extproc.spec import Duration
from extproc.steps.labels import FIXED, PREDICTED
from tests.resources.manifests import POOL, write

RAMP = """\
apiVersion: sluice.dev/v1alpha1
kind: LoadRampingPolicy
metadata: {name: p}
spec:
  drivers:
    averageLatencyDrivers:
      - criteria: {forward: {threshold: 2000}, backward: {threshold: 4000}, reset: {threshold: 8000}}
      - criteria: {forward: {threshold: 1500}}
    errorRateDrivers:
      - criteria: {backward: {threshold: 0.05}}
  loadRamp:
    sampler: {labelKey: tenant}
    steps: [{targetAcceptPercentage: 5, duration: 1m}, {targetAcceptPercentage: 100, duration: 10m}]
"""

SELECTED = """\
apiVersion: sluice.dev/v1alpha1
kind: RateLimitingPolicy
metadata: {name: p}
spec:
  rateLimiter:
    bucketCapacity: 10
    fillAmount: 60
    parameters: {interval: 30s, limitByLabelKey: http.request.header.user_id, delayInitialFill: true, maxKeys: 7}
    unit: tokens
    reserve: max_tokens
    selectors:
      - service: a.example
        labelMatcher:
          matchLabels: {user_type: guest}
          matchExpressions: [{key: model, operator: NotIn, values: [m1, m2]}, {key: tier, operator: DoesNotExist}]
      - labelMatcher: {matchPatterns: [{key: team, prefix: web-}, {key: team, regex: '.*-[0-9]+'}]}
"""


def snapshot_of(tmp_path: Path, *texts: str, labels: str = "") -> Snapshot:
    """The policies as they are written, whatever a check would say of their labels and hosts."""
    read = {}
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.yaml").write_text(text)
        resource = msgspec.convert(msgspec.yaml.decode(text), KINDS[_kind(text)], dec_hook=decode_hook)
        assert isinstance(resource, traffic.TrafficPolicy)
        read[f"{resource.kind}/{resource.metadata.name}"] = resource
    gateway = f"apiVersion: sluice.dev/v1alpha1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {{labels: {{{labels}}}}}\n"
    resource = msgspec.convert(msgspec.yaml.decode(gateway), KINDS["Gateway"], dec_hook=decode_hook)
    return Snapshot(gateway=resource, traffic=read)  # type: ignore[arg-type]


def _kind(text: str) -> str:
    return text.partition("kind: ")[2].partition("\n")[0]


@pytest.fixture
def every(tmp_path: Path) -> policy.Policies:
    """The policies of the reference, one of each kind."""
    texts = {kind.lower(): example(kind) for kind in KINDS}
    return policies_of(load(write(tmp_path, **texts), environ={"DASHSCOPE_API_KEY": "k"}))


def test_every_kind_is_converted_in_the_order_of_processing(every: policy.Policies) -> None:
    assert [each.name for each in every.every()] == [
        f"{kind}/example"
        for kind in (
            "LoadRampingPolicy",
            "RateLimitingPolicy",
            "ConcurrencyLimitingPolicy",
            "CachingPolicy",
            "AverageLatencySchedulingPolicy",
            "QuotaSchedulingPolicy",
            "ConcurrencySchedulingPolicy",
        )
    ]
    (rate,), (quota,), (slots,) = every.rates, every.quotas, every.slots
    assert (rate.bucket_capacity, rate.fill_amount, rate.interval, rate.unit) == (20000, 1000, 1.0, "tokens")
    assert quota.scheduler.workloads[0] == Workload(
        name="interactive",
        label_matcher=LabelMatcher(match_labels={"http.request.header.user-type": "subscriber"}),
        parameters=WorkloadParameters(priority=200, queue_timeout=Duration(10)),
    )
    assert (slots.scheduler.fairness_key, slots.scheduler.ordering) == ("tenant", "shortest")
    assert every.adaptive[0].signal == "ttft"
    assert every.caches[0].ttl == 600.0


def test_selectors_become_conditions_any_of_which_fits(tmp_path: Path) -> None:
    (rate,) = policies_of(snapshot_of(tmp_path, SELECTED)).rates
    assert rate.match == (
        AnyOf(
            (
                (
                    Condition("host", "equals", ("a.example",)),
                    Condition("user_type", "equals", ("guest",)),
                    Condition("model", "notIn", ("m1", "m2")),
                    Condition("tier", "doesNotExist"),
                ),
                (Condition("team", "prefix", ("web-",)), Condition("team", "regex", (".*-[0-9]+",))),
            )
        ),
    )
    assert (rate.interval, rate.delay_initial_fill, rate.max_keys, rate.reserve) == (30.0, True, 7, "max_tokens")
    match = compile_match(rate.match)
    assert match({"host": "a.example", "user_type": "guest", "model": "m3"})
    assert match({"team": "web-1"})
    assert not match({"host": "a.example", "user_type": "guest", "model": "m1"})
    assert not match({"host": "b.example", "user_type": "guest"})
    assert not match({"team": "web-x"})


@pytest.mark.parametrize("selectors", ["", "- service: any", "- service: '*'", "- labelMatcher: {}"])
def test_selectors_that_ask_for_nothing_fit_everything(tmp_path: Path, selectors: str) -> None:
    text = SELECTED.partition("    selectors:")[0]
    text += f"    selectors:\n      {selectors}\n      - service: a.example\n" if selectors else ""
    (rate,) = policies_of(snapshot_of(tmp_path, text)).rates
    assert rate.match == ()


def test_a_ramp_needs_every_drivers_consent_and_one_complaint(tmp_path: Path) -> None:
    (ramp,) = policies_of(snapshot_of(tmp_path, RAMP)).ramps
    assert ramp.forward == policy.Criterion(latency=1.5)
    assert ramp.backward == policy.Criterion(latency=4.0, error_rate=0.05)
    assert ramp.reset == policy.Criterion(latency=8.0)
    assert ramp.steps == (policy.RampStep(5, Duration(60)), policy.RampStep(100, Duration(600)))
    assert ramp.sticky_label_key == "tenant"


def test_a_ramp_without_drivers_has_no_criteria(tmp_path: Path) -> None:
    text = RAMP.partition("  drivers:")[0] + "  loadRamp:" + RAMP.partition("  loadRamp:")[2]
    (ramp,) = policies_of(snapshot_of(tmp_path, text)).ramps
    assert (ramp.forward, ramp.backward, ramp.reset) == (None, None, None)


def test_labels_that_are_used_are_all_found(every: policy.Policies, tmp_path: Path) -> None:
    assert set(labels_used(every)) == {"http.request.header.user-id", "http.request.header.user-type", "tenant"}
    policies = policies_of(snapshot_of(tmp_path, SELECTED))
    assert set(labels_used(policies)) == {"host", "user_type", "model", "tier", "team", "http.request.header.user_id"}


def test_only_labels_in_use_and_what_they_read_are_computed(tmp_path: Path) -> None:
    labels = """\
    team: {header: x-team}, unused: {header: x-unused}, rank: {cel: 'labels.source'}, deep: {cel: 'labels.rank'},
    tier: {cel: 'labels["deep"] + labels["predicted_tokens"]', value: none}, user_type: {value: guest}"""
    snapshot = snapshot_of(tmp_path, SELECTED, labels=labels)
    found = labelling_of(snapshot, policies_of(snapshot))
    plain = {"host", "model", "source", "http.request.header.user_id"}
    assert {name for name, _ in found.readers} == plain | {"team", "user_type"}
    assert list(found.computed) == ["rank", "deep"]
    assert (found.predicts, list(found.computed_late)) == (True, ["tier"])
    assert found.computed_late["tier"].evaluate({}) == "none"
    assert labelling_of(snapshot, policy.Policies()).readers == ()


def test_an_expression_that_may_read_anything_is_given_everything(tmp_path: Path) -> None:
    labels = 'tier: {cel: \'labels.exists(name, name == "x") ? "a" : "b"\'}, team: {value: t}'
    snapshot = snapshot_of(tmp_path, SELECTED, labels=labels)
    found = labelling_of(snapshot, policies_of(snapshot))
    assert {*FIXED, "team"} <= {name for name, _ in found.readers}
    assert found.predicts
    assert list(found.computed_late) == ["tier"]
    assert PREDICTED not in {name for name, _ in found.readers}


_NUMBERS = (0, -1, 0.5, 1, 3, 10**9, 10**30, 1e-9, 1e300)
_WORDS = ("", "x", "0s", "5m", "any", "(", "tenant", "claim.x", "host", "fifo", "shortest", "In", "Exists", "tokens")
_LEAVES: st.SearchStrategy[Any] = st.sampled_from((*_NUMBERS, *_WORDS, None, True, [], {}, ["a"], {"threshold": 1}))


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(item, (*path, key))


@given(st.sampled_from(sorted(traffic.TRAFFIC_KINDS)), st.lists(st.tuples(st.integers(0, 99), _LEAVES), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_what_check_accepts_the_core_accepts(tmp_path: Path, kind: str, changes: list[tuple[int, Any]]) -> None:
    document = yaml.safe_load(example(kind))
    for number, leaf in changes:
        places = [path for path in _places(document["spec"], ("spec",)) if len(path) > 1]
        *parents, last = places[number % len(places)] if places else ("spec",)
        inside = document
        for step in parents:
            inside = inside[step]
        inside[last] = copy.deepcopy(leaf)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "pool.yaml").write_text(POOL)
    found = examine(tmp_path, environ={})
    if found.snapshot is not None:
        policies = policies_of(found.snapshot)
        Flow(policies, 0.0)
        labelling_of(found.snapshot, policies)


def test_the_core_finds_nothing_to_object_to_a_pool_example(tmp_path: Path) -> None:
    assert policies_of(load(write(tmp_path, a=POOL), environ={})).every() == ()
