"""Tests of `p2pshare.ui.verbs.status`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import PeerNotRunning, ServiceDoesNotEnd
from p2pshare.peer.registration import LOCAL_ONLY, Elsewhere, elsewhere_text
from p2pshare.storage.identity import data_folder
from p2pshare.storage.locks import FolderLock
from p2pshare.storage.settings import Settings
from p2pshare.ui.verbs import status
from p2pshare.ui.verbs.status import KINDS, MAPPINGS, PRIVATE, lines
from p2pshare.wire.addresses import LAN
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.reach.candidates import CandidateKind, Mapping
from tests.ui.registries import REGISTRY_KEY
from tests.ui.verbs.test_whoami import OwningTestCase, RunningPeer

TOLD: dict[str, Any] = {
    "name": "bob",
    "registered": True,
    "online": True,
    "address": "192.0.2.7:50000",
    "pid": 7,
    "classic": False,
    "shares": [],
    "uploads": [],
}
VISIT: dict[str, Any] = {
    "name": "carol",
    "files": 3,
    "bytes": 2048,
    "rate": 1024,
    "current": [],
    "files_left": None,
    "bytes_left": None,
    "left_s": None,
}


class StatusTests(SynchronousTestCase):
    def said(self, **told: Any) -> str:
        return "\n".join(lines({**TOLD, **told}))

    def test_idle(self) -> None:
        """The status of an idle peer shows its address, and that nothing is shared and nobody is connected."""
        self.assertEqual(
            self.said(),
            "bob is online, reached at 192.0.2.7:50000 (process 7).\n"
            "It shares nothing.\nNobody is connected.",
        )
        self.assertIn("cut off", self.said(online=False))
        self.assertIn("not registered yet", self.said(registered=False))
        self.assertIn("unencrypted", self.said(classic=True))

    def test_trouble(self) -> None:
        """A peer that waits for its registry says why, and shows no shares."""
        waiting = {key: each for key, each in TOLD.items() if key not in ("shares", "uploads")}
        told = {**waiting, "registered": False, "trouble": "The registry is away."}
        self.assertEqual(
            list(lines(told)),
            ["bob is not registered yet (process 7).", "The registry is away."],
        )
        self.assertEqual(
            self.said(online=False, trouble="The registry is away.").splitlines()[1],
            "The registry is away.",
        )

    def test_without_registry(self) -> None:
        """Without a registry the status shows who waits to be accepted, and says who may see a share."""
        key = SigningKey(bytes(32)).public
        share = {"name": "x", "path": "/x", "left_out": None}
        shares = [{**share, "allow": None}, {**share, "allow": ["@lan", "bob"]}]
        waiting = [{"name": "dave", "key": str(key)}]
        told = self.said(registry=LAN, shares=shares, waiting=waiting, online=False)
        for part in (
            "cut off from the network",
            "with everyone whose key you have accepted.",
            "with everyone on this network.",
            f"dave waits to be accepted: `p2pshare peers accept dave`. Key: {key.grouped}.",
        ):
            self.assertIn(part, told)

    def test_loopback(self) -> None:
        """A peer at a loopback address says that only this machine reaches it."""
        self.assertNotIn(LOCAL_ONLY, self.said(loopback=False))
        self.assertEqual(self.said(loopback=True).splitlines()[1], LOCAL_ONLY)

    def test_candidates(self) -> None:
        """The addresses at which others try, and the NAT, are shown in words; a private peer has none (threat 52)."""
        candidates = ["host/192.0.2.7:50000", "seen/203.0.113.9:50000", "new/[2001:db8::7]:50000"]
        told = self.said(candidates=candidates, mapping="dependent").splitlines()
        self.assertEqual(
            told[1:3],
            [
                "Others try: 192.0.2.7:50000 (of an interface), 203.0.113.9:50000 (seen by the registry),"
                " [2001:db8::7]:50000 (new).",
                MAPPINGS["dependent"],
            ],
        )
        self.assertNotIn("NAT", self.said(candidates=candidates, mapping="none", loopback=True))
        self.assertNotIn("Others", self.said(candidates=candidates, registered=False))
        private = self.said(candidates=[], private=True).splitlines()
        self.assertEqual(private[:2], ["bob is online (process 7).", PRIVATE])
        self.assertEqual(set(KINDS), {each.value for each in CandidateKind})
        self.assertEqual({*MAPPINGS, "unknown"}, {each.value for each in Mapping})

    def test_elsewhere(self) -> None:
        """The use of the key on another machine is reported with the remedy."""
        use: dict[str, Any] = {
            "address": "10.0.0.7:50001",
            "noticed": 1_800_000_000,
            "waits": False,
        }
        first, second, *_ = self.said(elsewhere=use).splitlines()
        self.assertEqual(first, "bob is online, reached at 192.0.2.7:50000 (process 7).")
        self.assertEqual(second, elsewhere_text(Elsewhere(**use)))
        waits = {**use, "waits": True}
        first, second, *_ = self.said(registered=False, elsewhere=waits).splitlines()
        self.assertEqual(first, "bob is in use elsewhere (process 7).")
        self.assertEqual(second, elsewhere_text(Elsewhere(**waits)))
        self.assertEqual(self.said(elsewhere=None), self.said())

    def test_shares(self) -> None:
        """Each share is shown with the names that may see it."""
        share = {"name": "photos", "path": "/p", "allow": None}
        some = {"name": "notes", "path": "/n", "allow": ["alice", "carol"]}
        many = {"name": "many", "path": "/m", "allow": [f"n{n}" for n in range(50)]}
        said = self.said(shares=[share, some, many, {**some, "allow": []}])
        self.assertIn("photos (/p) with everyone whose key owns a name", said)
        self.assertIn("notes (/n) with alice, carol.", said)
        self.assertIn("n9, 40 more.", said)
        self.assertIn("with nobody.", said)

    def test_not_shared(self) -> None:
        """Files left out of a share are shown if there are any and their number is known."""
        left_out = {
            "hidden": 2,
            "hidden_examples": [".git", ".x"],
            "omitted": {"unreadable": 1, "later": 3},
            "omitted_examples": ["sub"],
            "looked_at": 7,
            "complete": True,
        }
        share = {"name": "photos", "path": "/p", "allow": None, "left_out": left_out}
        self.assertIn(
            "Not shared of photos: 2 hidden or private (.git, .x); unreadable: 1, later: 3 (sub, …).",
            self.said(shares=[share]),
        )
        for nothing in None, {**left_out, "hidden": 0, "omitted": {}}:
            self.assertNotIn("Not shared", self.said(shares=[{**share, "left_out": nothing}]))

    def test_visits(self) -> None:
        """Connected peers are shown with files, rate and time left, as far as they are known."""
        self.assertIn(
            "carol is connected, and last fetched 3 files, 2.0 KiB.", self.said(uploads=[VISIT])
        )
        self.assertIn("carol is connected.", self.said(uploads=[{**VISIT, "files": 0, "bytes": 0}]))
        busy = {
            **VISIT,
            "current": ["a", "b", "c", "d"],
            "files_left": 6,
            "bytes_left": 4096,
            "left_s": 2.0,
        }
        self.assertIn(
            "carol fetches a, b, c, …: 3 files, 2.0 KiB so far, 1.0 KiB/s;"
            " 6 files, 4.0 KiB and 2 s left.",
            self.said(uploads=[busy]),
        )
        alone = {**busy, "current": ["@k6xwn2q4h7yx5c3m/film.mp4"], "files": 0, "files_left": 1}
        for known, text in (
            ({}, "; 4.0 KiB and 2 s left."),
            ({"left_s": None}, "; 4.0 KiB left."),
            ({"files_left": None, "bytes_left": None, "left_s": None}, "."),
        ):
            said = self.said(uploads=[{**alone, **known}])
            self.assertTrue(
                said.endswith(f"carol fetches film.mp4: 2.0 KiB so far, 1.0 KiB/s{text}"), said
            )


class StopTests(OwningTestCase):
    """`p2pshare stop`, with its own clock."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = self.fake.reactor
        self.holders: list[str | None] = []
        self.patch(
            FolderLock, "holder", lambda _folder: self.holders.pop(0) if self.holders else None
        )

        self.has_ended = True
        self.patch(status, "is_process", lambda _pid: not self.has_ended)

    def stop(self) -> Deferred[int]:
        return Deferred.fromCoroutine(status.stop(self.invocation))

    def test_stopped(self) -> None:
        """The verb waits until the peer has released its folder."""
        for last in (None, "4712"):
            self.peer = RunningPeer()
            self.holders = ["4711", "unknown", "4711", last]
            stopping = self.stop()
            self.clock.pump([status.STOP_INTERVAL] * 2)
            self.assertNoResult(stopping)
            self.clock.advance(status.STOP_INTERVAL)
            self.assertEqual(self.successResultOf(stopping), 0)
            self.assertEqual(self.peer.asked, ["stop"])
            self.assertEqual(self.event(), {"event": "stopped", "name": "bob", "pid": 4711})

    def test_still_ending(self) -> None:
        """The verb waits for the end of the process, but not for one that is never reaped."""
        self.peer, self.has_ended = RunningPeer(), False
        stopping = self.stop()
        self.clock.advance(status.STOP_INTERVAL)
        self.assertNoResult(stopping)
        self.clock.pump([status.STOP_INTERVAL] * int(status.EXIT_MAX / status.STOP_INTERVAL + 2))
        self.assertEqual(self.successResultOf(stopping), 0)

    def test_registry_under_another_url(self) -> None:
        """The peer is found by the key of its registry under a new URL."""
        home = self.fake.cwd
        self.patch(data_folder, "data_place", lambda: home)
        self.fake.settings = Settings(registry="http://192.0.2.77:8000", name="bob")
        self.data = home / "peers" / str(REGISTRY_KEY) / "bob"
        self.data.mkdir(parents=True)
        self.peer = RunningPeer()
        self.assertEqual(self.successResultOf(self.stop()), 0)
        self.assertEqual(self.peer.asked, ["stop"])

    def test_not_running(self) -> None:
        """If no peer runs, the error names the folder."""
        failure = self.failureResultOf(self.stop(), PeerNotRunning)
        self.assertIn(str(self.data), str(failure.value))

    def test_does_not_end(self) -> None:
        """The wait is bounded."""
        self.peer = RunningPeer()
        self.holders = ["4711"] * 1000
        stopping = self.stop()
        self.clock.pump([status.STOP_INTERVAL] * int(status.STOP_MAX / status.STOP_INTERVAL + 3))
        self.failureResultOf(stopping, ServiceDoesNotEnd)
