"""`sluice check`: the manifests, read like a compiler."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from detectors.alarms import described
from extproc.commands.options import CONFIG
from extproc.resources.load import examine

OK, FAILED = 0, 1


@click.command()
@CONFIG
def check(directory: Path) -> None:
    """Check the manifests, like a compiler.

    Prints every problem with file, line, path and what is allowed there. Exits 1 if one of them is an error.
    """
    sys.exit(check_configuration(directory, os.environ))


def check_configuration(directory: Path, environ: Mapping[str, str]) -> int:
    """Prints what is wrong with the manifests, and what they hold if nothing is."""
    found = examine(directory, environ=environ)
    for problem in found.problems:
        click.echo(str(problem))
    if found.snapshot is None:
        errors = sum(problem.severity == "error" for problem in found.problems)
        click.echo(f"{errors} error{'s' if errors != 1 else ''}")
        return FAILED
    snapshot = found.snapshot
    counts = [
        (len(snapshot.providers), "provider", "providers"),
        (len(snapshot.routes), "route", "routes"),
        (len(snapshot.pools), "pool", "pools"),
        (len(snapshot.security) + len(snapshot.traffic), "policy", "policies"),
    ]
    held = ", ".join(
        f"{count} {one if count == 1 else many}" for count, one, many in counts if count or one != "policy"
    )
    for name, policy in snapshot.security.items():
        classifier = policy.spec.classifier
        if classifier.enabled and classifier.model is None:
            click.echo(f"LLMSecurityPolicy/{name}: classifier, {classifier.level} thresholds (*)")
            for line in described(classifier.level):
                click.echo(f"  {line}")
    click.echo(f"{directory}: configuration is good: {held}")
    return OK
