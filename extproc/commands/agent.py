"""`sluice agent`: an engine's load, pushed from beside the engine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import uvloop

from extproc.agents.agent import Agent, AgentOptions, token_source
from extproc.agents.sessions import Registration
from extproc.commands.options import LOG_LEVEL, PEM
from extproc.commands.process import OK, log_to_stderr, report, stop_signal


@click.command()
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
    sys.exit(run_agent(options, log_level))


def run_agent(options: AgentOptions, log_level: str) -> int:
    """Reports an engine's load until SIGTERM or SIGINT."""
    log_to_stderr(log_level)
    try:
        agent = Agent(options)
    except ValueError as error:
        return report(error)
    return uvloop.run(_run_agent(agent))


async def _run_agent(agent: Agent) -> int:
    await agent.run(stop_signal())
    return OK
