"""CPU time of one exchange in the filter alone: four messages through a session, without a transport.

Run as a program with the root of any version of this project in PYTHONPATH; prints microseconds.
"""

from __future__ import annotations

import gc
import sys
from random import Random
from time import process_time
from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.service.ext_proc.v3.external_processor_pb2 import HttpBody, HttpHeaders, ProcessingRequest

from extproc.pool.policy import LeastRequests, ScoredPolicy
from extproc.pool.pool import Pool
from extproc.steps import routes
from extproc.steps.live import Live
from extproc.telemetry.metrics import Metrics
from extproc.wire.service import Service
from extproc.wire.session import Session

RouteRule: Any = getattr(routes, "RouteRule", None) or routes.Rule  # type: ignore[attr-defined]
_BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 900 + b'"}]}'
_ANSWER = b'{"model":"ours","usage":{"prompt_tokens":4,"completion_tokens":6}}'


def _headers(pairs: dict[str, str]) -> HttpHeaders:
    return HttpHeaders(
        headers=HeaderMap(headers=[HeaderValue(key=key, raw_value=value.encode()) for key, value in pairs.items()])
    )


def messages() -> list[bytes]:
    """What Envoy sends for one JSON exchange."""
    asked = {
        ":method": "POST",
        ":path": "/v1/chat/completions",
        ":authority": "api",
        "content-type": "application/json",
    }
    parts = (
        ProcessingRequest(request_headers=_headers(asked)),
        ProcessingRequest(request_body=HttpBody(body=_BODY, end_of_stream=True)),
        ProcessingRequest(response_headers=_headers({":status": "200", "content-type": "application/json"})),
        ProcessingRequest(response_body=HttpBody(body=_ANSWER, end_of_stream=True)),
    )
    return [part.SerializeToString() for part in parts]


def service() -> Service:
    """One pool of two endpoints, whose load is counted."""
    policy = ScoredPolicy([(LeastRequests(), 1.0)])
    pool = Pool("gpus", policy, retry_count=1, stale_after=1.0, random=Random(0))
    pool.set_members({"10.0.0.1:80": {}, "10.0.0.2:80": {}}, 0.0)
    rule = RouteRule("r/0", (routes.Backend("pool/gpus", 1, pool=pool, model="ours"),))
    live = Live(routes.RouteTable({"api": routes.HostRoutes("api", (rule,))}))
    return Service(live, lambda _record: None, lambda _model, size: (size // 4, 0), Metrics(), lambda: 1.0)


def measure(count: int) -> float:
    """Microseconds of CPU for one of `count` exchanges."""
    parts, shared = messages(), service()
    began = process_time()
    for _ in range(count):
        session = Session(shared)
        for part in parts:
            session.handle(part)
        session.close()
    return (process_time() - began) / count * 1e6


if __name__ == "__main__":
    measure(500)
    gc.collect()
    sys.stdout.write(f"{measure(4000):.2f}\n")
