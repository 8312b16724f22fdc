"""`python -m extproc` is `sluice`."""

from extproc.cli import main

main(prog_name="sluice")
