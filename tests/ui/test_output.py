"""Tests for `p2pshare.ui.output`."""

from __future__ import annotations

import io
import json
from pathlib import Path

from colorama import Fore
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import NameTaken, NoSuchPeer
from p2pshare.ui.output import COLUMNED_MAX, Output, kind_of
from p2pshare.ui.terminal import Terminal
from tests.ui.screens import COLOURFUL, FakeTty, Screen, real_terminal


class OutputTestCase(SynchronousTestCase):
    def make(self, *, json: bool = False, quiet: bool = False, is_tty: bool = False) -> Output:
        self.stdout: io.StringIO = FakeTty() if is_tty else io.StringIO()
        self.stderr: io.StringIO = FakeTty() if is_tty else io.StringIO()
        return Output(
            Terminal.detect(self.stdout, COLOURFUL),
            Terminal.detect(self.stderr, COLOURFUL),
            json=json,
            quiet=quiet,
        )

    def written(self) -> tuple[str, str]:
        return self.stdout.getvalue(), self.stderr.getvalue()

    def say_everything(self, output: Output) -> None:
        output.line("Hello.", Fore.GREEN)
        output.remark("By the way.")
        output.event("saved", path=Path("alice.png"), size=5)
        output.table(["name"], [["bob"]])
        view = output.progress("bob.png", "rows", 9, Clock().seconds)
        view.start()
        view.update(5)
        view.finish("Saved.")
        output.error(NoSuchPeer(name="x\n"))


class ModesTests(OutputTestCase):
    def test_people(self) -> None:
        """Without flags there are sentences and tables, and no events."""
        self.say_everything(self.make())
        stdout, stderr = self.written()
        self.assertEqual(stdout, "Hello.\nbob\n")
        self.assertTrue(
            stderr.startswith("By the way.\nbob.png\nSaved.\np2pshare: Nobody is registered as")
        )
        self.assertEqual(stderr.count("\n"), 4)

    def test_quiet(self) -> None:
        """With --quiet, results and errors remain."""
        self.say_everything(self.make(quiet=True))
        stdout, stderr = self.written()
        self.assertEqual(stdout, "bob\n")
        self.assertTrue(stderr.startswith("p2pshare: "))

    def test_json(self) -> None:
        """With --json, every line of stdout is an object, and stderr is empty."""
        for quiet in (False, True):
            self.say_everything(self.make(json=True, quiet=quiet))
            stdout, stderr = self.written()
            self.assertEqual(stderr, "")
            self.assertEqual(
                [json.loads(line) for line in stdout.splitlines()],
                [
                    {"event": "saved", "path": "alice.png", "size": 5},
                    {
                        "event": "error",
                        "kind": "no_such_peer",
                        "message": str(NoSuchPeer(name="x\n")),
                        "exit_code": 4,
                    },
                ],
            )

    def test_json_of_any_text(self) -> None:
        """What is in a field comes out of the JSON as it went in."""
        output = self.make(json=True)
        output.event("user", name="Zoë\x1b\u202e\ud800\n")
        line = self.stdout.getvalue()
        self.assertTrue(line.isascii())
        self.assertEqual(json.loads(line)["name"], "Zoë\x1b\u202e\ud800\n")

    def test_colours(self) -> None:
        """On a terminal, sentences have colours, and errors are red."""
        output = self.make(is_tty=True)
        output.line("Hello.", Fore.GREEN)
        output.error(NameTaken(name="bob", registry="here"))
        stdout, stderr = self.written()
        self.assertEqual(stdout, "\x1b[32mHello.\x1b[0m\n")
        self.assertRegex(stderr, r"^\x1b\[31mp2pshare: The name 'bob' is taken .*\x1b\[0m\n$")


class ProgressTests(OutputTestCase):
    def test_line_meanwhile(self) -> None:
        """A line that is said while progress is drawn goes above it, and then to its own stream again."""
        output = self.make(is_tty=True)
        view = output.progress("bob.png", "rows", 9, Clock().seconds)
        view.start()
        view.update(3)
        output.line("carol fetched your text", Fore.GREEN)
        view.update(6)
        screen = Screen(80)
        screen.feed(self.stderr.getvalue())
        self.assertEqual(screen.shown()[0], "carol fetched your text")
        self.assertTrue(screen.shown()[1].startswith("bob.png"))
        view.finish()
        output.line("done")
        self.assertEqual(self.stdout.getvalue(), "done\n")


class TableTests(OutputTestCase):
    ROWS = (("bob", "192.0.2.7:49152"), ("a-name-of-more-than-20", "198.51.100.255:65535"))

    def test_pipe(self) -> None:
        """A pipe gets one line a row, with tabs, and nothing that moves a terminal."""
        self.make().table(["name", "address"], [*self.ROWS, ("\x1b[2J", "\t")])
        lines = self.stdout.getvalue().splitlines()
        self.assertEqual(lines[0], "bob\t192.0.2.7:49152")
        self.assertEqual(lines[2], "\\x1b[2J\t\\x09")

    def test_terminal(self) -> None:
        """A terminal gets columns with a header."""
        self.make(is_tty=True).table(["name", "address"], self.ROWS)
        screen = Screen(80)
        screen.feed(self.stdout.getvalue())
        self.assertRegex(screen.shown()[0], r"^name +address$")
        self.assertRegex(screen.shown()[1], r"^bob +192\.0\.2\.7:49152$")

    def test_own(self) -> None:
        """A terminal marks the row that is the reader's own; a pipe gets names and nothing else."""
        for is_tty, shown in ((True, ["name", "alice", "bob (you)"]), (False, ["alice", "bob"])):
            self.make(is_tty=is_tty).table(["name"], [["alice"], ["bob"]], own="bob")
            screen = Screen(80)
            screen.feed(self.stdout.getvalue())
            self.assertEqual(screen.shown(), shown)

    def test_very_long(self) -> None:
        """A table that nobody reads whole is written plainly, so that it does not take for ever."""
        rows = [[f"user{n}"] for n in range(COLUMNED_MAX + 1)]
        self.make(is_tty=True).table(["name"], rows)
        self.assertEqual(self.stdout.getvalue().splitlines(), [row[0] for row in rows])

    def test_narrow_terminals(self) -> None:
        """On a narrow terminal nothing is lost and nothing sticks out."""
        for columns in (20, 40, 80):
            with real_terminal(columns) as real:
                terminal = Terminal.detect(real.stream, COLOURFUL)
                Output(terminal, terminal).table(["name", "address"], self.ROWS)
                shown = "".join(real.show())
                self.assertFalse(real.screen.wrapped)
                for cell in "".join(cell for row in self.ROWS for cell in row):
                    self.assertIn(cell, shown)


class KindTests(SynchronousTestCase):
    def test_stable_names(self) -> None:
        """The kind of an error is its class in small letters."""
        self.assertEqual(kind_of(NameTaken(name="", registry="")), "name_taken")
        self.assertEqual(kind_of(NoSuchPeer(name="")), "no_such_peer")
