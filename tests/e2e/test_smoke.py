"""The harness itself: both shapes of a gateway carry a request."""

from __future__ import annotations

import openai
import pytest

from tests.support.far_side import FarSide
from tests.support.gateway import Gateways, pool, route


@pytest.mark.parametrize("split", [False, True])
def test_a_chat_reaches_an_engine(far_side: FarSide, gateways: Gateways, split: bool) -> None:
    engine = far_side.engine()
    gateway = gateways.start(
        pool("gpus", [engine.address]), route("all", "*", {"backendRefs": [{"pool": "gpus"}]}), split=split
    )
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any") as client:
        answer = client.chat.completions.create(model="qwen3-8b", messages=[{"role": "user", "content": "hi"}])
    assert answer.usage is not None
    line = gateway.log_line(model="qwen3-8b")
    assert line["completion_tokens"] == answer.usage.completion_tokens
    assert line["endpoint"] == engine.address
