"""Tests for `p2pshare.ui.dialog.console`."""

from __future__ import annotations

import io
import os
import signal
import termios
from types import SimpleNamespace
from typing import Any, cast
from unittest import skipUnless

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import AnswersUnreadable
from p2pshare.ui.dialog.console import Console, Interrupted
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.hang_up import HangUpStream
from tests.ui.screens import COLOURFUL, RealTerminal, real_terminal


def read_all(reactor: Any) -> None:
    """Let every reader read once."""
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
        """Answers that come at once are used one by one, and the output reads as a dialog."""
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
        """Answers in UTF-16 are rejected with the name of the encoding."""
        asked = self.ask("Name:")
        os.write(self.pipe, "carol\r\n".encode("utf-16"))
        os.close(self.pipe)
        read_all(self.reactor)
        error = self.failureResultOf(asked, AnswersUnreadable).value
        self.assertIn("UTF-16", str(error))
        self.assertFalse(self.reactor.readers)

    def test_reads_only_when_asking(self) -> None:
        """Input is read only while a question is open, so an endless input fills nothing."""
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
        """The line is drawn as it is typed; other lines go above it."""
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
        """A line that is wider than the terminal scrolls in place."""
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
        """The place is shown before the question if there is room, without its escape sequences."""
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
        """`close` restores the terminal, also after a question was cancelled."""
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
        """On a dumb terminal there are no colours, and the terminal edits the line."""
        with real_terminal(40) as real:
            self.on_terminal(real, TERM="dumb")
            before = termios.tcgetattr(real.stream.fileno())
            asked = self.ask("Name:")
            self.press(real, "carol\n")
            self.assertEqual(self.successResultOf(asked), "carol")
            self.console.close()
            self.assertEqual(termios.tcgetattr(real.stream.fileno()), before)
            self.assertIn("Name:", real.show()[0])


class InterruptTests(ConsoleTestCase):
    def test_transfer(self) -> None:
        """Ctrl+C during a transfer stops that alone, and the process is told that it goes on."""
        forgiven: list[bool] = []
        transfer: Deferred[None] = Deferred()

        async def fetch() -> None:
            await transfer

        def own(*_: object) -> None:
            raise AssertionError("this signal was for the transfer")

        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, own))
        with real_terminal(40) as real:
            terminal = Terminal.detect(real.stream, COLOURFUL | {"TERM": "dumb"})
            reactor: Any = SimpleNamespace(callFromThread=lambda call: call())
            console = Console(
                reactor,
                real.stream.fileno(),
                terminal,
                Output(terminal, terminal),
                lambda: forgiven.append(transfer.called),
            )
            going = Deferred.fromCoroutine(console.interruptible(fetch()))
            signal.raise_signal(signal.SIGINT)
        self.failureResultOf(going, Interrupted)
        self.assertEqual(forgiven, [False])
        self.assertIs(signal.getsignal(signal.SIGINT), own)


class HangUpTests(ConsoleTestCase):
    def test_closed(self) -> None:
        """A terminal that is closed is the end of the input, and writing to it is no error."""
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
        """Any other error of a write is raised."""
        with open("/dev/full", "wb", buffering=0) as full:
            stream = io.TextIOWrapper(full, write_through=True)
            self.assertRaises(OSError, HangUpStream(stream, self.fail).write, "x")
            stream.detach()
