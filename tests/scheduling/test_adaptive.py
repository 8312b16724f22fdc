"""The adaptive loop: exact steps, and a simulated destination that gets slow when it is given too much."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from extproc.payload.usage import Usage
from extproc.scheduling.adaptive import Adaptive
from extproc.scheduling.flow import Flow
from extproc.scheduling.policy import AverageLatencyScheduling, Policies
from extproc.scheduling.ticket import Admitted, End, FlowPlace, Ticket
from tests.scheduling.build import admitted, job, refused, tiers, waiting


def loop(**more: object) -> Adaptive:
    adaptive = Adaptive(AverageLatencyScheduling(name="a", **more))  # type: ignore[arg-type]
    adaptive.tick(0)
    return adaptive


def test_everything_passes_while_nothing_is_known() -> None:
    adaptive = loop()
    assert adaptive.open
    assert adaptive.tick(10)
    assert adaptive.open


def test_the_signal_is_the_short_mean_over_the_long() -> None:
    adaptive = loop()
    for second in range(1770):
        adaptive.observe(1.0, second)
    for second in range(1770, 1800):
        adaptive.observe(2.0, second)
    signal = adaptive.signal(1799)
    assert signal is not None
    assert signal[0] == pytest.approx(2.0)
    assert signal[1] == pytest.approx(1.25 * (1770 + 60) / 1800)


def test_an_overload_cuts_by_the_gradient_and_recovery_is_slow() -> None:
    adaptive = loop(signal="saturation", setpoint=1.0)
    adaptive.observe(2.0, 5)
    assert adaptive.tick(10)
    assert (adaptive.overloaded, adaptive.multiplier) == (True, 0.5)
    adaptive.asked(100, 11)
    adaptive.accepted(40)
    adaptive.observe(2.0, 15)
    adaptive.tick(20)
    assert adaptive.multiplier == pytest.approx(0.4 * 0.5)
    adaptive.observe(0.5, 25)
    steps = []
    for tick in range(3, 80):
        adaptive.tick(tick * 10)
        steps.append(adaptive.multiplier)
    assert steps[0] == pytest.approx(0.225)
    assert steps[1] == pytest.approx(0.25)
    assert max(steps) == 2.0
    assert steps.index(2.0) == pytest.approx(71, abs=1)  # 0.025 is no sum of powers of two


def test_after_a_cut_it_waits_for_what_was_admitted_since() -> None:
    adaptive = loop()
    for second in range(60):
        adaptive.observe(1.0, second, second)
    for second in range(60, 70):
        adaptive.observe(50.0, second, second - 50)
    adaptive.tick(70)
    cut = adaptive.multiplier
    assert cut < 0.6
    for second in range(70, 80):
        adaptive.observe(60.0, second, second - 60)
    adaptive.tick(80)
    assert adaptive.multiplier == cut
    for second in range(80, 90):
        adaptive.observe(1.0, second, second - 1)
    adaptive.tick(90)
    assert adaptive.multiplier == cut + 0.025


def test_the_gradient_is_clamped() -> None:
    adaptive = loop(signal="saturation")
    adaptive.observe(1e9, 5)
    adaptive.tick(10)
    assert adaptive.multiplier == pytest.approx(0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_nonsense_is_not_observed(value: float) -> None:
    adaptive = loop(signal="saturation")
    adaptive.observe(value, 1)
    assert adaptive.signal(1) is None


def test_a_clock_step_back_only_delays() -> None:
    adaptive = loop()
    assert adaptive.tick(1000)
    assert not adaptive.tick(5)
    assert adaptive.tick(15)


def test_what_did_not_go_on_for_other_reasons_does_not_count_as_refused() -> None:
    adaptive = loop(signal="saturation")
    for _ in range(10):
        adaptive.asked(1, 1)
        adaptive.accepted(1)
    for _ in range(5):
        adaptive.withdrawn(1, 1)
    assert adaptive.incoming_rate(1.5) == pytest.approx(5)
    adaptive.observe(2, 2)
    adaptive.tick(10)
    assert adaptive.multiplier == 0.5


def test_under_overload_requests_wait_by_priority_and_then_are_refused() -> None:
    policy = AverageLatencyScheduling(name="a", signal="saturation", unit="requests", scheduler=tiers(timeout=4))
    flow = Flow(Policies(adaptive=(policy,)), 0)
    for second in range(10):
        admitted(flow.enter(job(), second))
    flow.adaptive[0].loop.observe(10, 9.5)
    flow.tick(10)
    assert flow.adaptive[0].loop.multiplier == pytest.approx(0.1)
    places = [waiting(flow.enter(job(tier=tier), 10 + i / 10)) for i, tier in enumerate(["bronze", "gold"] * 5)]
    assert flow.next_event() < 14
    for tick in range(100, 160):
        flow.tick(tick / 10)
    outcomes = Counter((place.ticket.job.labels["tier"], place.outcome) for place in places)
    assert outcomes["gold", "admitted"] > outcomes["bronze", "admitted"]
    assert outcomes["bronze", "expired"] >= 3
    (no, *_) = [refused(place.result) for place in places if place.outcome == "expired"]
    assert (no.status, no.reason, no.kind) == (503, "queue_timeout", "adaptive")


def test_a_destination_at_twice_its_capacity_keeps_working() -> None:
    """10 requests/s of capacity; latency is what the backlog makes it. After 300 s of normal load, 20/s come, which
    would leave 12,000 behind."""
    policy = AverageLatencyScheduling(name="a", unit="requests", scheduler=tiers(timeout=5))
    flow = Flow(Policies(adaptive=(policy,)), 0)
    backlog: deque[tuple[Ticket, float]] = deque()
    places: list[FlowPlace] = []
    served: Counter[str] = Counter()
    backlogs = []
    for tenth in range(15_000):
        now = tenth / 10
        arriving = 2 if tenth > 3000 else int(tenth % 5 < 4)
        for i in range(arriving):
            outcome = flow.enter(job(tier="gold" if (tenth + i) % 2 else "bronze"), now)
            if isinstance(outcome, Admitted):
                backlog.append((outcome.ticket, now))
            elif isinstance(outcome, FlowPlace):
                places.append(outcome)
        flow.tick(now)
        backlog += [(place.ticket, now) for place in places if place.outcome == "admitted"]
        places = [place for place in places if place.outcome == "waiting"]
        if backlog:
            ticket, since = backlog.popleft()
            ticket.settle(now, End(usage=Usage(1, 1), latency=now - since + 0.5))
            served[ticket.job.labels["tier"]] += tenth > 6000
        backlogs.append(len(backlog))
    assert served.total() > 0.7 * 9000
    assert served["gold"] > 2.5 * served["bronze"]
    assert max(backlogs) < 300
