"""The way a terminal shows pictures: kitty's protocol, Sixel, or coloured half blocks.

Theory of operation. Variables such as TERM say little about graphics: they are lost or inherited by ssh, sudo and tmux.
So the terminal itself is asked, once, before the first picture, with three questions at once: kitty's own query, the
size of a cell in pixels, and the primary device attributes (DA1), of which attribute 4 is Sixel. Every terminal
answers the last question and answers in order, so the wait usually ends within a round trip. tmux answers for itself,
and its answer is the right one, because it passes on only what it understands.

* Nothing is asked if the answer would be of no use, or could harm: output that is no terminal, a process in the
  background, terminals that are known to print kitty's query, and while typed keys wait to be read.
* The terminal is opened a second time for reading, so the streams and their modes stay as they are. It delivers keys
  one by one and without echo during the wait. Ctrl+C stays a signal. The mode is restored in any case.
* Keys that the user types during the wait are put back into the terminal (TIOCSTI). Linux may refuse that from 6.2 on;
  keys of these few milliseconds are lost there.
* A terminal that answers later than the wait would seem to type. Therefore the wait is longer over ssh.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.ui.terminal.picture_form import Graphics, PictureForm

if TYPE_CHECKING:
    from p2pshare.ui.terminal.capabilities import Terminal

LOCAL_WAIT = 0.3  # seconds for the answers of a terminal on this machine
REMOTE_WAIT = 1.5  # seconds, over ssh
ANSWERS_MAX = 1024  # bytes of answers, and of keys between them
CELL_MIN, CELL_MAX = 4, 64  # pixels of the width and of the height of a cell

QUERY = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
CELL_QUERY = b"\x1b[16t"
ATTRIBUTES_QUERY = b"\x1b[c"
SIXEL_ATTRIBUTE = 4

_ANSWER = re.compile(
    rb"\x1b_G(?P<kitty>[^\x1b]*)\x1b\\|\x1b\[6;(?P<cell>[0-9]{1,4};[0-9]{1,4})t|\x1b\[\?(?P<da>[0-9;]*)c"
)
_UNFINISHED = re.compile(rb"\x1b(_[^\x1b]*\x1b?|\[(\?[0-9;]*|6;[0-9;]*))$")
_LOCAL_FLAGS = 3  # index in the list of tcgetattr


@dataclass(frozen=True, slots=True)
class Answers:
    """What a terminal has answered so far."""

    has_kitty: bool
    has_sixel: bool
    cell: tuple[int, int] | None
    is_complete: bool
    typed: bytes
    """The keys of the user among the answers."""

    @classmethod
    def parse(cls, data: bytes) -> Answers:
        """Separate answers from keys. Anything else in `data` counts as keys."""
        has_kitty = has_sixel = is_complete = False
        cell = None
        for match in _ANSWER.finditer(data):
            if match["kitty"] is not None:
                has_kitty |= match["kitty"].endswith(b";OK")
            elif match["cell"] is not None:
                height, width = map(int, match["cell"].split(b";"))
                cell = usable_cell(width, height)
            else:
                is_complete = True
                has_sixel |= str(SIXEL_ATTRIBUTE).encode() in match["da"].split(b";")[1:]
        typed = _UNFINISHED.sub(b"", _ANSWER.sub(b"", data))
        return cls(has_kitty, has_sixel, cell, is_complete, typed)


class ITerminalReactor(IReactorFDSet, IReactorTime):
    """The parts of a reactor that a query needs."""


def usable_cell(width: int, height: int) -> tuple[int, int] | None:
    """Return the size of a cell, or None if it cannot be one."""
    is_usable = CELL_MIN <= width <= CELL_MAX and CELL_MIN <= height <= CELL_MAX
    return (width, height) if is_usable else None


async def detect_graphics(
    reactor: ITerminalReactor, terminal: Terminal, choice: str, environ: Mapping[str, str]
) -> Graphics:
    """Return how pictures are shown on `terminal`, after asking it if needed.

    Args:
        reactor: waits for the answer, at most `REMOTE_WAIT`.
        terminal: the terminal.
        choice: a `PictureForm`, or `auto` for the best one that the terminal has.
        environ: the environment of the process.
    """
    form = None if choice == "auto" else PictureForm(choice)
    if not terminal.redraws:
        return Graphics()
    if form in (PictureForm.BLOCKS, PictureForm.OFF):
        return Graphics(form)
    answers = Answers(False, False, None, False, b"")
    with suppress(OSError, ValueError, termios.error):  # no terminal, or one that is gone
        device = os.ttyname(terminal.stream.fileno())
        fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if _may_ask(fd):
                has_query = form is PictureForm.KITTY or _takes_kitty_query(environ)
                asked = (QUERY if has_query else b"") + CELL_QUERY + ATTRIBUTES_QUERY
                wait = REMOTE_WAIT if environ.get("SSH_CONNECTION") else LOCAL_WAIT
                answers = await _TerminalQuery(reactor, fd).ask(asked, wait)
            cell = answers.cell or _cell_of_window(fd)
        finally:
            os.close(fd)
        numbers = itertools.count((os.getpid() & 0xFFFFF) << 8 | 1)
        if form is PictureForm.KITTY or (form is None and answers.has_kitty):
            return Graphics(PictureForm.KITTY, cell, numbers)
        if cell is not None and (form is PictureForm.SIXEL or answers.has_sixel):
            return Graphics(PictureForm.SIXEL, cell)
    return Graphics()


def _takes_kitty_query(environ: Mapping[str, str]) -> bool:
    """Whether kitty's query is harmless: GNU screen takes it for a message, and two terminals print it."""
    is_screen = "STY" in environ and "TMUX" not in environ
    prints = environ.get("TERM") == "linux" or environ.get("TERM_PROGRAM") == "Apple_Terminal"
    return not is_screen and not prints


def _may_ask(fd: int) -> bool:
    """Whether the process is in the foreground, and no key waits to be read."""
    try:
        if os.tcgetpgrp(fd) != os.getpgrp():
            return False
    except OSError:  # not the controlling terminal, so there is no job control
        pass
    return _waiting_bytes(fd) == 0


def _waiting_bytes(fd: int) -> int:
    """Return the number of bytes that could be read now; while lines are edited, those of complete lines."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, struct.pack("i", 0)))[0])


def _cell_of_window(fd: int) -> tuple[int, int] | None:
    """Return the size of a cell by that of the window, which most terminals tell the kernel."""
    size = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    lines, columns, width, height = struct.unpack("HHHH", size)
    return usable_cell(width // columns, height // lines) if columns and lines else None


@implementer(IReadDescriptor)
class _TerminalQuery:
    """One question to a terminal."""

    def __init__(self, reactor: ITerminalReactor, fd: int) -> None:
        self._reactor = reactor
        self._fd = fd
        self._data = b""
        self._answered: Deferred[None] = Deferred()

    async def ask(self, question: bytes, wait: float) -> Answers:
        """Return the answers that come within `wait` seconds.

        Raises:
            OSError, termios.error: the terminal is gone.
        """
        before = termios.tcgetattr(self._fd)
        mode: list[Any] = list(before)
        mode[_LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)
        timer = self._reactor.callLater(wait, self._end)
        try:
            if _waiting_bytes(self._fd) == 0:  # also of a line that is not complete
                os.write(self._fd, question)
                self._reactor.addReader(self)
                await self._answered
        finally:
            self._reactor.removeReader(self)
            if timer.active():
                timer.cancel()
            answers = Answers.parse(self._data)
            termios.tcsetattr(self._fd, termios.TCSANOW, before)
            self._put_back(answers.typed)
        return answers

    def fileno(self) -> int:
        """The descriptor of the terminal."""
        return self._fd

    def doRead(self) -> None:
        """Read once."""
        with suppress(OSError):
            self._data += os.read(self._fd, ANSWERS_MAX)
        if Answers.parse(self._data).is_complete or not 0 < len(self._data) <= ANSWERS_MAX:
            self._end()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has found the descriptor closed."""
        self._end()

    def logPrefix(self) -> str:  # noqa: N802
        """The name in Twisted's log."""
        return "terminal query"

    def _end(self) -> None:
        if not self._answered.called:
            self._answered.callback(None)

    def _put_back(self, keys: bytes) -> None:
        with suppress(OSError):  # not every kernel allows it
            for key in keys:
                fcntl.ioctl(self._fd, termios.TIOCSTI, bytes([key]))
