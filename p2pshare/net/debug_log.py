"""The file of `--debug`: what a command did, enough to find the cause of a fault by mail.

All events of the process go there, those of level `debug` too, one line each, with the time in UTC. The log of a
service (`net/logs.py`) shows events in the same way and hides the same secrets. Events name facts: hosts, statuses,
public keys, names of files. No event has a private key, a passphrase, a token, a message or the content of a file.

The file is its owner's alone. A file that is no debug log is left as it is. If it cannot be written any more, lines are
lost and counted, and the command goes on. Several processes may write to one file.
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
from p2pshare.storage.reasons import plain_reason
from twisted import __version__ as twisted_version

DEBUG_FILE_MAX = 8 * 1024 * 1024  # bytes; then the file becomes FILE.old, and a new one is begun
TITLE = "p2pshare debug log"
"""With what every such file begins."""
PREFACE = (
    f"{TITLE}: it names people, addresses and files, and holds no keys, passphrases or tokens\n"
)

RESULTS = frozenset({"entry", "user"})
"""Events that are not logged."""

_told = Logger("p2pshare.ui.output")
_OPENING = (
    os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
)  # fmt: skip
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STATEMENT = re.compile(r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}")
_LOCALE = re.compile(
    r"LANG|LC_[A-Z]+|TERM|NO_COLOR|PYTHONUTF8|SSL_CERT_(FILE|DIR)|P2PSHARE_[A-Z_]+"
)
"""Variables that change what a command does."""


@implementer(ILogObserver)
class DebugLog:
    """An observer that appends each event to a file; `begin` and `end` frame one run of a command."""

    _log = Logger()

    def __init__(self, path: Path, seconds: Callable[[], float]) -> None:
        """Open the file, which is made if need be.

        Args:
            path: its name.
            seconds: measures how long the run takes.

        Raises:
            CannotSave: it cannot be written, or it is something else than a debug log.
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
        """Write what the report of a fault has to say first; the log of the process has begun."""
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
        """Write how the command ended, and close the file."""
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
        """Begin a new file if this one would grow too large; another process may have begun it already.

        Raises:
            OSError: there can be none.
        """
        status = os.fstat(self._fd)
        if status.st_size + size <= DEBUG_FILE_MAX:
            return
        if _names(self._path, status):
            with suppress(FileNotFoundError):
                _judge(self._old)
            os.replace(self._path, self._old)
        fd = _open(self._path)
        os.close(self._fd)
        self._fd = fd


def log_told(kind: str, fields: Mapping[str, object]) -> None:
    """Log an event that a command tells its user, but for the rows of a listing, and without the hash of content."""
    if kind not in RESULTS:
        facts = {key: str(each) if isinstance(each, Path) else each for key, each in fields.items()}
        facts.pop("root", None)  # by which the content of a small file can be guessed
        _told.debug(f"{kind}: {' '.join(f'{key}={{{key}!r}}' for key in facts)}", **facts)


def shown_words(words: Sequence[str]) -> Iterator[str]:
    """Return the words of a command line without what may be a secret: invitations, and where passphrases are."""
    hides = False
    for word in words:
        flag, equals, _ = word.partition("=")
        if hides or _STATEMENT.fullmatch(word):
            hides = False
            yield HIDDEN
        elif flag.startswith("--") and is_secret(flag):
            hides = not equals
            yield f"{flag}={HIDDEN}" if equals else word
        else:
            yield word


def _names(path: Path, status: os.stat_result) -> bool:
    """Whether a path is the name of the file with this status."""
    try:
        return os.path.samestat(os.lstat(path), status)
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    """Open a debug log, and create it if it does not exist.

    Raises:
        OSError: the file is no debug log, or cannot be written.
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


def _judge(path: Path) -> None:
    """Make sure that a file may be replaced.

    Raises:
        OSError: it is no debug log of ours, or there is none.
    """
    fd = os.open(path, _READING)
    try:
        _expect_log(fd)
    finally:
        os.close(fd)


def _expect_log(fd: int) -> None:
    """Make sure that an open file is a debug log of ours, or empty, and let nobody else read it."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a plain file")
    if status.st_uid != os.geteuid():
        raise OSError("it belongs to another user")
    if status.st_size and os.pread(fd, len(TITLE), 0) != TITLE.encode():
        raise OSError("it is there already, and is no debug log. Name another file")
    if status.st_mode & 0o077:
        with suppress(OSError):  # a file system without modes
            os.fchmod(fd, 0o600)
