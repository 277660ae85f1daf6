"""Tests for `p2pshare.ui.dialog.console`."""

from __future__ import annotations

import io
import os
import termios
from typing import Any, cast
from unittest import skipUnless

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import WrongUsage
from p2pshare.ui.dialog.console import Console
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.hang_up import HangUpStream
from tests.ui.screens import COLOURFUL, RealTerminal, real_terminal


def read_all(reactor: Any) -> None:
    """Let whoever reads do so, once."""
    for reader in list(reactor.readers):
        reader.doRead()


class ConsoleTestCase(SynchronousTestCase):
    console: Console

    def ask(self, question: str) -> Deferred[str | None]:
        return Deferred.fromCoroutine(self.console.ask(question))


class PipeTests(ConsoleTestCase):
    def setUp(self) -> None:
        self.reactor = cast(Any, MemoryReactor())
        self.stream = io.StringIO()
        terminal = Terminal.detect(self.stream, {})
        end, self.pipe = os.pipe()
        self.addCleanup(os.close, end)
        self.console = Console(self.reactor, end, terminal, Output(terminal, terminal))

    def test_transcript(self) -> None:
        """Answers that come all at once are used one by one, and what is written reads as a dialog."""
        os.write(self.pipe, b"\xef\xbb\xbfcarol\nalice\r\nlast")
        os.close(self.pipe)
        answers = []
        for question in ("Name:", "Whom:", "Which:", "Whom:"):
            asked = self.ask(question)
            while not asked.called:
                read_all(self.reactor)
            answers.append(self.successResultOf(asked))
        self.assertEqual(answers, ["carol", "alice", "last", None])
        self.assertEqual(self.stream.getvalue()[:24], "Name: carol\nWhom: alice\n")

    def test_other_encoding(self) -> None:
        """Answers in UTF-16 are refused with its name, rather than taken for a name with odd characters."""
        asked = self.ask("Name:")
        os.write(self.pipe, "carol\r\n".encode("utf-16"))
        os.close(self.pipe)
        read_all(self.reactor)
        error = self.failureResultOf(asked, WrongUsage).value
        self.assertIn("UTF-16", str(error))
        self.assertFalse(self.reactor.readers)

    def test_reads_only_when_asking(self) -> None:
        """Nothing is read while nothing is asked, so an endless input fills nothing."""
        self.addCleanup(os.close, self.pipe)
        self.assertFalse(self.reactor.readers)
        asked = self.ask("Name:")
        os.write(self.pipe, b"carol\n")
        read_all(self.reactor)
        self.assertEqual(self.successResultOf(asked), "carol")
        self.assertFalse(self.reactor.readers)


class TerminalTests(ConsoleTestCase):
    def on_terminal(self, real: RealTerminal, **environ: str) -> None:
        self.reactor = cast(Any, MemoryReactor())
        terminal = Terminal.detect(real.stream, COLOURFUL | environ)
        output = Output(terminal, terminal)
        self.console = Console(self.reactor, real.stream.fileno(), terminal, output)

    def press(self, real: RealTerminal, keys: str) -> None:
        real.type(keys)
        read_all(self.reactor)

    def test_editing(self) -> None:
        """The line is drawn as it is typed; a line that is said goes above it."""
        with real_terminal(40) as real:
            self.on_terminal(real)
            asked = self.ask("Name:")
            self.press(real, "carx")
            self.assertEqual(real.show(), ["Name: carx"])
            self.console.line("192.0.2.7 fetched your text: 5 bytes (0.1 s)")
            self.assertEqual(real.show()[-1], "Name: carx")
            self.press(real, "\x7fol\r")
            self.assertEqual(self.successResultOf(asked), "carol")
            self.assertEqual(
                real.show(), ["192.0.2.7 fetched your text: 5 bytes", "(0.1 s)", "Name: carol"]
            )
            self.assertFalse(real.screen.wrapped)
            self.console.close()

    def test_long_line(self) -> None:
        """A line that is longer than the terminal is wide scrolls in place."""
        with real_terminal(20) as real:
            self.on_terminal(real)
            asked = self.ask("Name:")
            self.press(real, "abcdefghijklmnopqrstuvwxyz")
            self.assertEqual(real.show(), ["Name: nopqrstuvwxyz"])
            self.press(real, "\x01")
            self.assertEqual(real.show(), ["Name: abcdefghijklm"])
            self.assertFalse(real.screen.wrapped)
            asked.cancel()
            self.failureResultOf(asked, CancelledError)
            self.console.close()

    def test_where(self) -> None:
        """Where the user is stands before the question, as far as there is room, and is harmless."""
        where = "alice:photos/\x1b[2J2026/summer holidays"
        for columns, shown in (
            (80, r"^\[alice:photos/.*2026/summer holidays\] Open:$"),
            (40, r"^\[\.\.\..* holidays\] Open:$"),
            (24, r"^Open:$"),
        ):
            with real_terminal(columns) as real:
                self.on_terminal(real)
                asked = Deferred.fromCoroutine(self.console.ask("Open:", where))
                self.assertRegex(real.show()[0], shown)
                self.press(real, "x" * columns)
                self.assertEqual(len(real.show()), 1)
                self.assertFalse(real.screen.wrapped)
                asked.cancel()
                self.failureResultOf(asked, CancelledError)
                self.console.close()

    def test_terminal_restored(self) -> None:
        """In the end the terminal is as it was, also if the question is given up."""
        with real_terminal(40) as real:
            before = termios.tcgetattr(real.stream.fileno())
            self.on_terminal(real)
            self.assertNotEqual(termios.tcgetattr(real.stream.fileno()), before)
            asked = self.ask("Name:")
            self.press(real, "car")
            asked.cancel()
            self.failureResultOf(asked, CancelledError)
            self.console.close()
            self.assertEqual(termios.tcgetattr(real.stream.fileno()), before)
            self.assertEqual(real.show(), ["Name: car"])

    def test_without_colours(self) -> None:
        """Without colours there are none; a dumb terminal edits by itself."""
        with real_terminal(40) as real:
            self.on_terminal(real, TERM="dumb")
            before = termios.tcgetattr(real.stream.fileno())
            asked = self.ask("Name:")
            self.press(real, "carol\n")
            self.assertEqual(self.successResultOf(asked), "carol")
            self.console.close()
            self.assertEqual(termios.tcgetattr(real.stream.fileno()), before)
            self.assertIn("Name:", real.show()[0])


class HangUpTests(ConsoleTestCase):
    def test_closed(self) -> None:
        """A terminal that is closed is the end of the input, whatever is done with it then."""
        hung_up: list[bool] = []
        master, slave = os.openpty()
        stream = open(slave, "w", encoding="utf-8")  # noqa: SIM115
        self.addCleanup(stream.close)
        self.reactor = cast(Any, MemoryReactor())
        surviving = HangUpStream(stream, lambda: hung_up.append(True))
        terminal = Terminal.detect(cast(Any, surviving), COLOURFUL)
        keyboard = os.dup(slave)
        self.addCleanup(os.close, keyboard)
        self.console = Console(self.reactor, keyboard, terminal, Output(terminal, terminal))
        asked = self.ask("Name:")
        os.close(master)
        self.console._draw_again()
        self.console.line("Somebody fetched your text")
        read_all(self.reactor)
        self.assertIsNone(self.successResultOf(asked))
        self.console.close()
        self.assertEqual(hung_up, [True])

    @skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_other_error(self) -> None:
        """What is no hang-up remains an error."""
        with open("/dev/full", "wb", buffering=0) as full:
            stream = io.TextIOWrapper(full, write_through=True)
            self.assertRaises(OSError, HangUpStream(stream, self.fail).write, "x")
            stream.detach()
