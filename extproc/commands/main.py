"""`sluice`: the list of commands. Each one has a file of its own, which is imported when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

import click

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("run:run", "Run Envoy and the filter together."),
    "serve": ("serve:serve", "Run the filter alone."),
    "check": ("check:check", "Check the manifests, like a compiler."),
    "render": ("render:render", "Write configuration for other programs."),
    "policies": ("policies:policies", "What the traffic policies are doing."),
    "explain": ("policies:explain", "Why a request would pass, wait or be refused."),
    "scan": ("scan:scan", "What a security policy finds in a text."),
    "simulate": ("simulate:simulate", "What each policy would give on a trace."),
    "evaluate-predictor": ("predictor:evaluate_predictor", "How well answer lengths would have been predicted."),
    "agent": ("agent:agent", "Report an engine's load, from beside the engine."),
    "schema": ("schema:schema", "JSON Schema or the reference of all resources."),
    "version": ("version:version", "Versions of Sluice and of what it stands on."),
}
"""Name -> where the command is, and what the list of commands says of it."""


class Commands(click.Group):
    """A group that imports a command when it is called: `sluice --help` reads nothing but this file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"extproc.commands.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
