"""Tests of `p2pshare.ui.verbs.classic`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.row_receiver import RowReceiver
from p2pshare.classic.datagrams import Kind, Size
from p2pshare.classic.download import Fetched, Order
from p2pshare.errors import (
    DiskFull,
    IllegalName,
    NotClassic,
    NothingShared,
    P2pshareError,
    PeerOffline,
    PeerUnreachable,
    WrongUsage,
)
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.find import target
from p2pshare.peer.find.lookup import FoundPeer
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import classic
from p2pshare.ui.verbs.job import Results
from p2pshare.ui.verbs.remote_arguments import FROM_YOURSELF, parse_items
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC
from tests.ui.registries import MemoryInvocation, MemoryRegistry

TEXT, PICTURE = "alice:my_file.txt", "alice:my_file.jpg"
KEY = SigningKey(bytes([1]) * 32).public
PLACE = PeerAddress("192.0.2.7", 50000)


class WordsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cwd = Path(self.mktemp()).absolute()
        (self.cwd / "folder").mkdir(parents=True)

    def parsed(self, *words: str) -> list[tuple[str, Kind, Path]]:
        jobs = parse_items(words, "bob", self.cwd, overwrite=False, which_file=classic.WHICH_FILE)
        found = []
        for peer, items in jobs.items():
            for item in items:
                kind, name = classic._destination(peer, item)
                found.append((peer, kind, item.folder / name))
        return found

    def wrong(self, *words: str) -> str:
        return str(self.assertRaises(WrongUsage, self.parsed, *words))

    def test_kinds(self) -> None:
        """The suffix tells the text from the picture."""
        for suffix, kind in {
            ".txt": Kind.TEXT,
            ".jpg": Kind.PICTURE,
            ".jpeg": Kind.PICTURE,
            ".PNG": Kind.PICTURE,
            ".webp": Kind.PICTURE,
        }.items():
            ((_, parsed, _),) = self.parsed(f"alice:my_file{suffix}")
            self.assertIs(parsed, kind)

    def test_default_names(self) -> None:
        """Without DEST a file is named after its peer, in the current folder."""
        self.assertEqual(self.parsed(TEXT), [("alice", Kind.TEXT, self.cwd / "alice.txt")])
        self.assertEqual(self.parsed(PICTURE), [("alice", Kind.PICTURE, self.cwd / "alice.png")])
        ((_, _, path),) = self.parsed("con:my_file.txt")
        self.assertEqual(path.name, "_con.txt")

    def test_destinations(self) -> None:
        """DEST is a folder or a file name; a picture's name without a suffix gets one."""
        for words, paths in (
            ((TEXT, "folder"), ["folder/alice.txt"]),
            ((TEXT, "notes"), ["notes"]),
            ((TEXT, "folder/notes.md"), ["folder/notes.md"]),
            ((PICTURE, "holiday"), ["holiday.png"]),
            ((PICTURE, "holiday.webp"), ["holiday.webp"]),
            ((TEXT, "./a:b"), ["a:b"]),
            ((TEXT, "new/"), ["new/alice.txt"]),
            ((TEXT, PICTURE, "new/"), ["new/alice.txt", "new/alice.png"]),
            (("Alice:my_file.txt",), ["alice.txt"]),
            ((TEXT, PICTURE), ["alice.txt", "alice.png"]),
            ((TEXT, "carol:my_file.png", "folder"), ["folder/alice.txt", "folder/carol.png"]),
        ):
            found = [path for _, _, path in self.parsed(*words)]
            self.assertEqual(found, [self.cwd / path for path in paths])

    def test_wrong(self) -> None:
        """The error about invalid words says which words are valid."""
        for words, pattern in (
            (("alice",), "'alice' does not say which file: write alice:my_file.txt"),
            (("alice:",), "alice:my_file.txt for the text"),
            (("alice:my_file",), "alice:my_file.jpg for the picture"),
            (("alice:my_file.gif",), "'my_file.gif' cannot be fetched"),
            (("alice:report.txt",), "'report.txt' cannot be fetched.*alice:my_file.txt"),
            (("alice:folder/my_file.txt",), "cannot be fetched"),
            ((PICTURE, "x.jpg"), r"save the picture as 'x\.png'"),
            ((TEXT, PICTURE, "notes"), "2 items need a destination folder"),
        ):
            with self.subTest(words=words):
                self.assertRegex(self.wrong(*words), pattern)

    def test_names(self) -> None:
        """A peer has a legal name, and is not the user."""
        for word in ("Al ice:my_file.txt", ":my_file.txt"):
            self.assertRaises(IllegalName, self.parsed, word)
        self.assertEqual(self.wrong(TEXT, "bob:my_file.jpg"), FROM_YOURSELF)

    @given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=4))
    def test_anything(self, words: list[str]) -> None:
        """Any words are valid or wrong usage."""
        self.cwd = Path("/nonexistent")
        try:
            self.parsed(*words)
        except WrongUsage as error:
            self.assertTrue(str(error))


class FakeDownload:
    """A download that ends as the test says."""

    ends: dict[Kind, Fetched | P2pshareError | None]
    orders: list[Order]

    def __init__(self, reactor: object, order: Order) -> None:
        self.order = order
        self.orders.append(order)
        self.bytes_done, self.bytes_total = 5, None if order.kind is Kind.TEXT else 10
        self.rows = None
        if order.kind is Kind.PICTURE:
            self.rows = RowReceiver(Size(1, 1), 0.0, reports=True)

    async def run(self) -> Fetched:
        end = self.ends[self.order.kind]
        if end is None:
            await Deferred()
        if isinstance(end, Fetched):
            return end
        raise cast(P2pshareError, end)


class FetchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cwd = Path(self.mktemp()).absolute()
        self.cwd.mkdir()
        text = Fetched(self.cwd / "alice.txt", 5, 0.5)
        picture = Fetched(self.cwd / "alice.png", 30, 0.5, (5, 2))
        FakeDownload.ends = {Kind.TEXT: text, Kind.PICTURE: picture}
        FakeDownload.orders = []
        self.patch(classic, "ClassicDownload", FakeDownload)

    def fetch(self, *, json: bool = False, **options: Any) -> Deferred[None]:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        terminals = [Terminal.detect(stream, {}) for stream in (self.stdout, self.stderr)]
        fake = MemoryInvocation(MemoryRegistry(), Output(*terminals, json=json), self.cwd)
        self.clock, invocation = fake.reactor, cast(Invocation, fake)
        self.results = Results(invocation)
        caps = frozenset({CAP_SESSIONS, CAP_CLASSIC})
        found = FoundPeer("alice", target.given([PLACE]), **{"key": KEY, "caps": caps, **options})
        items = [JobItem((name,), self.cwd / "new") for name in ("my_file.txt", "my_file.jpg")]
        return Deferred.fromCoroutine(classic.fetch_classic(invocation, found, items, self.results))

    def test_both(self) -> None:
        """A text and a picture are fetched, and the output says whether each is verified."""
        self.successResultOf(self.fetch())
        self.assertEqual([each.name for each in FakeDownload.orders], ["alice.txt", "alice.png"])
        self.assertEqual({each.folder for each in FakeDownload.orders}, {self.cwd / "new"})
        self.assertTrue((self.cwd / "new").is_dir())
        said = self.stdout.getvalue().splitlines()
        self.assertEqual((said[1], said[3]), (classic.NOT_VERIFIED, classic.VERIFIED.format(5, 2)))
        self.assertEqual((self.results.files, self.results.exit_code), (2, 0))

    def test_events(self) -> None:
        """Programs get the events of a job, and two more."""
        self.successResultOf(self.fetch(json=True))
        events = [json.loads(line) for line in self.stdout.getvalue().splitlines()]
        self.assertEqual([event["event"] for event in events], ["started", "saved", "fetched"] * 2)
        self.assertEqual(events[1]["from"], TEXT)
        self.assertEqual((events[2]["verified"], events[2]["width"]), (False, None))
        self.assertEqual((events[5]["verified"], events[5]["width"]), (True, 5))

    def test_progress(self) -> None:
        """The total is known for the last picture only."""
        FakeDownload.ends[Kind.PICTURE] = None
        fetching = self.fetch(json=True)
        self.clock.advance(1.5)
        event = json.loads(self.stdout.getvalue().splitlines()[-1])
        self.assertEqual((event["done"], event["total"], event["unit"]), (10, 15, "bytes"))
        self.assertEqual((event["files"], event["files_total"]), (1, 2))
        fetching.cancel()
        self.failureResultOf(fetching, CancelledError)

    def test_one_fails(self) -> None:
        """A file that the peer does not have does not stop the next one; a full disk stops all."""
        FakeDownload.ends[Kind.TEXT] = NothingShared(name="alice", what="text")
        self.successResultOf(self.fetch())
        self.assertEqual((self.results.files, self.results.failures), (1, 1))
        FakeDownload.ends[Kind.TEXT] = DiskFull(path="x", needed="1 GiB", free="1 MiB")
        self.failureResultOf(self.fetch(), DiskFull)

    def test_offline(self) -> None:
        """A peer that is offline is tried; if that fails, the error says when it was seen."""
        FakeDownload.ends[Kind.TEXT] = PeerUnreachable(name="alice", address=PLACE)
        error = self.failureResultOf(self.fetch(seen="5 min ago"), PeerOffline).value
        self.assertEqual(error.fields["seen"], "5 min ago")
        self.assertEqual(len(FakeDownload.orders), 1)

    def test_not_classic(self) -> None:
        """A peer whose owner has not enabled the classic protocol is not asked in it."""
        self.failureResultOf(self.fetch(caps=frozenset({CAP_SESSIONS})), NotClassic)
        self.assertEqual(FakeDownload.orders, [])
