"""Questions to a user, and lines above the question that is open, on a terminal or over pipes."""

from __future__ import annotations

import codecs
import os
import signal
import termios
from contextlib import suppress
from typing import Any

from colorama import Fore, Style
from rich.cells import cell_len
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFDSet, IReactorFromThreads, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.errors import WrongUsage
from p2pshare.storage.reasons import plain_reason
from p2pshare.storage.text_files import plain_ascii
from p2pshare.ui.dialog.line_editor import LineEditor, LineEntered
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal

READ_MAX = 4096  # bytes at once
ANSWER_ROOM = 12  # columns of a line that are left for an answer
WHERE_MIN = 8  # columns from which on there is room for where the user is

_CLEAR_LINE = "\r\x1b[2K"
_LOCAL_FLAGS = 3  # in what tcgetattr returns


class IConsoleReactor(IReactorFDSet, IReactorFromThreads):
    """All that a console needs of a reactor."""


class Console:
    """Asks on a terminal, and reads the answers from a file descriptor.

    Where both are a terminal that can redraw, the line is edited here, so that it can be drawn
    again below whatever else is to be said. Keys are read only while a question is open. `close`
    it in any case: it puts the terminal back as it was.
    """

    def __init__(
        self, reactor: IConsoleReactor, fd: int, terminal: Terminal, output: Output
    ) -> None:
        self._reactor = reactor
        self._terminal = terminal
        self._output = output
        self._echoes = os.isatty(fd)
        self._mode = _Mode(fd) if self._echoes and terminal.redraws else None
        self._input = _Input(fd, self._received, self._ended)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._editor = LineEditor()
        self._question: str | None = None
        self._where = ""
        self._answer: Deferred[str | None] = Deferred()
        self._at_end = False
        self._has_received = False
        if self._mode is not None:
            self._mode.unbuffered()
            signal.signal(signal.SIGCONT, self._continued)

    @property
    def is_terminal(self) -> bool:
        """Whether the answers come from a terminal."""
        return self._echoes

    async def ask(self, question: str, where: str = "") -> str | None:
        """The line that the user answers, or None at the end of the input.

        Args:
            question: what to ask.
            where: where the user is; it stands before the question as far as there is room.

        Raises:
            WrongUsage: the input is a text in UTF-16 or UTF-32.
        """
        self._question, self._where = question, where
        answer = self._answer = Deferred()
        self._draw()
        self._reactor.addReader(self._input)
        self._proceed()
        try:
            return await answer
        except CancelledError:
            self._complete(self._editor.text)
            raise
        finally:
            self._reactor.removeReader(self._input)
            self._question = None

    def line(self, text: str, colour: str = "") -> None:
        """Say something; an open question stays below it, with what has been typed."""
        if self._question is None:
            self._output.line(text, colour)
            return
        self._terminal.stream.write(_CLEAR_LINE if self._mode else "\n")
        self._output.line(text, colour)
        self._draw()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._mode is not None:
            signal.signal(signal.SIGCONT, signal.SIG_DFL)
            self._mode.restore()

    def _received(self, data: bytes) -> None:
        is_first, self._has_received = not self._has_received, True
        try:
            if is_first and not self._echoes:
                plain_ascii(data)
        except OSError as error:
            self._complete("")
            reason = f"The answers on standard input cannot be read: {plain_reason(error)}."
            self._answer.errback(WrongUsage(reason=reason))
            return
        self._editor.receive(self._decoder.decode(data))
        self._proceed()

    def _ended(self) -> None:
        self._at_end = True
        self._proceed()

    def _proceed(self) -> None:
        """Answer the question if there is a line, else show the line as far as it goes."""
        if self._answer.called:
            return
        event = self._editor.next_event() or (self._editor.finish() if self._at_end else None)
        if event is None and not self._at_end:
            if self._mode is not None:
                self._draw()
            return
        text = event.text if isinstance(event, LineEntered) else None
        self._complete(text or "")
        if text is None and self._echoes and self._mode is None:  # nobody has pressed Enter
            self._terminal.stream.write("\n")
        self._answer.callback(text)

    def _complete(self, text: str) -> None:
        """Leave the question with its answer on the screen."""
        stream = self._terminal.stream
        if self._mode is not None:
            stream.write(f"{_CLEAR_LINE}{self._prompt()}{self._terminal.shown(text)}\n")
        elif not self._echoes:
            stream.write(f"{self._terminal.shown(text)}\n")
        stream.flush()

    def _draw(self) -> None:
        stream, prompt = self._terminal.stream, self._prompt()
        if self._mode is None:
            stream.write(prompt)
        else:
            room = self._terminal.columns - cell_len(f"{self._asked()} ")
            before, behind = map(self._terminal.shown, self._editor.visible(max(1, room)))
            stream.write(f"{_CLEAR_LINE}{prompt}{before}{behind}")
            if behind:
                stream.write(f"\r{prompt}{before}")
        stream.flush()

    def _asked(self) -> str:
        """The question, behind where the user is; of a long path the end is shown."""
        where = self._terminal.shown(self._where)
        room = self._terminal.columns - cell_len(f"[] {self._question} ") - ANSWER_ROOM
        if not where or room < WHERE_MIN:
            return f"{self._question}"
        if cell_len(where) > room:
            while cell_len(where) > room - 3:
                where = where[1:]
            where = f"...{where}"
        return f"[{where}] {self._question}"

    def _prompt(self) -> str:
        if not self._terminal.colours:
            return f"{self._asked()} "
        return f"{Style.BRIGHT}{Fore.CYAN}{self._asked()}{Style.RESET_ALL} "

    def _continued(self, *_: object) -> None:
        """After Ctrl+Z, the shell may have left the terminal as it likes it."""
        self._reactor.callFromThread(self._draw_again)

    def _draw_again(self) -> None:
        if self._mode is not None:
            self._mode.unbuffered()
        if self._question is not None:
            self._draw()


class _Mode:
    """The mode of a terminal: as it was, or such that each key comes at once and is not echoed.

    Ctrl+C and Ctrl+Z remain signals. A terminal that is gone has no mode to change.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None
        with suppress(termios.error):
            self._before = termios.tcgetattr(fd)

    def unbuffered(self) -> None:
        with suppress(termios.error):
            mode = termios.tcgetattr(self._fd)
            mode[_LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)

    def restore(self) -> None:
        if self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


@implementer(IReadDescriptor)
class _Input:
    """Bytes from a descriptor that stays blocking: as a terminal it is shared with our output, and with the shell."""

    def __init__(self, fd: int, received: Any, ended: Any) -> None:
        self._fd = fd
        self._received = received
        self._ended = ended

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def doRead(self) -> None:  # noqa: N802
        """Take what is there."""
        try:
            data = os.read(self._fd, READ_MAX)
        except OSError:  # the terminal is gone
            data = b""
        if data:
            self._received(data)
        else:
            self._ended()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor found the descriptor closed."""
        self._ended()

    def logPrefix(self) -> str:  # noqa: N802
        """How the log calls it."""
        return "console"
