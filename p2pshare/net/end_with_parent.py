"""Start a program that ends when the process that started it ends.

Run as a script, by path, with nothing but the standard library::

    python -I -S end_with_parent.py PARENT_PID PROGRAM [ARGUMENT]...

On Linux the kernel sends SIGTERM to the program when the parent dies, even by SIGKILL. The program has a session of
its own, so Ctrl+C in the parent's terminal reaches the parent only. The umask makes its files private, also in a folder
that other users may enter.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, command: list[str]) -> None:
    """Replace this process by `command`, unless `parent` is dead already."""
    os.setsid()
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:  # otherwise it died before the kernel knew that it has to signal
        os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
