"""Which of the files that a configuration is made of have changed?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Protocol

import watchfiles

MANIFEST_SUFFIXES = (".yaml", ".yml")

_QUIET_MS = 50
"""A burst of events ends when nothing has happened for this long."""
_BURST_MS = 400
"""A burst that does not end is reported after this long."""


class StopEvent(Protocol):
    def is_set(self) -> bool: ...


class _Stop:
    """Gives watchfiles an event of its own: it sets it when its task is cancelled, which must not stop others."""

    def __init__(self, stop: StopEvent) -> None:
        self._stop = stop
        self._own = False

    def is_set(self) -> bool:
        return self._own or self._stop.is_set()

    def set(self) -> None:
        self._own = True


async def changes(paths: Collection[Path], *, stop: StopEvent) -> AsyncIterator[set[Path]]:
    """The paths that changed, each set after a burst of events, until `stop` is set.

    A file is watched through its directory, so that it may be replaced (rename, Kubernetes' `..data` link) or appear
    later; a path that is a directory stands for the manifests directly in it. The first set is empty: watching
    has begun, and what changed earlier is for the caller to look at. Directories that do not exist are not watched.
    """
    directories = _directories(paths)
    if not directories:
        yield set()
        return
    watcher = watchfiles.awatch(
        *directories,
        watch_filter=None,
        debounce=_BURST_MS,
        step=_QUIET_MS,
        stop_event=_Stop(stop),
        recursive=False,
        ignore_permission_denied=True,
    )
    pending = asyncio.ensure_future(anext(watcher, None))
    try:
        await asyncio.sleep(0)  # the generator runs up to its first wait: from here on no change is missed
        yield set()
        while (events := await pending) is not None:
            pending = asyncio.ensure_future(anext(watcher, None))
            if touched := affected(paths, {Path(name) for _, name in events}):
                yield touched
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        await watcher.aclose()


def _directories(paths: Collection[Path]) -> list[Path]:
    """Where events of the paths occur; for a link, its target's directory too."""
    found: dict[Path, None] = {}
    for path in paths:
        for place in (path, path.resolve()):
            directory = place if place.is_dir() else place.parent
            if directory.is_dir():
                found[directory.absolute()] = None
    return list(found)


def affected(paths: Collection[Path], events: Collection[Path]) -> set[Path]:
    """The watched paths that these events concern."""
    return {path for path in paths if any(_concerns(event, path) for event in events)}


def _concerns(event: Path, path: Path) -> bool:
    for place in (path.absolute(), path.resolve()):
        if event == place:
            return True
        directory = place if path.is_dir() else place.parent
        if event.parent != directory:
            continue
        if event.name.startswith(".."):  # the link that Kubernetes swaps, for all files of a mounted volume at once
            return True
        if path.is_dir() and event.suffix in MANIFEST_SUFFIXES:
            return True
    return False
