"""The common part of both services' command lines: errors, pid file, logs, and the start in the background."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from twisted.logger import globalLogPublisher
from twisted.python import usage

from p2pshare.errors import CannotStart, P2pshareError, WrongUsage
from p2pshare.net.background import Background, Launch, into_background
from p2pshare.net.debug_log import DebugLog
from p2pshare.net.logs import choose_log
from p2pshare.net.utf8_mode import require_utf8
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import DEBUG_VARIABLE

TWISTD_DEFAULT = "twistd.pid"  # twistd's default, which all services of a folder would share
ROOM = 64 * 1024  # bytes that must be free at the start: a key is written before the pid file
DEBUG_OPTION = [
    "debug",
    None,
    None,
    "file for a log of every event without secrets, to find a fault",
]
_APPENDING = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PROBING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class ServiceOptions(usage.Options):
    """Options whose errors are one sentence and an exit code."""

    command: str
    """The name after `twistd`."""

    def __init__(self) -> None:
        super().__init__()
        self.docs = {name: doc and " ".join(doc.split()) for name, doc in self.docs.items()}

    def parseOptions(  # noqa: N802 - twistd calls it
        self, options: Sequence[str] | None = None
    ) -> None:
        """Read the command line; an error ends the process with a sentence."""
        if self.parent is not None:  # then twistd has begun nothing yet
            require_utf8()
        with complaining(self.command):
            try:
                super().parseOptions(options)
            except usage.UsageError as error:
                hint = f"See `twistd {self.command} --help`."
                raise WrongUsage(reason=f"{str(error).rstrip('.')}. {hint}") from error

    def refuse_other_user(self) -> None:
        """Reject `--uid`: the service would change its user after it has made its data folder.

        Raises:
            WrongUsage: twistd has such an option.
        """
        twistd = self.parent
        if twistd is not None and twistd.get("uid") not in (None, os.getuid()):
            reason = (
                "With --uid the service could not use its data folder, which belongs to this user."
                f" Start it as the other user: `sudo -u USER twistd {self.command} ...`."
            )
            raise WrongUsage(reason=reason)

    def keep_pid_file(self, path: Path) -> None:
        """Have twistd write its pid file at `path`, unless the user named another one.

        Raises:
            CannotStart: it cannot be written; twistd would print a traceback.
        """
        twistd = self.parent  # None in tests; `twist` writes no pid file
        if twistd is None:
            return
        if twistd.get("pidfile") == TWISTD_DEFAULT:
            twistd["pidfile"] = str(path)
        if not twistd.get("pidfile") or twistd.get("chroot"):
            return
        pid_file = Path(twistd.get("rundir") or ".", twistd["pidfile"])
        try:
            _try_to_write(pid_file)
        except OSError as error:
            reason = f"its pid file {pid_file} cannot be written: {plain_reason(error)}"
            raise CannotStart(what="twistd", reason=reason) from error

    def keep_log(self, form: str, path: Path) -> None:
        """Have twistd write its log by `net/logs.py`, and that of a daemon at `path` unless the user named a file.

        Args:
            form: see `choose_log`.
            path: in the data folder of the service, which exists.

        Raises:
            WrongUsage: the options for the log contradict each other.
            CannotStart: the file cannot be written; twistd would print a traceback.
        """
        twistd = self.parent
        file = choose_log(twistd, form, path)
        if file is None:
            return
        try:
            os.close(os.open(file, _APPENDING, 0o600 if file == str(path) else 0o666))
        except OSError as error:
            reason = f"its log {file} cannot be written: {plain_reason(error)}. Name another file with --logfile"
            raise CannotStart(what="The service", reason=reason) from error

    def launch(self, reactor: object, stop: str) -> Launch:
        """Go into the background, unless twistd has `-n`; the caller returns its service to twistd next.

        The file of `--debug` begins here, too.

        Args:
            reactor: runs the service.
            stop: the command that ends the service.

        Raises:
            CannotStart: the system cannot fork.
            CannotSave: the file of `--debug` cannot be written.
        """
        file = self["debug"] or os.environ.get(DEBUG_VARIABLE)
        debug_log = DebugLog(Path(file).expanduser(), time.monotonic) if file else None
        launch = self._launch(reactor, stop)
        if debug_log is not None:
            globalLogPublisher.addObserver(debug_log)
            debug_log.begin(sys.argv[1:], os.environ)
        return launch

    def _launch(self, reactor: object, stop: str) -> Launch:
        twistd = self.parent
        if twistd is None or twistd.get("nodaemon", True):
            return Launch(self.command)
        log = "that of the system"
        if not twistd["syslog"]:
            log = os.path.abspath(twistd["logfile"]) if twistd["logfile"] else "that of --logger"
        twistd["nodaemon"] = True  # twistd must not fork again
        if twistd["umask"] is None:
            twistd["umask"] = 0o077  # as twistd sets it for daemons
        return into_background(Background(self.command, log, stop), reactor)


def program(name: str) -> str:
    """Return how to call a program that is installed beside this one: its name, or its path if PATH lacks it."""
    beside = Path(sys.argv[0]).absolute().with_name(name)
    return name if shutil.which(name) or not beside.exists() else str(beside)


def _try_to_write(path: Path) -> None:
    """Write `ROOM` bytes to a new file, and remove it. A file that exists is left to twistd.

    Raises:
        OSError: it cannot be written.
    """
    try:
        fd = os.open(path, _PROBING, 0o600)
    except FileExistsError:
        return
    try:
        with open(fd, "wb") as file:
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(fd)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def complaining(command: str) -> Iterator[None]:
    """End the process at a `P2pshareError`, with its sentence on standard error and its exit code, and at Ctrl+C."""
    try:
        yield
    except KeyboardInterrupt:  # the reactor does not run yet
        raise SystemExit(128 + signal.SIGINT) from None
    except P2pshareError as error:
        sys.stderr.write(f"{command}: {error}\n")
        raise SystemExit(error.exit_code) from error
