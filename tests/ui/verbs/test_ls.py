"""Tests of `p2pshare.ui.verbs.ls`."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    P2pshareError,
    RemoteIsFile,
    RemoteNotFound,
    RemoteProtocolError,
    WrongUsage,
)
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.remote import LinkLimits
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.peer.find.own_identity import OwnIdentity, OwnName
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import connection as connections
from p2pshare.ui.verbs import ls as listing
from p2pshare.ui.verbs.ls import Rows, row, show_all
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import (
    Entry,
    EntryKind,
    Fault,
    Listing,
    Omission,
    Omitted,
)
from tests.ui.registries import URL, MemoryInvocation, MemoryRegistry, view_of
from tests.ui.screens import real_terminal

KEY = SigningKey(bytes([1]) * 32)
MTIME = 1_795_356_300_250_000_000  # nanoseconds


def file(*path: str, size: int = 1_234_567, mtime: int = MTIME) -> Entry:
    return Entry(path, EntryKind.FILE, size, mtime)


def folder(*path: str) -> Entry:
    return Entry(path, EntryKind.FOLDER, 0, MTIME)


class FakeRemote:
    """A peer with folders in memory and small pages."""

    page = 2

    def __init__(self, **folders: Sequence[Entry] | P2pshareError) -> None:
        self.folders = folders
        self.omitted: tuple[Omission, ...] = ()
        self.unnamed = 0
        self.asked: list[tuple[RemotePath, RemotePath, bool]] = []
        self.is_closed = False

    def __call__(self, *args: Any, **options: Any) -> FakeRemote:
        self.made = args, options
        return self

    async def list(
        self, path: RemotePath, after: RemotePath = (), limit: int = 0, *, recursive: bool = False
    ) -> Listing:
        self.asked.append((path, after, recursive))
        entries = self.folders["_".join(path) or "top"]
        if isinstance(entries, P2pshareError):
            raise entries
        rest = [entry for entry in entries if entry.path > after]
        page = tuple(rest[: self.page])
        return Listing(1, page, len(rest) > self.page, self.omitted, self.unnamed)

    async def close(self) -> None:
        self.is_closed = True


class ListingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()

    def output(self, *, json: bool = False, quiet: bool = False) -> Output:
        terminals = (Terminal.detect(stream, {}) for stream in (self.stdout, self.stderr))
        return Output(*terminals, json=json, quiet=quiet)


class ShowTests(ListingTestCase):
    def show(
        self, remote: FakeRemote, *path: str, output: Output | None = None, recursive: bool = False
    ) -> Deferred[Listing | None]:
        rows = Rows(output or self.output(), path, "alice")
        return Deferred.fromCoroutine(show_all(remote, path, rows, recursive=recursive))

    def test_pipe(self) -> None:
        """A pipe gets a line for each entry: its whole path, type, bytes and time."""
        remote = FakeRemote(photos=[file("cat.jpg"), folder("deep"), file("dog\t.jpg")])
        self.successResultOf(self.show(remote, "photos"))
        self.assertEqual(
            self.stdout.getvalue(),
            "photos/cat.jpg\tfile\t1234567\t2026-11-22T14:05:00Z\n"
            "photos/deep\tfolder\t0\t2026-11-22T14:05:00Z\n"
            "photos/dog\\x09.jpg\tfile\t1234567\t2026-11-22T14:05:00Z\n",
        )

    def test_quiet(self) -> None:
        """With `--quiet` only the paths are written."""
        remote = FakeRemote(top=[folder("photos")])
        self.successResultOf(self.show(remote, output=self.output(quiet=True)))
        self.assertEqual(self.stdout.getvalue(), "photos\n")

    def test_json(self) -> None:
        """Programs get an event for each entry."""
        remote = FakeRemote(photos=[file("cat.jpg")])
        self.successResultOf(self.show(remote, "photos", output=self.output(json=True)))
        self.assertEqual(
            json.loads(self.stdout.getvalue()),
            {
                "event": "entry",
                "path": "photos/cat.jpg",
                "type": "file",
                "size": 1234567,
                "mtime": 1_795_356_300.25,
            },
        )

    def test_pages(self) -> None:
        """Each page is shown when it arrives, and the next one requested, until the last."""
        names = [f"{number:03}" for number in range(7)]
        remote = FakeRemote(many=[file(name) for name in names])
        shown = self.successResultOf(self.show(remote, "many", recursive=True))
        assert shown is not None
        self.assertEqual(len(shown.entries), 2)
        asked = [(("many",), after, True) for after in ((), ("001",), ("003",), ("005",))]
        self.assertEqual(remote.asked, asked)
        self.assertEqual(self.stdout.getvalue().count("\n"), 7)

    def test_no_end(self) -> None:
        """A page that does not continue the one before is an error (threat 16)."""
        for entries in ((), (file("a"),)):
            endless = FakeRemote()
            page = Listing(1, entries, True)

            async def again(*_: object, page: Listing = page, **__: object) -> Listing:
                return page

            endless.list = again  # type: ignore[method-assign]
            self.failureResultOf(self.show(endless), RemoteProtocolError)

    def test_file(self) -> None:
        """A file is found in its folder."""
        is_file = RemoteIsFile(name="alice", path="photos/cat.jpg")
        remote = FakeRemote(
            photos_cat=is_file, photos=[file("a"), file("b"), file("cat"), file("d")]
        )
        self.assertIsNone(self.successResultOf(self.show(remote, "photos", "cat")))
        self.assertRegex(self.stdout.getvalue(), r"^photos/cat\tfile\t1234567\t\S+\n$")
        remote = FakeRemote(photos_cat=is_file, photos=[file("d")])
        self.failureResultOf(self.show(remote, "photos", "cat"), RemoteIsFile)

    def test_file_everywhere(self) -> None:
        """A peer that calls every path a file causes an error about the requested path (threat 16)."""
        top = error_of(Fault.IS_FILE, "alice", ())
        remote = FakeRemote(
            photos_cat=RemoteIsFile(name="alice", path="photos/cat"),
            photos=RemoteIsFile(name="alice", path="photos"),
            top=top,
        )
        failed = self.failureResultOf(self.show(remote, "photos", "cat"), RemoteIsFile)
        self.assertEqual(failed.value.fields, {"name": "alice", "path": "photos/cat"})
        for path in (), ("photos",):
            failed = self.failureResultOf(self.show(remote, *path), RemoteProtocolError)
            self.assertEqual(failed.value.fields, top.fields)

    def test_terminal(self) -> None:
        """People see aligned columns: size, time and the relative path."""
        remote = FakeRemote(photos=[file("cat.jpg"), folder("deep"), file("empty", size=0)])
        with real_terminal(80) as real:
            terminal = Terminal.detect(real.stream, {})
            self.successResultOf(self.show(remote, "photos", output=Output(terminal, terminal)))
            time = r"2026-11-2[123] \d\d:\d\d"
            for line, pattern in zip(
                real.show(),
                (rf"^   1\.2 MiB  {time}  cat\.jpg$", rf"^    folder  {time}  deep/$", r"  empty$"),
                strict=True,
            ):
                self.assertRegex(line, pattern)

    def test_fits(self) -> None:
        """At any width no line is too long, and no name can move the cursor (threat 30)."""
        for columns in (10, 24, 40, 48, 80):
            with self.subTest(columns=columns), real_terminal(columns) as real:
                terminal = Terminal.detect(real.stream, {})
                for name in ("x" * 200, "猫" * 80, "\x1b[2J\u202e\n" * 20):
                    lines = row(file("photos", name), columns, terminal)
                    real.stream.write("\n".join(lines) + "\n")
                real.show()
                self.assertFalse(real.screen.wrapped)

    def test_any_time(self) -> None:
        """Times outside the calendar are limited to it."""
        for mtime in (-(2**80), 0, 2**80):
            Rows(self.output(), (), "alice").show([file("a", mtime=mtime)])
        self.assertEqual(self.stdout.getvalue().count("\n"), 3)


class LsTests(ListingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = MemoryRegistry(view_of("alice", KEY.public))
        cwd = Path(self.mktemp()).absolute()
        self.fake = MemoryInvocation(self.registry, self.output(), cwd)
        self.remote = FakeRemote(top=[folder("photos")])
        self.patch(connections, "RemotePeer", self.remote)

        async def identity(*_: object, **__: object) -> OwnIdentity:
            return OwnIdentity("bob", KEY)

        self.patch(OwnName, "identity", identity)

    def ls(self, where: str) -> Deferred[int]:
        return Deferred.fromCoroutine(
            listing.ls(cast(Invocation, self.fake), where, recursive=False)
        )

    def test_shares(self) -> None:
        """A peer without a path lists its shares, which are remembered for completion."""
        self.assertEqual(self.successResultOf(self.ls("alice")), 0)
        self.assertEqual(self.stdout.getvalue().split("\t")[0], "photos")
        self.assertTrue(self.remote.is_closed)
        self.assertIn(LinkLimits(silence=8.0), self.remote.made[0])
        self.assertIn("photos", Seen(self.fake.cwd / "data").entries("alice", ()))

    def test_nothing(self) -> None:
        """An empty folder is reported, and is not an error."""
        self.remote.folders = {"top": [], "empty": []}
        self.assertEqual(self.successResultOf(self.ls("alice")), 0)
        self.assertEqual(self.successResultOf(self.ls("alice:empty")), 0)
        said = "alice shares nothing with you.\nThe folder is empty.\n"
        self.assertEqual((self.stdout.getvalue(), self.stderr.getvalue()), ("", said))

    def test_omitted(self) -> None:
        """Omitted entries are reported after the others, as events for programs; the exit code is 1."""
        self.remote.omitted = (Omission(("old",), Omitted.LINK),)
        self.remote.unnamed = 3
        self.assertEqual(self.successResultOf(self.ls("alice")), 1)
        self.assertIn("photos", self.stdout.getvalue())
        self.assertRegex(
            self.stderr.getvalue(),
            r"^p2pshare: 'old' of 'alice' is a link .*\n.* left 3 more .*\n$",
        )
        self.remote.folders = {"top": []}
        self.fake.output = self.output(json=True)
        self.assertEqual(self.successResultOf(self.ls("alice")), 1)
        events = [json.loads(line) for line in self.stdout.getvalue().splitlines()[1:]]
        self.assertEqual(
            [(each["event"], each["from"], each["kind"]) for each in events],
            [
                ("failed", "alice:old", "remote_link_not_followed"),
                ("failed", "alice:", "remote_left_out"),
            ],
        )

    def test_not_found(self) -> None:
        """A path that does not exist, or is not shared with the user, has its exit code; the session is closed."""
        self.remote.folders = {"nope": RemoteNotFound(name="alice", path="nope")}
        error = self.failureResultOf(self.ls("alice:nope"), RemoteNotFound).value
        self.assertEqual(error.exit_code, 4)
        self.assertTrue(self.remote.is_closed)

    def test_troubles(self) -> None:
        """A broken connection is reported once for each reason."""
        self.assertEqual(self.successResultOf(self.ls("alice")), 0)
        on_link = self.remote.made[1]["on_link"]
        for reason in ("busy", "busy", "nothing came"):
            on_link(LinkChange(LinkState.CONNECTING, "alice"))
            on_link(LinkChange(LinkState.BROKEN, "alice", reason, 1.0))
        said = self.stderr.getvalue()
        self.assertEqual((said.count("(busy)"), said.count("(nothing came)")), (1, 1))

    def test_judged_first(self) -> None:
        """Invalid words are rejected before anybody is asked."""
        self.registry.error = AssertionError
        for where in ("bob", "bob:x", "al ice", "alice:../x"):
            self.failureResultOf(self.ls(where), WrongUsage)
        self.fake.settings = Settings(registry=URL)
        error = self.failureResultOf(self.ls("alice"), WrongUsage).value
        self.assertIn("--name", str(error))
