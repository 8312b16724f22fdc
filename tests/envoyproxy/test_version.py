"""Old Envoys are named, with what still works."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc.envoyproxy.files import ProxyError
from extproc.envoyproxy.process import find_envoy
from extproc.envoyproxy.version import COUNTING, check, envoy_version
from tests.render.harness import snapshot

POOL = "pool a: {endpoints: []}\n"


def test_the_installed_envoy_is_one_that_the_tests_cover() -> None:
    assert envoy_version(find_envoy()) in COUNTING


def test_a_program_that_is_no_envoy_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ProxyError, match="which Envoy"):
        envoy_version(Path("/bin/true"))
    with pytest.raises(ProxyError, match="cannot be run"):
        envoy_version(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("version", "resources", "complaint"),
    [
        ((1, 37), POOL, "1.37 is too old for pools"),
        ((1, 37), "", ""),
        ((1, 39), POOL, ""),
        ((1, 39), "gateway g: {usage: envoy}\n" + POOL, "1.39 cannot be relied on to count"),
        ((1, 40), "gateway g: {usage: envoy}\n" + POOL, ""),
    ],
)
def test_what_a_version_lacks(version: tuple[int, int], resources: str, complaint: str) -> None:
    found = snapshot(resources)
    if not complaint:
        check(version, found)
        return
    with pytest.raises(ProxyError, match=complaint):
        check(version, found)
