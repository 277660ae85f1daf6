"""What the command lines of the two services share: how they complain, and where twistd's pid file goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from twisted.python import usage

from p2pshare.errors import P2pshareError, WrongUsage

TWISTD_DEFAULT = (
    "twistd.pid"  # what twistd writes unless told otherwise, where other services' would be
)


class ServiceOptions(usage.Options):
    """Options that complain in one sentence, with the exit code of what is wrong."""

    command: str
    """The name after `twistd`."""

    def __init__(self) -> None:
        super().__init__()
        self.docs = {name: doc and " ".join(doc.split()) for name, doc in self.docs.items()}

    def parseOptions(  # noqa: N802 - twistd calls it
        self, options: Sequence[str] | None = None
    ) -> None:
        """Read the command line; one that is not understood ends the process with a sentence."""
        with complaining(self.command):
            try:
                super().parseOptions(options)
            except usage.UsageError as error:
                hint = f"Type `twistd {self.command} --help` to see what can be said."
                raise WrongUsage(reason=f"{str(error).rstrip('.')}. {hint}") from error

    def keep_pid_file(self, path: Path) -> None:
        """Have twistd write its pid file at `path`, unless the user named another one."""
        twistd = self.parent  # there is none in tests, and no pid file in `twist`
        if twistd is not None and twistd.get("pidfile") == TWISTD_DEFAULT:
            twistd["pidfile"] = str(path)


@contextmanager
def complaining(command: str) -> Iterator[None]:
    """Let a `P2pshareError` end the process: its sentence on standard error, and its exit code."""
    try:
        yield
    except P2pshareError as error:
        sys.stderr.write(f"{command}: {error}\n")
        raise SystemExit(error.exit_code) from error
