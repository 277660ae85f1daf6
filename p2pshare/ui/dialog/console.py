"""Questions to a user, and lines above the open question, on a terminal or over pipes.

Theory of operation. Other commands let the terminal edit a line and read it when Enter is pressed. Here a line may have
to be written at any time, because somebody fetches a file. So on a terminal that can redraw, keys come one by one, a
`LineEditor` edits the line, and `Console` draws the question and the line again below each new line.

* The descriptor stays blocking. As a terminal it is the same open file as our output and the shell's input, and
  O_NONBLOCK would be set for all of them. `os.read` after the reactor has found the descriptor readable never waits.
* The descriptor is watched only while a question is open. What is typed ahead stays in the kernel, whose buffer has a
  bound, and an endless input (`yes | p2pshare`) fills nothing. Twisted's `StandardIO` reads all the time.
* Ctrl+C and Ctrl+Z remain signals (ISIG stays on), so they work while the process is busy.
* The shell may set the terminal's mode while the process is suspended, so the mode is set again after SIGCONT.
* The end of the input answers None once the rest of the last line is used up. A terminal that is closed is such an
  end: `read` fails with EIO then, before or after SIGHUP.
* Where the answers do not come from a terminal, each is written behind its question, so a transcript reads as a dialog.
"""

from __future__ import annotations

import codecs
import os
import signal
import sys
import termios
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any, Self, TypeVar, cast

from colorama import Fore, Style
from rich.cells import cell_len
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFDSet, IReactorFromThreads, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.errors import AnswersUnreadable, WrongUsage
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.text_files import plain_ascii
from p2pshare.ui.dialog.line_editor import LineEditor, LineEntered
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal

GOOD, BAD, HINT = Fore.GREEN, Fore.RED, Style.DIM
"""Colours of lines: a success, an error, something minor."""
Line = tuple[str, str]
"""A line for the user, and its colour. The text may come from outside."""

READ_MAX = 4096  # bytes at once
ANSWER_COLUMNS = 12  # columns of a line that are kept for the answer
WHERE_COLUMNS_MIN = 8  # with fewer columns left, the prompt does not show where the user is

_CLEAR_LINE = "\r\x1b[2K"
_LOCAL_FLAGS = 3  # index in the list of tcgetattr
T = TypeVar("T")


class IConsoleReactor(IReactorFDSet, IReactorFromThreads):
    """The parts of a reactor that a console needs."""


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Ctrl+C has stopped a transfer, and nothing else."""


@implementer(IReadDescriptor)
class Console:
    """Asks on a terminal, and reads the answers from a descriptor. Always call `close`, which restores the terminal."""

    def __init__(
        self,
        reactor: IConsoleReactor,
        fd: int,
        terminal: Terminal,
        output: Output,
        forgive_signal: Callable[[], object] = lambda: None,
    ) -> None:
        """Read answers from `fd`.

        Args:
            reactor: the reactor that watches `fd`.
            fd: the descriptor of the answers.
            terminal: the stream of the questions.
            output: the destination of lines.
            forgive_signal: tells `net.process_end` that a signal does not end the process.
        """
        self._reactor = reactor
        self._terminal = terminal
        self._output = output
        self._forgive_signal = forgive_signal
        self.is_terminal = os.isatty(fd)
        """Whether the answers come from a terminal."""
        self._mode = _Mode(fd) if self.is_terminal and terminal.redraws else None
        self._fd = fd
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

    @classmethod
    def on_stdin(cls, invocation: Invocation) -> Self:
        """Ask on standard output, and read standard input.

        Raises:
            WrongUsage: standard input is closed.
        """
        if sys.stdin is None or sys.stdin.closed:
            raise WrongUsage(reason="The dialog reads answers, but standard input is closed.")
        stdout = Terminal.detect(sys.stdout, os.environ)
        reactor, fd = cast(IConsoleReactor, invocation.reactor), sys.stdin.fileno()
        return cls(reactor, fd, stdout, invocation.output, invocation.forgive_signal)

    async def ask(self, question: str, where: str = "") -> str | None:
        """Return the line that the user answers, or None at the end of the input.

        Args:
            question: the question.
            where: the place where the user is, shown before the question if there is room.

        Raises:
            AnswersUnreadable: the input is text in UTF-16 or UTF-32.
        """
        self._question, self._where = question, where
        answer = self._answer = Deferred()
        self._draw()
        self._reactor.addReader(self)
        self._proceed()
        try:
            return await answer
        except CancelledError:
            self._complete(self._editor.text)
            raise
        finally:
            self._reactor.removeReader(self)
            self._question = None

    async def interruptible(self, transfer: Coroutine[Any, Any, T]) -> T:
        """Await a transfer. On a terminal, the first Ctrl+C cancels it, and the second one ends the process as usual.

        Raises:
            Interrupted: there was one Ctrl+C.
        """
        going = Deferred.fromCoroutine(transfer)
        before = signal.getsignal(signal.SIGINT)
        if not self.is_terminal or not callable(before):
            return await going
        is_stopped = False

        def stop() -> None:
            nonlocal is_stopped
            is_stopped = True
            self._forgive_signal()
            going.cancel()

        def interrupted(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, before)
            self._reactor.callFromThread(stop)

        signal.signal(signal.SIGINT, interrupted)
        try:
            return await going
        except CancelledError:
            if is_stopped:
                raise Interrupted from None
            raise
        finally:
            signal.signal(signal.SIGINT, before)

    def line(self, text: str, colour: str = "") -> None:
        """Write a line; an open question stays below it, with the characters typed so far."""
        if self._question is None:
            self._output.line(text, colour)
            return
        self._terminal.stream.write(_CLEAR_LINE if self._mode else "\n")
        self._output.line(text, colour)
        self._draw()

    def close(self) -> None:
        """Restore the terminal."""
        if self._mode is not None:
            signal.signal(signal.SIGCONT, signal.SIG_DFL)
            self._mode.restore()

    def fileno(self) -> int:
        """The descriptor of the answers."""
        return self._fd

    def doRead(self) -> None:
        """Read once."""
        try:
            data = os.read(self._fd, READ_MAX)
        except OSError:  # the terminal is gone
            data = b""
        if data:
            self._received(data)
        else:
            self._ended()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has found the descriptor closed."""
        self._ended()

    def logPrefix(self) -> str:  # noqa: N802
        """The name in Twisted's log."""
        return "console"

    def _received(self, data: bytes) -> None:
        is_first, self._has_received = not self._has_received, True
        try:
            if is_first and not self.is_terminal:
                plain_ascii(data)
        except OSError as error:
            self._complete("")
            self._answer.errback(AnswersUnreadable(reason=plain_reason(error)))
            return
        self._editor.receive(self._decoder.decode(data))
        self._proceed()

    def _ended(self) -> None:
        self._at_end = True
        self._proceed()

    def _proceed(self) -> None:
        """Answer the question if a line is complete, else draw what is typed so far."""
        if self._answer.called:
            return
        event = self._editor.next_event() or (self._editor.finish() if self._at_end else None)
        if event is None and not self._at_end:
            if self._mode is not None:
                self._draw()
            return
        text = event.text if isinstance(event, LineEntered) else None
        self._complete(text or "")
        if text is None and self.is_terminal and self._mode is None:  # nobody has pressed Enter
            self._terminal.stream.write("\n")
        self._answer.callback(text)

    def _complete(self, text: str) -> None:
        """Leave the question and its answer on the screen."""
        stream = self._terminal.stream
        if self._mode is not None:
            stream.write(f"{_CLEAR_LINE}{self._prompt()}{self._terminal.shown(text)}\n")
        elif not self.is_terminal:
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
        """The question, after the place where the user is; a long place is cut at its beginning."""
        where = self._terminal.shown(self._where)
        room = self._terminal.columns - cell_len(f"[] {self._question} ") - ANSWER_COLUMNS
        if not where or room < WHERE_COLUMNS_MIN:
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
        self._reactor.callFromThread(self._draw_again)

    def _draw_again(self) -> None:
        if self._mode is not None:
            self._mode.unbuffered()
        if self._question is not None:
            self._draw()


class _Mode:
    """The mode of a terminal. A terminal that is gone has no mode to change."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None
        with suppress(termios.error):
            self._before = termios.tcgetattr(fd)

    def unbuffered(self) -> None:
        """Deliver each key at once, without an echo."""
        with suppress(termios.error):
            mode = termios.tcgetattr(self._fd)
            mode[_LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)

    def restore(self) -> None:
        if self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
