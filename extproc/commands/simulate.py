"""`sluice simulate`: what each policy would give on a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from extproc.simulate.command import BadWish, Wish
from extproc.simulate.command import simulate as play


@click.command()
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

    wish = Wish(policies=tuple(policies.split(",")), **options)
    try:
        play(wish, report, click.echo)
    except BadWish as error:
        raise click.UsageError(str(error)) from error
