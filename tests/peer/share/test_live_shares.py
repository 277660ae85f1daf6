"""Tests of shares that change while a peer runs: alone, and between whole peers in virtual time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import (
    IllegalName,
    NoSuchShare,
    P2pshareError,
    RemoteProtocolError,
    SharesUnusable,
    WrongUsage,
)
from p2pshare.peer.share.download_counts import PAUSE_MAX
from p2pshare.peer.share.live_shares import LOOK_EVERY, LiveShares
from p2pshare.peer.share.session_downloads import SessionDownloads
from p2pshare.storage.shares.arguments import SHARES_MAX, SharedPath
from p2pshare.storage.shares.kept import COUNT_MAX, EXPIRY_MAX, FILE_NAME, KeptShares
from p2pshare.storage.shares.tree import Unavailable
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.wire.transfer_messages import Fault, Get, Job
from tests.peer.offers.hostile import CREDIT, Hostile, RawSession
from tests.peer.offers.world import Person, WorldTestCase
from tests.peer.share.live_case import live_shares
from tests.storage.share_case import viewer_of

ALICE, BOB, CAROL = map(viewer_of, ("alice", "bob", "carol"))


class LiveSharesTestCase(SynchronousTestCase):
    """The shares of a command line, and those that are kept in a folder."""

    def setUp(self) -> None:
        self.data = Path(tempfile.mkdtemp(dir=os.getcwd()))
        self.folder = self.data / "f"
        self.folder.mkdir()
        self.reactor: Any = ThreadlessReactor()
        self.reactor.advance(1_000_000)
        self.rows: list[tuple[str, bool]] = []
        self.changes = 0
        self.live = self.load()

    def load(self, *fixed: SharedPath, **options: Any) -> LiveShares:
        live = live_shares(self.reactor, self.data, fixed, **options)
        live.on_row = lambda row, is_removed: self.rows.append((row["name"], is_removed))
        live.on_change = self.changed
        return live

    def changed(self) -> None:
        self.changes += 1

    def ask(self, do: str, **fields: Any) -> Any:
        return self.successResultOf(self.asked(do, **fields))

    def asked(self, do: str, **fields: Any) -> Deferred[Any]:
        action: Any = self.live.actions[do]
        return Deferred.fromCoroutine(action(fields))

    def fails(self, kind: type[P2pshareError], do: str, **fields: Any) -> P2pshareError:
        error = self.failureResultOf(self.asked(do, **fields), kind).value
        assert isinstance(error, P2pshareError)
        return error

    def add(self, name: str = "f", **fields: Any) -> Any:
        return self.ask("share_add", path=str(self.folder), name=name, **fields)

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.live.shares]


class LiveSharesTests(LiveSharesTestCase):
    """Shares that a user adds, changes and removes."""

    def test_add(self) -> None:
        """A share is shown at once, kept, and there again after a restart."""
        told = self.add(allow=["bob", "Carol"], exclude=["*.tmp"], hidden=True)
        self.assertEqual(
            told,
            {
                "name": "f",
                "path": str(self.folder),
                "allow": ["bob", "carol"],
                "exclude": ["*.tmp"],
                "hidden": True,
                "expires": None,
                "count": None,
                "downloads": 0,
                "left_out": None,
                "kept": True,
            },
        )
        self.assertEqual((self.names, self.changes, self.rows), (["f"], 1, [("f", False)]))
        (before,) = self.live.shares
        self.live = self.load()
        self.assertEqual(self.live.shares, (before,))
        self.assertEqual(self.ask("shares"), {"shares": [told], "more": False})
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_remove(self) -> None:
        """A share that is removed is gone, also after a restart; one of the command line comes back."""
        self.live = self.load(SharedPath("g", self.folder))
        self.add()
        for name in "f", "g":
            self.assertEqual(self.ask("share_remove", name=name)["kept"], name == "f")
        self.assertEqual((self.names, self.rows[-2:]), ([], [("f", True), ("g", True)]))
        self.live = self.load(SharedPath("g", self.folder))
        self.assertEqual(self.names, ["g"])
        error = self.fails(NoSuchShare, "share_remove", name="f")
        self.assertEqual((error.exit_code, "'g'" in str(error)), (4, True))

    def test_allow(self) -> None:
        """Who may see a share is changed, and kept."""
        self.add()
        self.assertTrue(self.live.shares[0].is_for(BOB))
        self.assertEqual(self.ask("share_allow", name="f", allow=["carol"])["allow"], ["carol"])
        self.live = self.load()
        self.assertEqual([self.live.shares[0].is_for(each) for each in (BOB, CAROL)], [False, True])
        self.ask("share_allow", name="f", allow=None)
        self.assertIsNone(self.live.shares[0].allow)
        self.fails(NoSuchShare, "share_allow", name="x", allow=None)

    def test_wrong(self) -> None:
        """Whatever is not valid changes nothing."""
        self.add()
        for kind, fields in (
            (WrongUsage, {"path": "relative"}),
            (WrongUsage, {"path": str(self.data / "none")}),
            (WrongUsage, {"path": "/", "name": None}),
            (WrongUsage, {"name": "@x"}),
            (WrongUsage, {"name": ".x"}),
            (WrongUsage, {"name": "f"}),
            (WrongUsage, {"exclude": ["["]}),
            (WrongUsage, {"allow": ["@lan"]}),
            (IllegalName, {"allow": ["no name"]}),
            (RemoteProtocolError, {"allow": "bob"}),
            (RemoteProtocolError, {"count": 0}),
            (RemoteProtocolError, {"count": COUNT_MAX + 1}),
            (RemoteProtocolError, {"expires_s": EXPIRY_MAX + 1}),
            (RemoteProtocolError, {"hidden": 1}),
        ):
            self.fails(kind, "share_add", **{"path": str(self.folder), "name": "g", **fields})
        self.assertEqual((self.names, self.changes), (["f"], 1))
        self.live = self.load(is_lan=True)
        self.add("g", allow=["@lan"])

    def test_private(self) -> None:
        """Threat 39: the folders with keys cannot be shared, now or after a restart."""
        self.add()
        self.live = self.load(private=(self.folder,))
        self.assertEqual(self.live.shares[0].private, (self.folder,))
        self.fails(WrongUsage, "share_add", path=str(self.folder), name="g")

    def test_bound(self) -> None:
        """The number of shares is bounded."""
        self.live = self.load(*(SharedPath(f"{each}", self.folder) for each in range(SHARES_MAX)))
        self.assertIn("At most", str(self.fails(WrongUsage, "share_add", path=str(self.folder))))

    def test_not_written(self) -> None:
        """A change that cannot be written has no effect."""
        self.add()
        error = SharesUnusable(path="x", reason="full")
        with patch.object(KeptShares, "write", side_effect=error):
            self.fails(SharesUnusable, "share_add", path=str(self.folder), name="g")
            self.fails(SharesUnusable, "share_remove", name="f")
            self.fails(SharesUnusable, "share_allow", name="f", allow=["bob"])
        self.assertEqual((self.names, self.live.shares[0].allow), (["f"], None))

    def test_name_of_the_command_line(self) -> None:
        """A share of the command line has its name, and the kept one waits until it is gone."""
        self.add()
        self.live = self.load(SharedPath("f", self.data))
        self.assertEqual(self.live.shares, (SharedPath("f", self.data),))

    def test_no_peer(self) -> None:
        """Without a peer the list can be changed, and nothing is shared."""
        for fixed in (None, ()):
            self.live = live_shares(self.reactor, self.data, fixed)
            if fixed is None:
                self.add(expires_s=10)
                self.assertEqual((self.names, self.reactor.getDelayedCalls()), ([], []))
        self.assertEqual(self.names, ["f"])

    def test_pages(self) -> None:
        """Long names are no obstacle for the next page."""
        for name in "b" * 255, "a":
            self.add(name)
        told = [each["name"] for each in self.ask("shares", after="a")["shares"]]
        self.assertEqual((told, self.ask("shares", after="b" * 255)["shares"]), (["b" * 255], []))

    def test_expires(self) -> None:
        """A share ends at its time, now or while no peer runs."""
        told = self.add(expires_s=3 * int(LOOK_EVERY))
        self.assertEqual(told["expires"], int(self.reactor.seconds()) + 3 * int(LOOK_EVERY))
        self.add("g", expires_s=1000)
        for _ in range(3):
            self.assertEqual(self.names, ["f", "g"])
            self.reactor.advance(LOOK_EVERY)
        self.assertEqual((self.names, self.rows[-1]), (["g"], ("f", True)))
        self.assertEqual([each.shared.name for each in KeptShares(self.data).read()], ["g"])
        self.successResultOf(Deferred.fromCoroutine(self.live.stop()))
        self.reactor.advance(1000)
        self.live = self.load()
        self.assertEqual((self.names, self.reactor.getDelayedCalls()), ([], []))


class CountTests(LiveSharesTestCase):
    """Shares that end after a number of downloads."""

    def session(self, viewer: Any = BOB) -> SessionDownloads:
        return SessionDownloads(self.live, viewer)

    def fetch(self, session: SessionDownloads, name: str = "f", **request: Any) -> Transfer | None:
        transfer = Transfer(Get(1, (name, "x"), **request))
        try:
            session.expect_allowed(transfer.request)
        except Unavailable as error:
            self.assertIs(error.why, Fault.NOT_FOUND)
            return None
        session.started(transfer)
        return transfer

    def finish(self, session: SessionDownloads, transfer: Transfer | None) -> None:
        assert transfer is not None
        transfer.outcome = Outcome.CONFIRMED
        session.ended(transfer)
        session.job_told(Job("", 0, 0))

    def test_once(self) -> None:
        """Threat 72: a share for one download is for the first key alone, and ends when that has it."""
        self.add(count=1)
        self.add("g")
        bob, carol = self.session(), self.session(CAROL)
        first = self.fetch(bob)
        self.assertEqual(self.ask("shares")["shares"][0]["downloads"], 1)
        self.assertEqual([self.live.shares[0].is_for(each) for each in (BOB, CAROL)], [True, False])
        self.assertIsNone(self.fetch(carol))
        self.assertIsNotNone(self.fetch(carol, "g"))
        self.assertIsNotNone(self.fetch(bob))
        self.finish(bob, first)
        self.assertEqual((self.names, self.rows[-1]), (["g"], ("f", True)))
        self.assertEqual([each.shared.name for each in KeptShares(self.data).read()], ["g"])

    def test_unconfirmed(self) -> None:
        """Threat 72: who confirms nothing is counted all the same, and has an hour to resume."""
        self.add(count=1)
        bob = self.session()
        self.fetch(bob)
        bob.job_told(Job("", 0, 0))
        bob.over()
        self.reactor.advance(PAUSE_MAX - 1)
        self.assertIsNone(self.fetch(self.session(CAROL)))
        again = self.session()
        self.assertIsNotNone(self.fetch(again))
        self.reactor.advance(2 * PAUSE_MAX)
        self.assertEqual(self.names, ["f"])
        again.over()
        self.reactor.advance(PAUSE_MAX)
        self.assertEqual(self.names, [])

    def test_restart(self) -> None:
        """Threat 72: what was counted is counted after a kill; a download that had begun may be resumed."""
        self.add(count=1)
        self.fetch(self.session())
        self.live = self.load()
        self.assertIsNone(self.fetch(self.session(CAROL)))
        bob = self.session()
        self.finish(bob, self.fetch(bob))
        self.live = self.load()
        self.assertEqual(self.names, [])

    def test_not_counted(self) -> None:
        """Previews, and requests for a root, are no downloads; nor are files of offers."""
        self.add(count=1)
        bob = self.session()
        for name, request in (("f", {"preview": 64}), ("f", {"want": ()}), ("@offer", {})):
            self.assertIsNotNone(self.fetch(bob, name, **request))
        bob.over()
        self.assertEqual(self.ask("shares")["shares"][0]["downloads"], 0)

    def test_cannot_be_written(self) -> None:
        """A download that cannot be counted durably is refused."""
        self.add(count=1)
        error = SharesUnusable(path="x", reason="full")
        session = self.session()
        with patch.object(KeptShares, "write", side_effect=error):
            for _ in range(2):  # a second try counts no more than the first
                with self.assertRaises(Unavailable) as caught:
                    session.expect_allowed(Get(1, ("f", "x")))
                self.assertIs(caught.exception.why, Fault.UNREADABLE)
        self.assertIsNotNone(self.fetch(session))
        self.assertEqual(KeptShares(self.data).read()[0].downloads, 1)

    def test_slow_disk(self) -> None:
        """The reactor's thread never waits for the disk: what it needs is free while a thread writes."""
        genuine, is_free = KeptShares.write, []

        def write(store: KeptShares, shares: Any) -> None:
            is_free.append(not self.live._lock.locked())
            genuine(store, shares)

        with patch.object(KeptShares, "write", write):
            self.add(count=1)
            self.ask("share_allow", name="f", allow=["bob"])
            bob = self.session()
            self.finish(bob, self.fetch(bob))
            self.add("g")
            self.ask("share_remove", name="g")
        self.assertEqual(is_free, [True] * 6)

    def test_without_limit(self) -> None:
        """Without a limit the count is written when the peer stops."""
        self.add()
        for viewer in BOB, CAROL, BOB:
            self.fetch(self.session(viewer))
        self.successResultOf(Deferred.fromCoroutine(self.live.stop()))
        self.live = self.load()
        self.assertEqual(self.ask("shares")["shares"][0]["downloads"], 2)
        self.assertEqual(self.live.uncounted, self.live.shares)


class PeerTests(WorldTestCase):
    """Whole peers: alice shares, and bob's sessions are the test's."""

    def begin(self) -> tuple[Person, Hostile]:
        alice, bob = self.world.start("alice", "bob")
        alice.write("big", bytes(20 * 2**20))
        alice.write("small", b"x")
        return alice, Hostile(bob)

    def shares(self, session: RawSession) -> list[str]:
        """Return the names that are listed."""
        number = 1000 + len(session.heard)
        session.say(m="list", id=number, path="", after="", limit=100, recursive=False)
        self.world.wait(1)
        return [each[0] for each in session.of_kind("listing")[-1]["entries"]]

    def test_at_once(self) -> None:
        """Shares come, change and go in an open session, and a running transfer is stopped with a reason."""
        alice, bob = self.begin()
        session = bob.open(alice)
        self.assertEqual(self.shares(session), [])
        alice.ask("share_add", path=str(alice.files), name="stuff")
        self.assertEqual(self.shares(session), ["stuff"])
        session.say(m="get", id=1, path="stuff/big")
        self.world.wait(2)
        self.assertEqual(len(session.data), CREDIT)
        alice.ask("share_allow", name="stuff", allow=["carol"])
        self.world.wait(1)
        (failed,) = session.of_kind("failed")
        self.assertEqual((failed["why"], failed["sent"]), ("withdrawn", CREDIT))
        self.assertEqual(self.shares(session), [])
        alice.ask("share_allow", name="stuff", allow=["bob"])
        self.assertEqual(self.shares(session), ["stuff"])
        alice.ask("share_remove", name="stuff")
        self.assertEqual(self.shares(session), [])
        self.assertFalse(session.is_over)

    def test_restarts(self) -> None:
        """What is kept is shared again after a stop and after a kill; a damaged list is an error at the start."""
        alice, bob = self.begin()
        alice.ask("share_add", path=str(alice.files), name="stuff", expires_s=500)
        for end in alice.crash, alice.stop:
            end()
            alice.start()
            self.assertEqual(self.shares(bob.open(alice)), ["stuff"])
            self.assertIsNone(alice.ask("shares")["shares"][0]["allow"])
        self.world.wait(600)
        self.assertEqual(self.shares(bob.open(alice)), [])
        alice.stop()
        (alice.data / FILE_NAME).write_text("{")
        self.assertRaises(SharesUnusable, alice.start)
        self.assertEqual((alice.data / FILE_NAME).read_text(), "{")

    def test_one_download(self) -> None:
        """A share for one download ends when somebody has it, and nobody else gets it."""
        alice, bob = self.begin()
        (carol,) = map(Hostile, self.world.start("carol"))
        alice.ask("share_add", path=str(alice.files), name="stuff", count=1)
        first, second = bob.open(alice), carol.open(alice)
        first.say(m="get", id=1, path="stuff/small")
        self.world.wait(1)
        second.say(m="get", id=1, path="stuff/small")
        self.world.wait(1)
        self.assertEqual((first.data, second.data), (b"x", b""))
        self.assertEqual((self.shares(first), self.shares(second)), (["stuff"], []))
        first.say(m="done", ids=[1])
        first.say(m="job", title="", files=0, bytes=0)
        self.world.wait(1)
        self.assertEqual((self.shares(first), alice.ask("shares")["shares"]), ([], []))


class LanTests(WorldTestCase):
    """The same without a registry."""

    is_lan = True

    def test_open_to_all(self) -> None:
        """A share that is open to the network lets strangers in at once, and removing it keeps them out."""
        alice, bob = self.world.start("alice", "bob")
        with self.assertRaises(P2pshareError):
            bob.ask("complete", peer="alice", prefix="")
        alice.ask("share_add", path=str(alice.files), name="stuff", allow=["@lan"])
        self.world.wait(10)
        self.assertEqual(bob.ask("complete", peer="alice", prefix="")["entries"], ["stuff/"])
