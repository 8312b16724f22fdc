from __future__ import annotations

import pytest

from extproc.scheduling.flow import Flow
from extproc.scheduling.policy import Criterion, LoadRamping, Policies, RampStep
from extproc.scheduling.ramp import Ramp
from extproc.scheduling.ticket import End
from extproc.spec import Duration
from tests.scheduling.build import admitted, job, refused

STEPS = (
    RampStep(10, Duration(0)),
    RampStep(50, Duration(100)),
    RampStep(50, Duration(50)),
    RampStep(100, Duration(10)),
)


def ramp(**more: object) -> Ramp:
    return Ramp(LoadRamping(name="ramp", steps=STEPS, **more), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "step", "share"),
    [(0, 1, 10), (50, 1, 30), (100, 2, 50), (149, 2, 50), (155, 3, 75), (160, 3, 100), (1e9, 3, 100)],
)
def test_it_is_linear_between_steps(now: float, step: int, share: float) -> None:
    subject = ramp()
    assert (subject.step(now), subject.percentage(now)) == (step, share)


def test_the_share_of_requests_is_the_percentage() -> None:
    subject = ramp()
    accepted = sum(subject.accepts(job(), 50) for _ in range(10_000))
    assert accepted == pytest.approx(3000, rel=0.06)
    assert not any(
        Ramp(LoadRamping(name="r", steps=(RampStep(0, Duration(0)),)), 0).accepts(job(), 0) for _ in range(1000)
    )
    assert all(
        Ramp(LoadRamping(name="r", steps=(RampStep(100, Duration(0)),)), 0).accepts(job(), 0) for _ in range(1000)
    )


def test_who_is_in_stays_in() -> None:
    subject = ramp(sticky_label_key="user")
    users = [job(user=str(i)) for i in range(500)]
    inside: set[str] = set()
    for now in range(0, 170, 10):
        accepted = {user.labels["user"] for user in users if subject.accepts(user, now)}
        assert inside <= accepted
        assert accepted == {
            user.labels["user"] for user in users if subject.accepts(job(user=user.labels["user"]), now)
        }
        inside = accepted
    assert len(inside) == 500


def test_by_hand() -> None:
    subject = ramp(start=False)
    assert subject.percentage(1000) == 10
    subject.command("forward", 1000)
    assert subject.percentage(1050) == 30
    subject.command("hold", 1050)
    assert subject.percentage(2000) == 30
    subject.command("backward", 2000)
    assert subject.percentage(2025) == 20
    assert subject.percentage(3000) == 10
    subject.command("forward", 3000)
    subject.command("reset", 3100)
    assert (subject.percentage(3100), subject.percentage(4000)) == (10, 10)


CRITERIA = {
    "forward": Criterion(error_rate=0.1),
    "backward": Criterion(error_rate=0.3),
    "reset": Criterion(error_rate=0.6),
}


def feed(subject: Ramp, start: float, errors: int, of: int = 10) -> None:
    """One window of observations, and the judgement at its end."""
    for i in range(of):
        subject.observe(start + i * 9 / of, failed=i < errors, latency=1.0)
    subject.tick(start + 10)


def test_feedback_moves_it_forward_holds_turns_back_and_resets() -> None:
    subject = ramp(**CRITERIA)
    assert subject.percentage(10) == 10
    feed(subject, 0, errors=0)
    assert (subject.state.direction, subject.percentage(60)) == (1, 30)
    feed(subject, 50, errors=2)
    assert (subject.state.direction, subject.percentage(100)) == (0, 30)
    feed(subject, 100, errors=4)
    assert (subject.state.direction, subject.percentage(135)) == (-1, 20)
    feed(subject, 130, errors=7)
    assert (subject.state.direction, subject.percentage(200)) == (0, 10)


def test_forward_and_backward_together_hold() -> None:
    subject = ramp(forward=Criterion(latency=5.0), backward=Criterion(error_rate=0.3))
    feed(subject, 0, errors=0)
    feed(subject, 10, errors=5)
    assert subject.state.direction == 0


def test_without_observations_a_driven_ramp_holds() -> None:
    subject = ramp(**CRITERIA)
    feed(subject, 0, errors=0)
    subject.tick(30)
    assert subject.state.direction == 0


def test_a_command_overrides_feedback_until_auto() -> None:
    subject = ramp(**CRITERIA)
    subject.command("hold", 0)
    feed(subject, 0, errors=0)
    directions: list[int] = [subject.state.direction]
    subject.command("auto", 20)
    feed(subject, 20, errors=0)
    directions.append(subject.state.direction)
    assert directions == [0, 1]


def test_replicas_agree_on_the_newest_state() -> None:
    one, other = ramp(start=False), ramp(start=False)
    one.command("forward", 0)
    other.adopt(one.state)
    assert other.percentage(50) == 30
    other.adopt(ramp().state)
    assert other.percentage(50) == 30


def test_a_flow_refuses_with_403_and_learns_from_endings() -> None:
    policy = LoadRamping(
        name="ramp", steps=(RampStep(0, Duration(0)), RampStep(100, Duration(100))), reset=CRITERIA["reset"]
    )
    flow = Flow(Policies(ramps=(policy,)), 0)
    no = refused(flow.enter(job(), 0))
    assert (no.status, no.reason, no.kind) == (403, "ramped_out", "ramp")
    flow.ramps[0].command("forward", 0)
    for _ in range(5):
        admitted(flow.enter(job(), 100)).ticket.settle(101, End(failed=True))
    flow.ramps[0].command("auto", 101)
    flow.tick(110)
    assert flow.ramps[0].percentage(110) == 0
