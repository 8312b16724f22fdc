"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

CONFIG = click.option(
    "-c",
    "--config",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    metavar="DIR",
    help="Directory with the manifests (*.yaml).",
)
PEM = click.Path(exists=True, dir_okay=False, path_type=Path)
ADMIN = "http://127.0.0.1:10001"
LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What Sluice logs to standard error.",
)
TRANSPORT = click.option(
    "--transport",
    type=click.Choice(["http2", "grpcio"]),
    default="http2",
    show_default=True,
    envvar="SLUICE_TRANSPORT",
    help="What carries Envoy's streams: Sluice's own HTTP/2, or the gRPC library.",
)
