"""The start of the command `p2pshare`. While modules are imported, up to a second, Ctrl+C just ends it."""

import signal


def main() -> int:
    """Run the command line of the process, as `ui.main.main`."""
    handler = signal.getsignal(signal.SIGINT)
    if (
        handler is signal.default_int_handler
    ):  # which would show where the import was, or be ignored in a callback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from p2pshare.ui.main import main as run

    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, handler)
    return run()
