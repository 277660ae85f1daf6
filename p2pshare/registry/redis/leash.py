"""Become another program that does not outlive the process that started this one.

Run as a script, by path, with nothing but the standard library::

    python -I -S leash.py PARENT_PID PROGRAM [ARGUMENT]...

On Linux the kernel sends SIGTERM when the parent dies, however it dies. The program gets a session of its
own, so that a Ctrl+C in the parent's terminal is the parent's alone to act on. What it writes is its owner's alone,
also in a folder that others may enter.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, command: list[str]) -> None:
    """Replace this process by `command`, unless `parent` has died already."""
    os.setsid()
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:  # else it died before the kernel was asked to tell us
        os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
