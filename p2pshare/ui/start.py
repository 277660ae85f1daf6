"""The start of a program. While its modules are imported, up to a second, Ctrl+C just ends it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Import modules within: Ctrl+C ends the process without a traceback, and is not lost in a callback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, handler)


def main() -> int:
    """Run the command line of the process, as `ui.main.main`."""
    with interruptible():
        from p2pshare.ui.main import main as run
    return run()
