"""`sluice render`: configuration for other programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from extproc.commands.options import CONFIG
from extproc.commands.process import FAULTS, OK, report
from extproc.render import render as render_configuration
from extproc.render import static_bootstrap, to_yaml
from extproc.resources.load import load


@click.group()
def render() -> None:
    """Write configuration for other programs."""


@render.command("envoy")
@CONFIG
@click.option(
    "--filter",
    "filter_address",
    default="127.0.0.1:9002",
    show_default=True,
    metavar="ADDRESS",
    help="Where `sluice serve` listens: HOST:PORT, several with commas, or unix:/PATH.",
)
@click.option(
    "--envoy-admin",
    default="127.0.0.1:9901",
    show_default=True,
    metavar="ADDRESS",
    help="Address of Envoy's own admin interface: HOST:PORT or unix:/PATH.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File. Default: standard output.")
def render_envoy(directory: Path, filter_address: str, envoy_admin: str, output: Path | None) -> None:
    """Envoy's whole configuration as one file.

    \b
    Example:
      sluice render envoy -c deploy/quickstart -o envoy.yaml
      envoy --mode validate -c envoy.yaml
    """
    sys.exit(write_envoy(directory, os.environ, filter_address, envoy_admin, output))


def write_envoy(
    directory: Path, environ: Mapping[str, str], filter_address: str, admin: str, output: Path | None
) -> int:
    """Writes the whole of Envoy's configuration to a file or standard output."""
    try:
        snapshot = load(directory, environ=environ)
        header = "Written by `sluice render envoy`: change the manifests and write it again."
        text = to_yaml(static_bootstrap(render_configuration(snapshot, filter_address), admin), header)
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8")
    except FAULTS as error:
        return report(error)
    return OK
