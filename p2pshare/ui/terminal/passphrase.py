"""Passphrases and confirmations, typed on the terminal or read from a file.

The command line and the environment never hold a passphrase, since other users can see those.
"""

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
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.text_files import plain_utf8

PASSPHRASE_MAX = 1024  # bytes in a file
TRIES = 3  # attempts to type a new passphrase twice
TERMINAL = "/dev/tty"
STDIN = "-"
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that are postponed while a passphrase is typed, since the terminal would stay without an echo."""


def new_passphrase(file: str | None) -> str:
    """Return a new passphrase: the first line of `file`, or else typed twice.

    Raises:
        WrongUsage: it is too short, the answers differ, or there is no terminal.
        CannotRead: the file cannot be read.
    """
    if file is not None:
        return _long_enough(_read(file))
    for _ in range(TRIES):
        passphrase = _ask(f"New passphrase, at least {PASSPHRASE_MIN} characters:")
        if len(passphrase) < PASSPHRASE_MIN:
            sys.stderr.write("The passphrase is too short.\n")
        elif passphrase == _ask("Repeat the passphrase:"):
            return passphrase
        else:
            sys.stderr.write("The passphrases differ.\n")
    reason = f"No passphrase of at least {PASSPHRASE_MIN} characters was typed twice, so nothing was written."
    raise WrongUsage(reason=reason)


def known_passphrase(file: str | None) -> str:
    """Return the passphrase of an existing file: the first line of `file`, or else typed.

    Raises:
        WrongUsage: there is no terminal.
        CannotRead: the file cannot be read.
    """
    return _read(file) if file is not None else _ask("Passphrase:")


def consent(question: str, flag: str) -> bool:
    """Ask until the user types yes or no, and return whether it was yes; the end of the input is no.

    Args:
        question: the question.
        flag: the flag that replaces the question.

    Raises:
        WrongUsage: standard input is not a terminal.
    """
    if not os.isatty(0) or sys.stdin is None:
        raise WrongUsage(reason=f"There is no terminal for the confirmation: use {flag}.")
    while True:
        sys.stderr.write(f"{question} (yes/no) ")
        sys.stderr.flush()
        line = ""
        with _line_ended(), suppress(OSError):  # the terminal is closed
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
        reason = "There is no terminal for the passphrase: use --passphrase-file FILE."
        raise WrongUsage(reason=reason) from error
    try:
        with _signals_postponed(), _line_ended():
            return getpass.getpass(f"{question} ")
    # The input has ended, or the terminal is closed.
    except (EOFError, OSError, termios.error) as error:
        if isinstance(error, EOFError):
            _end_line()
        raise WrongUsage(reason="No passphrase was typed, so nothing was written.") from error
    except UnicodeDecodeError as error:
        raise WrongUsage(reason="A passphrase must be text in UTF-8.") from error


@contextmanager
def _signals_postponed() -> Iterator[None]:
    """Let a signal end the process only after the echo of the terminal is restored. Ctrl+C needs no help."""
    came: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    ending = [each for each in ENDING if signal.getsignal(each) is signal.SIG_DFL]
    try:
        for each in ending:
            signal.signal(each, interrupt)
        yield
    finally:
        for each in ending:
            signal.signal(each, signal.SIG_DFL)
        if came:
            os.kill(os.getpid(), came[0])


@contextmanager
def _line_ended() -> Iterator[None]:
    """End the line after Ctrl+C, so that the next output has its own."""
    try:
        yield
    except KeyboardInterrupt:
        _end_line()
        raise


def _end_line() -> None:
    with suppress(OSError):  # the terminal is closed
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
