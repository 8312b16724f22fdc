"""The list of commands: each one is there, and starts without the others."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from extproc.commands.main import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_list_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_an_unknown_command_is_named() -> None:
    result = CliRunner().invoke(main, ["rnu"])
    assert result.exit_code == 2
    assert "No such command 'rnu'" in result.output


def test_the_list_of_commands_imports_nothing_of_the_gateway() -> None:
    code = (
        "import sys; from extproc.commands.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('grpc', 'aiohttp', 'google')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in COMMANDS)
