"""`sluice schema`: JSON Schema of the resources, or their reference."""

from __future__ import annotations

import json
import sys

import click

from extproc.resources.printed.reference import reference_markdown
from extproc.resources.printed.schema import json_schema


@click.command()
@click.option("--format", "form", type=click.Choice(["json", "markdown"]), default="json", show_default=True)
def schema(form: str) -> None:
    """JSON Schema of all resources, for editors and CRDs; or the reference as Markdown."""
    if form == "markdown":
        sys.stdout.write(reference_markdown())
    else:
        click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
