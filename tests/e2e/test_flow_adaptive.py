"""An engine that has enough to do: the policy that follows its saturation lets less through."""

from __future__ import annotations

from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateways, manifest, pool, route
from tests.support.held import Held
from tests.support.processes import wait_until
from tests.support.traffic import host


def test_a_saturated_engine_gets_less_and_the_rest_is_refused_in_time(far_side: FarSide, gateways: Gateways) -> None:
    """Two requests at once are half of what the engine takes, and more than the setpoint."""
    core = {
        "signal": "saturation",
        "setpoint": 0.25,
        "aimdLoadScheduler": {
            "loadScheduler": {
                "unit": "requests",
                "selectors": host("x"),
                "scheduler": {"defaultWorkloadParameters": {"queueTimeout": "200ms"}},
            }
        },
    }
    name = "AverageLatencySchedulingPolicy/protect"
    with Held(far_side) as held:
        gateway = gateways.start(
            pool("gpus", [held.address], saturation={"maxInFlight": 4}),
            route("x", "x", {"backendRefs": [{"pool": "gpus"}]}),
            route("y", "y", {"backendRefs": [{"pool": "gpus"}]}),
            manifest("AverageLatencySchedulingPolicy", "protect", loadSchedulingCore=core),
        )
        with Chat(gateway.port, "x") as first, Chat(gateway.port, "x") as second:
            calls = [held.next(), held.next()]
            wait_until(
                lambda: gateway.metric("sluice_policy_multiplier", policy=name) < 1, "the multiplier to fall", 40
            )
            reply = chat(gateway.port, "x")
            assert (reply.status, reply.error["code"]) == (503, "queue_timeout")
            assert int(reply.headers["retry-after"]) >= 1
            with Chat(gateway.port, "y") as other:
                held.next().answer()
                assert other.reply().status == 200, "who is not selected is not held back"
            for call in calls:
                call.answer()
            assert (first.reply().status, second.reply().status) == (200, 200)
        low = gateway.metric("sluice_policy_multiplier", policy=name)
        wait_until(lambda: gateway.metric("sluice_policy_multiplier", policy=name) != low, "it to move again", 40)
