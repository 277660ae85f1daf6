"""The file of `--debug`: what a command or a service did, in enough detail to find a fault from a distance.

It receives all events of the process, at every level, one line each, with the time in UTC. The lines have the form of
the log of a service (`net/logs.py`), with the same secrets hidden. Events name facts: hosts, statuses, public keys,
names of files. No event has a private key, a passphrase, a token, a message or the contents of a file.

Only its owner can read the file. A file that is not a debug log is never overwritten. If the file cannot be written,
lines are lost and counted, and the command goes on. Several processes may write to one file.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import ssl
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

import cryptography
from OpenSSL import SSL
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from zope.interface import implementer

from p2pshare._version import __version__
from p2pshare.errors import CannotSave
from p2pshare.net.logs import HIDDEN, Line, is_secret
from p2pshare.storage.os_errors import plain_reason
from twisted import __version__ as twisted_version

DEBUG_FILE_MAX = 8 * 1024 * 1024  # bytes; then the file is renamed to FILE.old
TITLE = "p2pshare debug log"
"""The beginning of every debug log."""
PREFACE = (
    f"{TITLE}: it names people, addresses and files, and holds no keys, passphrases or tokens\n"
)

RESULTS = frozenset({"entry", "user"})
"""Events of `--json` that are not logged: the rows of a listing."""

_shown = Logger("p2pshare.ui.output")
_OPENING = (
    os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
)  # fmt: skip
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STATEMENT = re.compile(r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}")
_LINK = "p2pshare:"  # the beginning of a link for joining, which may hold an invitation
_LOCALE = re.compile(
    r"LANG|LC_[A-Z]+|TERM|NO_COLOR|PYTHONUTF8|SSL_CERT_(FILE|DIR)|P2PSHARE_[A-Z_]+"
)
"""Variables that change the behaviour of a command."""


@implementer(ILogObserver)
class DebugLog:
    """An observer that appends each event to a file; `begin` and `end` frame one run of a command."""

    _log = Logger()

    def __init__(self, path: Path, seconds: Callable[[], float]) -> None:
        """Open the file, or create it.

        Args:
            path: its name.
            seconds: returns the time in seconds, to measure the duration of the run.

        Raises:
            CannotSave: it cannot be written, or is not a debug log.
        """
        self._path = path.absolute()
        self._old = self._path.with_name(f"{self._path.name}.old")
        self._seconds = seconds
        self._began = seconds()
        self._lock = Lock()
        self._lost = 0
        self._is_cut = False
        try:
            self._fd = _open(self._path)
        except OSError as error:
            raise CannotSave(path=path, reason=plain_reason(error)) from error

    def begin(self, words: Sequence[str], environ: Mapping[str, str]) -> None:
        """Write the versions, the command and the variables. Call it when the log of the process has begun."""
        self._log.debug(
            "run begins: p2pshare={version} python={python} platform={platform} openssl={openssl!r}"
            " openssl_of_python={other!r} twisted={twisted} cryptography={cryptography}",
            version=__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            openssl=SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode(),
            other=ssl.OPENSSL_VERSION,
            twisted=twisted_version,
            cryptography=cryptography.__version__,
        )
        self._log.debug(
            "command: words={words} open_files={open_files} encoding={encoding} terminals={terminals}",
            words=list(shown_words(words)),
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            encoding=sys.stdout.encoding,
            terminals=[number for number in range(3) if os.isatty(number)],
        )
        known = {key: each for key, each in environ.items() if _LOCALE.fullmatch(key)}
        for key, value in sorted(known.items()):
            self._log.debug(
                "variable: {key}={value}",
                key=key,
                value=HIDDEN if is_secret(key.lower()) else value,
            )

    def end(self, exit_code: int) -> None:
        """Write the exit code, and close the file."""
        self._log.debug(
            "run ends: exit_code={exit_code} s={s:.3f}",
            exit_code=exit_code,
            s=self._seconds() - self._began,
        )
        globalLogPublisher.removeObserver(self)
        with self._lock:  # a thread may be writing
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __call__(self, event: LogEvent) -> None:
        """Write an event."""
        line = Line.of(event)
        if line.message or line.traceback:
            self._write(f"{line.to_debug_text(os.getpid())}\n")

    def _write(self, text: str) -> None:
        with self._lock:
            before = "\n" if self._is_cut else ""
            if self._lost:
                before += f"({self._lost} lines could not be written)\n"
            data = (before + text).encode("utf-8", "backslashreplace")
            try:
                self._make_room(len(data))
                self._is_cut = os.write(self._fd, data) < len(data)
                self._lost = 0
            except OSError:  # such as a full disk
                self._lost += 1

    def _make_room(self, size: int) -> None:
        """Begin a new file if this one would become too large, or open that of another process.

        Raises:
            OSError: it cannot be opened.
        """
        status = os.fstat(self._fd)
        if status.st_size + size <= DEBUG_FILE_MAX:
            return
        if _names(self._path, status):
            with suppress(FileNotFoundError):
                _expect_replaceable(self._old)
            os.replace(self._path, self._old)
        fd = _open(self._path)
        os.close(self._fd)
        self._fd = fd


def log_output(kind: str, fields: Mapping[str, object]) -> None:
    """Log an event that a command shows to its user, unless it is one of `RESULTS`."""
    if kind not in RESULTS:
        facts = {key: str(each) if isinstance(each, Path) else each for key, each in fields.items()}
        facts.pop("root", None)  # the contents of a small file can be guessed from its hash
        _shown.debug(f"{kind}: {' '.join(f'{key}={{{key}!r}}' for key in facts)}", **facts)


def shown_words(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command line without secrets: links, invitations, and the paths of passphrases."""
    hides = False
    for word in words:
        flag, equals, _ = word.partition("=")
        if hides or _STATEMENT.fullmatch(word) or word.lower().startswith(_LINK):
            hides = False
            yield HIDDEN
        elif flag.startswith("--") and is_secret(flag):
            hides = not equals
            yield f"{flag}={HIDDEN}" if equals else word
        else:
            yield word


def _names(path: Path, status: os.stat_result) -> bool:
    """Return whether a path leads to the file with this status."""
    try:
        return os.path.samestat(os.lstat(path), status)
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    """Open a debug log, and create it if it does not exist.

    Raises:
        OSError: the file is not a debug log, or cannot be written.
    """
    fd = os.open(path, _OPENING, 0o600)
    try:
        _expect_log(fd)
        if not os.fstat(fd).st_size:
            os.write(fd, PREFACE.encode())
    except OSError:
        os.close(fd)
        raise
    return fd


def _expect_replaceable(path: Path) -> None:
    """Make sure that a file may be replaced.

    Raises:
        OSError: it is not a debug log of this user, or does not exist.
    """
    fd = os.open(path, _READING)
    try:
        _expect_log(fd)
    finally:
        os.close(fd)


def _expect_log(fd: int) -> None:
    """Make sure that an open file is a debug log of this user, or empty, and that only its owner can read it."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a plain file")
    if status.st_uid != os.geteuid():
        raise OSError("it belongs to another user")
    if status.st_size and os.pread(fd, len(TITLE), 0) != TITLE.encode():
        raise OSError("it exists, and is not a debug log. Name another file")
    if status.st_mode & 0o077:
        with suppress(OSError):  # a file system without modes
            os.fchmod(fd, 0o600)
