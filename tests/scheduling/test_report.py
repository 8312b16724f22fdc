"""Live state and explanations, which change nothing."""

from __future__ import annotations

import msgspec
import pytest

from extproc.exchange.endings import REFUSALS, Ending
from extproc.scheduling.flow import Flow
from extproc.scheduling.labels import Condition
from extproc.scheduling.policy import (
    AverageLatencyScheduling,
    Caching,
    ConcurrencyLimiting,
    ConcurrencyScheduling,
    LoadRamping,
    Policies,
    QuotaScheduling,
    RampStep,
    RateLimiting,
)
from extproc.scheduling.report import explain, state
from extproc.scheduling.ticket import Admitted, FlowPlace
from extproc.spec import Duration
from tests.scheduling.build import admitted, job, refused, tiers

ALL = Policies(
    ramps=(LoadRamping(name="ramp", steps=(RampStep(100, Duration(0)),)),),
    rates=(RateLimiting(name="rate", unit="tokens", limit_by_label_key="user", bucket_capacity=100, fill_amount=1),),
    concurrency=(ConcurrencyLimiting(name="limit", max_concurrency=3),),
    caches=(Caching(name="cache", match=(Condition("route", "equals", ("x",)),)),),
    adaptive=(AverageLatencyScheduling(name="adaptive"),),
    quotas=(QuotaScheduling(name="quota", bucket_capacity=2, fill_amount=0.5, scheduler=tiers()),),
    slots=(ConcurrencyScheduling(name="slots", max_concurrency=2, scheduler=tiers()),),
)


def test_state_of_everything() -> None:
    flow = Flow(ALL, 0)
    for user in "aab":
        flow.enter(job(30, user=user, tier="gold"), 0)
    rows = {row.name: row for row in state(flow, 0)}
    assert list(rows) == ["ramp", "rate", "limit", "cache", "adaptive", "quota", "slots"]
    assert (rows["ramp"].percentage, rows["ramp"].step) == (100, 0)
    assert [(level.key, level.left) for level in rows["rate"].levels] == [("a", 40), ("b", 70)]
    assert rows["limit"].levels[0].left == 0
    assert (rows["adaptive"].multiplier, rows["adaptive"].waiting) == (2.0, 0)
    assert (rows["quota"].waiting, rows["quota"].levels[0].left) == (1, 0)
    assert (rows["quota"].flows[0].workload, rows["quota"].flows[0].waiting) == ("gold", 1)
    assert rows["quota"].counts == {"passed": 2, "queued": 1}
    msgspec.json.encode(list(rows.values()))


def test_why_a_request_would_pass_or_wait() -> None:
    flow = Flow(ALL, 0)
    for _ in range(2):
        admitted(flow.enter(job(30, user="a"), 0))
    before = msgspec.json.encode(state(flow, 1))
    says = {row.policy: row for row in explain(flow, job(50, user="a", tier="gold"), 1)}
    assert msgspec.json.encode(state(flow, 1)) == before
    wanted = ["pass", "refuse", "pass", "not matched", "pass", "wait", "wait"]
    assert [row.says for row in says.values()] == wanted
    assert says["rate"].seconds == pytest.approx(9)
    assert says["quota"].position == 1
    assert says["quota"].seconds == pytest.approx(1)
    assert (says["quota"].workload, says["quota"].priority) == ("gold", 3)
    assert says["slots"].cost == 50


@pytest.mark.parametrize(
    ("policies", "before", "tokens", "code"),
    [
        (Policies(ramps=(LoadRamping(name="p", steps=(RampStep(0, Duration(0)),)),)), 0, 1, "ramped_out"),
        (Policies(rates=ALL.rates), 2, 50, "rate_limited"),
        (Policies(concurrency=ALL.concurrency), 3, 1, "too_many_in_flight"),
        (Policies(quotas=(msgspec.structs.replace(ALL.quotas[0], unit="tokens"),)), 0, 50, "exceeds_quota"),
        (Policies(quotas=(msgspec.structs.replace(ALL.quotas[0], scheduler=tiers(size=1)),)), 3, 1, "queue_full"),
    ],
)
def test_a_refusal_is_explained_by_the_code_that_the_client_would_get(
    policies: Policies, before: int, tokens: int, code: str
) -> None:
    flow = Flow(policies, 0)
    for _ in range(before):
        flow.enter(job(tokens), 0)
    asked = job(tokens)
    (row,) = explain(flow, asked, 0)
    assert (row.says, row.detail.split("; ")[0]) == ("refuse", code)
    assert Ending(code) in REFUSALS
    assert refused(flow.enter(asked, 0)).reason == code


def test_explanations_come_true() -> None:
    """Over a random life of one quota: who is told `pass` passes, who is told `wait` waits."""
    flow = Flow(Policies(quotas=ALL.quotas), 0)
    now = 0.0
    for i in range(300):
        now += (i * 7 % 11) / 4
        flow.tick(now)
        asked = job(tier="gold")
        (row,) = explain(flow, asked, now)
        outcome = flow.enter(asked, now)
        assert isinstance(outcome, Admitted if row.says == "pass" else FlowPlace)
        if isinstance(outcome, FlowPlace) and i % 3 == 0:
            outcome.leave(now)
