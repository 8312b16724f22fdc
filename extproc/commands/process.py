"""What the commands that run a gateway share: the process, its signals, its memory, and how faults are told."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import sys
from contextlib import AsyncExitStack

import uvloop

from extproc.envoyproxy.process import ProxyError
from extproc.live.app import App, AppOptions
from extproc.live.flow import FlowError
from extproc.live.security import SecurityError
from extproc.render import RenderError
from extproc.resources.problems import ConfigurationError

log = logging.getLogger("sluice")

OK, FAILED = 0, 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
FAULTS = (ConfigurationError, FlowError, ProxyError, RenderError, SecurityError, OSError)
"""What a user can mend: told in a line, without a traceback."""


def run_app(options: AppOptions, log_level: str) -> int:
    log_to_stderr(log_level)
    tune()
    return uvloop.run(_serve(options))


def log_to_stderr(level: str) -> None:
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format=form)
    logging.getLogger("hpack").setLevel(logging.INFO)  # below that, it writes every header of every stream


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT. Needs a running loop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def tune() -> None:
    """Settings for a process that handles many short-lived objects and, now and then, bodies of megabytes.

    The collector need not run every 700 objects, as exchanges hold no cycles. And glibc gives each large buffer back to
    the system at once, so that the next one costs a page fault per 4 KiB: 4 times the work of a 1 MB body. With these
    limits the allocator keeps up to 64 MiB for the next body.
    """
    gc.set_threshold(20_000, 20, 100)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    if mallopt is not None:
        for parameter, value in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 64 << 20), (_M_TOP_PAD, 1 << 20)):
            mallopt(parameter, value)


async def _serve(options: AppOptions) -> int:
    try:
        app = App(options)
    except FAULTS as error:
        return report(error)
    stop = stop_signal()
    try:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(app.stop)
            await app.start()
            await app.follow(stop)
            log.info("stopping: running requests may finish")
    except FAULTS as error:  # told last, below whatever else there was to say
        return report(error)
    return OK


def report(error: Exception) -> int:
    sys.stderr.write(f"sluice: {error}\n")
    return FAILED
