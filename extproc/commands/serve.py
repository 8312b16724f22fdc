"""`sluice serve`: the filter alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from extproc.commands.options import CONFIG, LOG_LEVEL, TRANSPORT
from extproc.commands.process import run_app
from extproc.live.app import AppOptions
from extproc.wire.server import TransportName


@click.command()
@CONFIG
@LOG_LEVEL
@click.option(
    "--listen",
    default="127.0.0.1:9002",
    show_default=True,
    metavar="ADDRESS",
    help="HOST:PORT or unix:/PATH for Envoy's streams.",
)
@TRANSPORT
def serve(directory: Path, log_level: str, listen: str, transport: TransportName) -> None:
    """Run the filter alone.

    Serves envoy.service.ext_proc.v3.ExternalProcessor with the gRPC health service and reflection. On SIGTERM it
    reports NOT_SERVING, takes no new request and lets the running ones finish.

    \b
    Example:
      sluice serve -c deploy/quickstart --listen unix:/run/sluice.sock
    """
    sys.exit(run_app(AppOptions(directory, os.environ, listen, transport), log_level))
