"""The commands of flow control. Each one reads its options and calls what does the work."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from extproc.commands.options import ADMIN, CONFIG


@click.command()
@click.option("--admin", default=ADMIN, show_default=True, metavar="URL", help="The gateway's admin address.")
def policies(admin: str) -> None:
    """What the traffic policies of a running gateway are doing: tokens left, who waits, multipliers, ramps."""
    from extproc.commands.policies import run_policies

    sys.exit(run_policies(admin))


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@CONFIG
@click.option(
    "--admin", metavar="URL", help="Ask the gateway that runs there. Default: as if it were the first request."
)
@click.option("--host", default="", help="Where the request goes, if the file does not say it.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header more; may be repeated.")
def explain(file: Path, directory: Path, admin: str | None, host: str, headers: tuple[str, ...]) -> None:
    """Why a request would pass, wait or be refused, policy by policy. The request is not sent.

    FILE holds HTTP text, a JSON object with host, path, headers and body, or the JSON body of a chat alone. Exit
    status: 0 if it would pass or wait, 1 if it would be refused, 2 on a fault.

    \b
    Example:
      sluice explain request.json -c deploy/quickstart --header user-id=alice
    """
    from extproc.commands.policies import run_explain

    pairs = [header.partition("=") for header in headers]
    if any(not name or not separator for name, separator, _ in pairs):
        raise click.UsageError("a header is NAME=VALUE")
    more = {name.lower(): value for name, _, value in pairs}
    sys.exit(run_explain(file, directory, admin, os.environ, host, more))


@click.command("evaluate-predictor")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def evaluate_predictor(file: Path) -> None:
    """How well the length of answers would have been predicted, from recorded ones.

    FILE holds lines of JSON, gzipped or not, with `prompt` and either `response` or `tokens`, and if known `model`,
    `tenant`, `route`, `prompt_tokens` and `max_tokens`. Prompts are held out: none is judged that was learned from.
    """
    from extproc.commands.predictor import run_evaluation

    sys.exit(run_evaluation(file))
