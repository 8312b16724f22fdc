"""Which Envoy a program is, and what it can do for a configuration."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from extproc.envoyproxy.files import ProxyError
from extproc.resources.snapshot import Snapshot

Version = tuple[int, int]

POOLS_SINCE: Version = (1, 38)
"""Tells which endpoint has served after retries (`selected_host_key`)."""
COUNTING: frozenset[Version] = frozenset({(1, 40)})
"""Versions whose counting of tokens the tests cover. Envoy calls it work in progress, so that no other is relied on."""
_NUMBER = re.compile(r"/(\d+)\.(\d+)\.\d+")


def envoy_version(envoy: Path) -> Version:
    """Raises ProxyError if the program does not say."""
    try:
        done = subprocess.run([str(envoy), "--version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 -- the Envoy that is run next
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProxyError(f"{envoy} cannot be run: {error}") from error
    found = _NUMBER.search(done.stdout)
    if found is None:
        raise ProxyError(f"{envoy} does not say which Envoy it is: {(done.stdout + done.stderr)[:200]!r}")
    return int(found[1]), int(found[2])


def check(version: Version, snapshot: Snapshot) -> None:
    """Raises ProxyError, which says what is missing and what works without it."""
    name = f"Envoy {version[0]}.{version[1]}"
    if version < POOLS_SINCE and snapshot.pools:
        raise ProxyError(f"{name} is too old for pools, which need 1.38. Providers work with it.")
    if version not in COUNTING and snapshot.gateway.spec.usage == "envoy":
        raise ProxyError(
            f"{name} cannot be relied on to count tokens; 1.40 can. `usage: auto` and `filter` work with it."
        )
