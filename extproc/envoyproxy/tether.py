"""Becomes another program that ends when its parent does: `python -I -S tether.py PARENT_PID PROGRAM ARGUMENT…`.

A program of its own, because code between fork and exec in a process with threads may deadlock.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(f"{program}: the parent ended before the start")
    os.execv(program, [program, *arguments])  # noqa: S606 the program is the caller's choice


if __name__ == "__main__":
    main()
