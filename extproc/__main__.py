"""`python -m extproc` is `sluice`."""

from extproc.commands.main import main

main(prog_name="sluice")
