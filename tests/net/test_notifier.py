"""Desktop notifications, with a program made up and with a real one."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2pshare.net.notifier import (
    END_TIMEOUT,
    LINE_MAX,
    RUN_MAX,
    RUNNING_MAX,
    SHOWN_MAX,
    SHOWN_TIME,
    TITLE_MAX,
    Notifier,
)
from tests.net.fake_processes import FakeProcess, ProcessReactor

PROGRAM = "/bin/notify-send"
HOSTILE = "--hint=\x1b]0;x\x07 <b>\u202egpj</b> & \\033[2J\n"


class NotifierTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.notifier = Notifier(self.reactor, lambda name: f"/bin/{name}")

    def show(self, title: str = "title", body: str = "body") -> list[FakeProcess]:
        """Show a notification, and return all programs so far."""
        self.notifier.show(title, body)
        return self.reactor.processes

    def words(self, title: str, *lines: str) -> list[str]:
        """Return the words with which the program is started."""
        self.notifier.show(title, *lines)
        command = self.reactor.processes[-1].command
        return command[command.index(PROGRAM) :]

    def test_shown(self) -> None:
        """The program gets a title and a body, of several lines if need be."""
        self.assertEqual(
            self.words("alice", "3 files", "a note"),
            [PROGRAM, "--app-name=p2pshare", "--", "alice", "3 files\na note"],
        )

    def test_hostile_text(self) -> None:
        """Threat 4: text of others is no option, no markup, no escape sequence, and reverses nothing."""
        _, _, end_of_options, title, body = self.words(HOSTILE, HOSTILE)
        self.assertEqual(end_of_options, "--")
        self.assertEqual(title, r"--hint=\x1b]0;x\x07 <b>\u202egpj</b> & \033[2J\x0a")
        self.assertEqual(
            body,
            r"--hint=\\x1b]0;x\\x07 &lt;b&gt;\\u202egpj&lt;/b&gt; &amp; \\033[2J\\x0a",
            "the desktop reads markup, and notify-send undoes backslashes",
        )

    def test_long_text(self) -> None:
        """Long text is cut, never in the middle of what is quoted."""
        *_, title, body = self.words("t" * 1000, "<" * 100_000)
        self.assertEqual((len(title), title[-1]), (TITLE_MAX, "…"))
        self.assertEqual(body, "&lt;" * (LINE_MAX - 1) + "…")

    def test_bounds(self) -> None:
        """Not more than some in a minute, and some at once, are shown."""
        for _ in range(RUNNING_MAX + 1):
            self.show()
        self.assertEqual(len(self.reactor.processes), RUNNING_MAX)
        for _ in range(2 * SHOWN_MAX):
            for each in self.show():
                if not each.has_ended:
                    each.end()
        self.assertEqual(len(self.reactor.processes), SHOWN_MAX)
        self.assertEqual(self.notifier.dropped, RUNNING_MAX + 1 + 2 * SHOWN_MAX - SHOWN_MAX)
        self.reactor.advance(SHOWN_TIME)
        self.assertEqual(len(self.show()), SHOWN_MAX + 1)

    def test_hangs(self) -> None:
        """A program that does not end is ended."""
        (process,) = self.show()
        process.ends_at = "KILL"
        self.reactor.advance(RUN_MAX)
        self.reactor.advance(END_TIMEOUT)
        self.assertEqual(process.signals, ["TERM", "KILL"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_fails(self) -> None:
        """A program that fails or cannot be started disturbs nothing."""
        self.show()[0].end(signal=6)
        self.reactor.spawn_error = OSError(errno.EAGAIN, "no more processes")
        self.show()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_missing(self) -> None:
        """Without the program nothing is shown."""
        Notifier(self.reactor, lambda _: None).show("title", "body")
        self.assertEqual(self.reactor.processes, [])

    def test_stopped(self) -> None:
        """The programs end with the peer, and no other one is started."""
        (process,) = self.show()
        process.ends_at = "TERM"
        self.successResultOf(Deferred.fromCoroutine(self.notifier.stop()))
        self.assertEqual(len(self.show()), 1)


class RealProgramTests(TestCase):
    timeout = 20

    async def test_on_the_path(self) -> None:
        """The first program of this name on the PATH is started."""
        from twisted.internet import reactor

        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        said, program = folder / "said", folder / "notify-send"
        code = "import json, os, sys; open('new', 'w').write(json.dumps(sys.argv[1:])); os.rename('new', 'said')"
        program.write_text(
            f'#!/bin/sh\ncd {folder}; exec {sys.executable} -I -S -c "{code}" "$@"\n'
        )
        program.chmod(0o755)
        self.patch(os, "environ", {"PATH": f"{folder}:/usr/bin:/bin"})
        notifier = Notifier(reactor)
        notifier.show("-t", "one <two>")
        while not said.exists():
            await deferLater(reactor, 0.01)
        self.assertEqual(json.loads(said.read_text())[1:], ["--", "-t", "one &lt;two&gt;"])
        await notifier.stop()
