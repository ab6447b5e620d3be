"""Runs a command that ends when the process that started it does.

    python guard.py COMMAND ARGUMENT...

A server must not stay behind one that was killed. Run by its path, so that
nothing of jaxedge is loaded. Only Linux can; elsewhere it runs the command.
"""

import ctypes
import os
import signal
import sys

# Of sys/prctl.h.
_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> None:
    """Becomes the command."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)  # It ended before that.
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
