"""Tasks that run as long as what they watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable

logger = logging.getLogger(__name__)


def spawn(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
    """Starts `work`. If it crashes, that is logged at once and not only when somebody waits for it."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report_crash)
    return task


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels all, and returns when they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.error("task %r has crashed", task.get_name(), exc_info=error)
