"""For which pools Envoy counts."""

from __future__ import annotations

import pytest

from extproc.resources.usage import counted_by_envoy
from tests.render.harness import snapshot

POOLS = "pool a: {endpoints: [], policy: least-request}\npool b: {endpoints: []}\n"


@pytest.mark.parametrize(
    ("usage", "tested", "pools"),
    [
        ("auto", True, {"a"}),  # the default policy learns from the first token, which Envoy does not tell
        ("auto", False, set()),
        ("envoy", False, {"a", "b"}),
        ("filter", True, set()),
    ],
)
def test_who_counts(usage: str, tested: bool, pools: set[str]) -> None:
    found = snapshot(f"gateway g: {{usage: {usage}}}\n{POOLS}")
    assert counted_by_envoy(found, tested=tested) == pools
