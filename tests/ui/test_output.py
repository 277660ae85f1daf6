"""Tests for `p2pshare.ui.output`."""

from __future__ import annotations

import io
import json
from pathlib import Path

from colorama import Fore
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import DiskFull, NameTaken, NoSuchPeer, RemoteNotFound
from p2pshare.peer.fetch.job import JobProgress
from p2pshare.ui.output import FAILURES_SHOWN, Output, kind_of
from p2pshare.ui.terminal.capabilities import Terminal
from tests.ui.screens import COLOURFUL, FakeTty, Screen

PROGRESS = JobProgress(0, 1, 3, 9, 0, 0, (("cat.jpg",),), 1)


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
        output.rows([["bob"]])
        output.result("a result")
        view = output.job("bob", Clock().seconds)
        view.start()
        view.update(PROGRESS)
        view.finish()
        output.error(NoSuchPeer(name="x\n"))


class ModesTests(OutputTestCase):
    def test_people(self) -> None:
        """Without flags there are sentences and tables, and no events."""
        self.say_everything(self.make())
        stdout, stderr = self.written()
        self.assertEqual(stdout, "Hello.\nbob\na result\n")
        self.assertTrue(stderr.startswith("By the way.\np2pshare: Nobody is registered as"))
        self.assertEqual(stderr.count("\n"), 2)

    def test_quiet(self) -> None:
        """With --quiet, results and errors remain."""
        self.say_everything(self.make(quiet=True))
        stdout, stderr = self.written()
        self.assertEqual(stdout, "bob\na result\n")
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

    def test_failed_alike(self) -> None:
        """People see the same error in a row once, programs see each."""
        one, other = NoSuchPeer(name="x"), NoSuchPeer(name="y")
        for for_programs in (False, True):
            output = self.make(json=for_programs)
            for error in (one, one, other, one):
                output.failed("alice:a", error)
            stdout, stderr = self.written()
            self.assertEqual(
                (stdout.count("\n"), stderr.count("\n")), (4, 0) if for_programs else (0, 3)
            )

    def test_many_failures(self) -> None:
        """People see the first errors of each kind, and the number of the others; programs see all."""
        for for_programs in (False, True):
            output = self.make(json=for_programs)
            output.failed("alice:big", DiskFull(path="/x", needed="2 MiB", free="1 MiB"))
            for number in range(FAILURES_SHOWN + 1843):
                path = f"s/{number}"
                output.failed(f"alice:{path}", RemoteNotFound(name="alice", path=path))
            output.end_failures()
            stdout, stderr = self.written()
            if for_programs:
                self.assertEqual((stdout.count("\n"), stderr), (FAILURES_SHOWN + 1844, ""))
                continue
            self.assertEqual(stderr.count("\n"), 1 + FAILURES_SHOWN + 1)
            self.assertIn("1843 more failed (not found)", stderr.splitlines()[-1])
            output.end_failures()
            output.failed("alice:s/1", RemoteNotFound(name="alice", path="s/1"))
            self.assertIn("s/1", self.written()[1])

    def test_json_of_any_text(self) -> None:
        """Any text survives the JSON."""
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
        """A line goes above drawn progress, and to its own stream afterwards."""
        output = self.make(is_tty=True)
        view = output.job("bob", Clock().seconds)
        view.start()
        view.update(PROGRESS)
        output.line("carol fetched your text", Fore.GREEN)
        view.update(PROGRESS)
        screen = Screen(80)
        screen.feed(self.stderr.getvalue())
        self.assertEqual(screen.shown()[0], "carol fetched your text")
        self.assertIn("connecting to bob", screen.shown()[1])
        view.finish()
        output.line("done")
        self.assertEqual(self.stdout.getvalue(), "done\n")

    def test_end_view(self) -> None:
        """`end_view` erases the progress and writes the number of unshown errors, for a verb that was stopped."""
        output = self.make(is_tty=True)
        output.end_view()
        for number in range(FAILURES_SHOWN + 2):
            output.failed("alice:s", RemoteNotFound(name="alice", path=f"s/{number}"))
        view = output.job("alice", Clock().seconds)
        view.start()
        view.update(JobProgress(0, None, 0, None, 0, 0, ()))
        output.end_view()
        output.remark("stopped")
        screen = Screen(80)
        screen.feed(self.stderr.getvalue())
        self.assertIn("2 more failed", screen.shown()[-2])
        self.assertEqual((screen.shown()[-1], screen.cursor_hidden), ("stopped", False))


class RowsTests(OutputTestCase):
    def test_pipe(self) -> None:
        """A pipe gets one line per row, with tabs, and without control characters."""
        self.make().rows([["bob", "192.0.2.7:49152"], ["\x1b[2J", "\t"]])
        lines = self.stdout.getvalue().splitlines()
        self.assertEqual(lines, ["bob\t192.0.2.7:49152", "\\x1b[2J\t\\x09"])

    def test_screen(self) -> None:
        """There is a screen for results on a terminal without --json."""
        self.assertIsNone(self.make().screen())
        self.assertIsNone(self.make(is_tty=True, json=True).screen())
        self.assertIsNotNone(self.make(is_tty=True, quiet=True).screen())


class KindTests(SynchronousTestCase):
    def test_stable_names(self) -> None:
        """The kind of an error is the name of its class in small letters."""
        self.assertEqual(kind_of(NameTaken(name="", registry="")), "name_taken")
        self.assertEqual(kind_of(NoSuchPeer(name="")), "no_such_peer")
