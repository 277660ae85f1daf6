"""Passphrases and consent: asked for on the terminal, or read from a file; never from the command line."""

from __future__ import annotations

import getpass
import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pshare.errors import CannotRead, WrongUsage
from p2pshare.storage.identity.key_export import PASSPHRASE_MIN
from p2pshare.storage.reasons import plain_reason
from p2pshare.storage.text_files import plain_utf8

PASSPHRASE_MAX = 1024  # bytes of one in a file
TRIES = 3  # for two answers that are the same, and long enough
TERMINAL = "/dev/tty"
STDIN = "-"
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process at once, were they not postponed while a passphrase is typed."""


def new_passphrase(file: str | None) -> str:
    """A passphrase for something new: from the first line of `file`, else asked for twice.

    Raises:
        WrongUsage: it is too short, the answers differ, or there is no terminal to ask on.
        CannotRead: the file cannot be read.
    """
    if file is not None:
        return _long_enough(_read(file))
    for _ in range(TRIES):
        passphrase = _ask(f"A new passphrase, of {PASSPHRASE_MIN} characters or more:")
        if len(passphrase) < PASSPHRASE_MIN:
            sys.stderr.write("That is too short.\n")
        elif passphrase == _ask("The same again:"):
            return passphrase
        else:
            sys.stderr.write("Those are not the same.\n")
    raise WrongUsage(reason="No passphrase was given, and nothing was written.")


def known_passphrase(file: str | None) -> str:
    """The passphrase of something that is there: from the first line of `file`, else asked for.

    Raises:
        WrongUsage: there is no terminal to ask on.
        CannotRead: the file cannot be read.
    """
    return _read(file) if file is not None else _ask("Its passphrase:")


def consent(question: str, flag: str) -> bool:
    """Whether the user says yes; asks again until it is yes or no, or there is no more to read, which is no.

    Args:
        question: what to ask.
        flag: what says yes where nobody can be asked.

    Raises:
        WrongUsage: stdin is no terminal.
    """
    if not os.isatty(0) or sys.stdin is None:
        raise WrongUsage(reason=f"There is nobody to ask whether you mean it: say {flag}.")
    while True:
        sys.stderr.write(f"{question} (yes/no) ")
        sys.stderr.flush()
        line = ""
        with _line_ended(), suppress(OSError):  # the terminal is gone
            line = sys.stdin.readline()
        if not line.endswith("\n"):
            _end_line()
        answer = line.strip().casefold()
        if answer in _ANSWERS or not line:
            return _ANSWERS.get(answer, False)


def _ask(question: str) -> str:
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        reason = "There is no terminal to ask for a passphrase on: say --passphrase-file FILE."
        raise WrongUsage(reason=reason) from error
    try:
        with _signals_postponed(), _line_ended():
            return getpass.getpass(f"{question} ")
    except (
        EOFError,
        OSError,
        termios.error,
    ) as error:  # the input has ended, or the terminal is gone
        if isinstance(error, EOFError):
            _end_line()
        raise WrongUsage(reason="No passphrase was given, and nothing was written.") from error
    except UnicodeDecodeError as error:
        raise WrongUsage(reason="A passphrase must be text in UTF-8.") from error


class _Signalled(BaseException):
    """A signal has come that would have ended the process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _signals_postponed() -> Iterator[None]:
    """Let a signal end the process only after the terminal shows again what is typed; Ctrl+C does so anyway."""

    def raise_it(number: int, frame: object) -> None:
        raise _Signalled(number)

    ending = [each for each in ENDING if signal.getsignal(each) is signal.SIG_DFL]
    came = None
    try:
        for each in ending:
            signal.signal(each, raise_it)
        yield
    except _Signalled as signalled:
        came = signalled.number
    finally:
        for each in ending:
            signal.signal(each, signal.SIG_DFL)
    if came is not None:
        _end_line()
        os.kill(os.getpid(), came)


@contextmanager
def _line_ended() -> Iterator[None]:
    """Leave what comes after Ctrl+C a line of its own."""
    try:
        yield
    except KeyboardInterrupt:
        _end_line()
        raise


def _end_line() -> None:
    with suppress(OSError):  # the terminal is gone
        sys.stderr.write("\n")
        sys.stderr.flush()


def _read(file: str) -> str:
    try:
        if file == STDIN:
            line = sys.stdin.buffer.readline(PASSPHRASE_MAX + 1) if sys.stdin else b""
        else:
            with open(Path(file).expanduser(), "rb") as opened:
                line = opened.readline(PASSPHRASE_MAX + 1)
    except OSError as error:
        raise CannotRead(path=file, reason=plain_reason(error)) from error
    if len(line) > PASSPHRASE_MAX:
        raise WrongUsage(reason=f"The passphrase is longer than {PASSPHRASE_MAX} bytes.")
    try:
        return plain_utf8(line).decode().rstrip("\r\n")
    except OSError as error:
        where = "stdin" if file == STDIN else file
        reason = f"The passphrase in {where} cannot be used: {plain_reason(error)}."
        raise WrongUsage(reason=reason) from error


def _long_enough(passphrase: str) -> str:
    if len(passphrase) < PASSPHRASE_MIN:
        raise WrongUsage(reason=f"A passphrase has at least {PASSPHRASE_MIN} characters.")
    return passphrase
