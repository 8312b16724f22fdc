"""How much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_SHARE = 16
"""Of the memory, bodies as they came get one part: each stands in it several times while it is looked at."""
_LEAST, _MOST = 64 << 20, 4 << 30


def default_body_budget() -> int:
    """Bytes of request bodies in flight where the Gateway sets no limit."""
    return min(max(memory() // _SHARE, _LEAST), _MOST)


def memory() -> int:
    """The machine's memory in bytes, or the container's where that is less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _LIMITS:
        try:
            said = file.read_text().strip()
        except OSError:
            continue
        if said.isdigit():
            found = min(found, int(said))
    return found
