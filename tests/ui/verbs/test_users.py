"""Tests of `p2pshare.ui.verbs.users`."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import cast
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import NotFound, Refused, RegistryUnreachable, WrongUsage
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import users as users_module
from p2pshare.ui.verbs.users import (
    AWAY,
    BACK,
    CANNOT_TELL,
    LIST_AGAIN,
    NO_MATCH,
    NOBODY,
    NOBODY_HERE,
    users,
)
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence
from tests.ui.registries import NOW, MemoryInvocation, MemoryRegistry, view_of
from tests.ui.screens import COLOURFUL, FakeTty, Screen

KEY = SigningKey(bytes(32)).public


class UsersTestCase(SynchronousTestCase):
    def make(self, *, json: bool = False, quiet: bool = False, is_tty: bool = False) -> None:
        self.stdout: io.StringIO = FakeTty() if is_tty else io.StringIO()
        self.stderr = io.StringIO()
        terminals = (Terminal.detect(stream, COLOURFUL) for stream in (self.stdout, self.stderr))
        output = Output(*terminals, json=json, quiet=quiet)
        self.registry = MemoryRegistry(
            view_of("carol", None),
            view_of("alice", KEY),
            view_of("alan", KEY, Presence.OFFLINE, 150),
        )
        self.fake = MemoryInvocation(self.registry, output, Path())
        self.invocation = cast(Invocation, self.fake)

    def run_users(self, prefix: str = "", *, online: bool = False) -> str:
        """Return the output on stdout."""
        done = Deferred.fromCoroutine(users(self.invocation, prefix=prefix, online=online))
        self.assertEqual(self.successResultOf(done), 0)
        return self.stdout.getvalue()


class ListTests(UsersTestCase):
    def test_pipe(self) -> None:
        """A pipe gets a line for each user, and with `--watch` one for each change."""
        self.make()
        self.assertEqual(
            self.run_users(),
            "alan\toffline\t2027-01-15T07:57:30Z\towned\n"
            "alice\tonline\t2027-01-15T07:59:55Z\towned\n"
            "carol\tunknown\t-\tclassic\n",
        )

    def test_some(self) -> None:
        """Only names with the prefix are listed, and with `--online` only users that may be online."""
        for prefix, online, names in (
            ("al", False, ["alan", "alice"]),
            ("", True, ["alice", "carol"]),
        ):
            self.make(quiet=True)
            self.assertEqual(self.run_users(prefix, online=online).split(), names)

    def test_no_prefix(self) -> None:
        """An impossible prefix is rejected before the registry is asked."""
        for prefix in ("Ä", ".a", "a b", "a" * 33, "A"):
            self.make()
            self.registry.error = lambda what: self.fail(f"asked: {what}")
            done = Deferred.fromCoroutine(users(self.invocation, prefix=prefix))
            error = self.failureResultOf(done, WrongUsage)
            self.assertIn(repr(prefix), error.getErrorMessage())
        self.assertIn("--prefix a?", error.getErrorMessage())

    def test_events(self) -> None:
        """Programs get one object for each user."""
        self.make(json=True)
        first, *_ = map(json.loads, self.run_users().splitlines())
        self.assertEqual(
            first,
            {
                "event": "user",
                "name": "alan",
                "kind": "owned",
                "presence": "offline",
                "since": NOW - 150,
            },
        )

    def test_terminal(self) -> None:
        """A terminal gets a table, in which online users are green."""
        self.make(is_tty=True)
        screen = Screen(80)
        screen.feed(self.run_users())
        self.assertEqual(screen.shown()[1], "alan   offline   2 min ago     owned")
        self.assertIn("\x1b[32monline", self.stdout.getvalue())

    def test_pages(self) -> None:
        """Each page is shown when it arrives, with one header for all."""
        self.make(is_tty=True)
        with mock.patch.object(users_module, "PAGE_MAX", 2):
            screen = Screen(80)
            screen.feed(self.run_users())
        self.assertEqual(
            [row.split()[0] for row in screen.shown()], ["name", "alan", "alice", "carol"]
        )

    def test_nobody(self) -> None:
        """An empty list is a remark on stderr."""
        for prefix, remark in (("", NOBODY), ("x", NO_MATCH)):
            self.make()
            self.registry.views = {}
            self.assertEqual(self.run_users(prefix), "")
            self.assertEqual(self.stderr.getvalue(), f"{remark}\n")

    def test_without_registry(self) -> None:
        """Threat 62: a peer with another key than the known one is marked wherever it is shown, and not remembered."""
        mark = "another key: abcd efgh..."
        view = view_of("alan", KEY)
        for json_, expected in ((False, f"alan ({mark})\tonline"), (True, f'"mark": "{mark}"')):
            self.make(json=json_)
            self.registry.keeps_names = False
            self.registry.views["alan"] = replace(view, summary=replace(view.summary, mark=mark))
            said = self.run_users()
            self.assertIn(expected, said)
            self.assertEqual(said.count("mark"), int(json_))
        self.make(is_tty=True)
        self.registry.views = {"alan": replace(view, summary=replace(view.summary, mark=mark))}
        screen = Screen(40)
        screen.feed(self.run_users())
        self.assertIn(mark.partition(" ")[0], "".join(screen.shown()))
        self.make()
        self.registry.views, self.registry.keeps_names = {}, False
        self.run_users()
        self.assertEqual(self.stderr.getvalue(), f"{NOBODY_HERE}\n")

    def test_original(self) -> None:
        """An original registry gives a sorted list of names."""
        self.make()
        self.registry.infos = None
        self.assertEqual(
            self.run_users("al"), "alan\tunknown\t-\tclassic\nalice\tunknown\t-\tclassic\n"
        )
        self.assertEqual(self.stderr.getvalue(), "")
        self.run_users(online=True)
        self.assertEqual(self.stderr.getvalue(), f"{CANNOT_TELL}\n")


class WatchTests(UsersTestCase):
    def watch(self, *, online: bool = False) -> Deferred[int]:
        watching = Deferred.fromCoroutine(users(self.invocation, watch=True, online=online))
        self.addCleanup(watching.addErrback, lambda _: None)
        self.addCleanup(watching.cancel)
        self.assertNoResult(watching)
        return watching

    def lines(self) -> list[str]:
        """Return the output since the last call: name and presence."""
        written = self.stdout.getvalue().splitlines()
        self.stdout.seek(0)
        self.stdout.truncate()
        return [" ".join(line.split("\t")[:2]) for line in written]

    def say(self, name: str, presence: Presence) -> None:
        self.registry.on_event(PeerSummary(name, NameKind.OWNED, presence, NOW))

    def test_pipe(self) -> None:
        """A pipe gets a line for each user, and with `--watch` one for each change."""
        self.make()
        watching = self.watch()
        self.assertEqual(self.lines(), ["alan offline", "alice online", "carol unknown"])
        self.say("alan", Presence.ONLINE)
        self.say("alan", Presence.ONLINE)
        self.say("alice", Presence.GONE)
        self.assertEqual(self.lines(), ["alan online", "alice gone"])
        watching.cancel()
        self.failureResultOf(watching, CancelledError)
        self.assertFalse(self.fake.reactor.getDelayedCalls())

    def test_away(self) -> None:
        """A registry that does not answer is reported once; the changes follow later."""
        self.make()
        self.watch(online=True)
        self.assertEqual(self.lines(), ["alice online", "carol unknown"])
        for _ in range(3):
            self.registry.on_link(False, None)
        self.assertEqual(self.stderr.getvalue(), f"{AWAY}\n")
        del self.registry.views["alice"]
        self.registry.views["bob"] = view_of("bob", KEY)
        self.registry.error = lambda _: RegistryUnreachable(registry="x", reason="y")
        self.registry.on_link(True, None)
        self.registry.on_reset()
        self.say("zoe", Presence.ONLINE)
        self.assertEqual(self.lines(), [])
        self.registry.error = None
        self.fake.reactor.advance(LIST_AGAIN)
        self.assertEqual(self.lines(), ["bob online", "alice offline", "zoe online"])
        self.assertIn(BACK, self.stderr.getvalue())

    def test_terminal(self) -> None:
        """A terminal gets one table, which is redrawn and stays at the end."""
        self.make(is_tty=True)
        watching = self.watch()
        clock = self.fake.reactor
        self.say("alice", Presence.OFFLINE)
        clock.advance(1)
        screen = Screen(80)
        screen.feed(self.stdout.getvalue())
        self.assertEqual(
            [row.split()[0] for row in screen.shown()], ["name", "carol", "alan", "alice", "0"]
        )
        watching.cancel()
        self.failureResultOf(watching, CancelledError)
        screen.feed(self.stdout.getvalue())
        self.assertFalse(screen.cursor_hidden)
        self.assertFalse(clock.getDelayedCalls())

    def test_many_changes(self) -> None:
        """If too many changes wait for the list, it is requested again."""
        self.make()
        self.watch()
        self.registry.error = lambda _: RegistryUnreachable(registry="x", reason="y")
        self.registry.on_reset()
        with mock.patch.object(users_module, "PENDING_MAX", 2):
            for name in ("zoe", "zed"):
                self.say(name, Presence.ONLINE)
            self.registry.error = None
            self.lines()
            listed = self.registry.listed
            self.say("alan", Presence.ONLINE)
        self.assertEqual(self.registry.listed, listed + 1)
        self.assertEqual(self.lines(), [])

    def test_refused(self) -> None:
        """An original registry, or one that refuses, ends the verb with an error."""
        self.make()
        self.registry.infos = None
        done = Deferred.fromCoroutine(users(self.invocation, watch=True))
        self.assertIn("--watch", str(self.failureResultOf(done, Refused).value))
        self.make()
        watching = self.watch()
        self.registry.refusal.errback(NotFound(reason="no events"))
        self.failureResultOf(watching, NotFound)

    def test_screen_gone(self) -> None:
        """The verb ends when the terminal is gone."""
        self.make(is_tty=True)
        watching = self.watch()
        self.stdout.close()
        self.fake.reactor.advance(1)
        self.failureResultOf(watching, ValueError)
        self.assertFalse(self.fake.reactor.getDelayedCalls())
