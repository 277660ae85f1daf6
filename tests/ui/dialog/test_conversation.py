"""Tests for `p2pshare.ui.dialog.conversation`; what it says is tested as a process."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import WrongUsage
from p2pshare.peer.registration import LOCAL_ONLY
from p2pshare.peer.service import OPEN_FILES, OPEN_FILES_MIN
from p2pshare.peer.share import upload_log as uploads
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.ui.dialog import conversation
from p2pshare.ui.dialog.conversation import (
    IN_THE_CLEAR,
    SHARES_SHOWN,
    SHARING_NOTHING,
    Conversation,
    _reached,
    _sharing,
    _to_its_end,
    _TransferStopped,
    uploads_told,
)
from p2pshare.ui.dialog.steps import GetFiles
from p2pshare.wire.addresses import PeerAddress


class EndTests(SynchronousTestCase):
    def test_signal_while_ending(self) -> None:
        """A signal that comes while the peer stops does not keep it from that."""
        stopping: Deferred[None] = Deferred(lambda _: self.fail("cancelled"))
        ending = Deferred.fromCoroutine(_to_its_end(stopping))
        ending.cancel()
        self.assertNoResult(ending)
        stopping.callback(None)
        self.failureResultOf(ending, CancelledError)

    def test_no_signal(self) -> None:
        """Else it is over when the peer has stopped."""
        stopping: Deferred[None] = Deferred()
        ending = Deferred.fromCoroutine(_to_its_end(stopping))
        self.assertNoResult(ending)
        stopping.callback(None)
        self.assertIsNone(self.successResultOf(ending))


class StopTests(SynchronousTestCase):
    def test_transfer(self) -> None:
        """Ctrl+C during a transfer ends that alone: the process has to hear that it goes on."""
        forgiven: list[bool] = []
        invocation: Any = SimpleNamespace(
            settings=Settings(),
            reactor=SimpleNamespace(callFromThread=lambda call: call()),
            cwd=Path("/"),
            forgive_signal=lambda: forgiven.append(transfer.called),
        )
        console: Any = SimpleNamespace(is_terminal=True)
        talk = Conversation(invocation, console)
        transfer: Deferred[None] = Deferred()

        async def fetch() -> None:
            await transfer

        def own(*_: object) -> None:
            raise AssertionError("this one was for the transfer")

        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, own))
        step = GetFiles("alice", ("a",))
        going = Deferred.fromCoroutine(talk._stoppable(step, fetch()))
        signal.raise_signal(signal.SIGINT)
        self.failureResultOf(going, _TransferStopped)
        self.assertEqual(forgiven, [False])
        self.assertIs(signal.getsignal(signal.SIGINT), own)


class JoinTests(SynchronousTestCase):
    def test_open_files(self) -> None:
        """Who joins runs a whole peer, which may have as many files open as one that runs alone."""
        invocation: Any = SimpleNamespace(
            settings=Settings(), reactor=None, rng=None, cwd=Path("/"), wall=None
        )
        console: Any = None
        asked: list[tuple[int, ...]] = []

        def peer_of(*_: object, **__: object) -> NoReturn:
            self.assertEqual(asked, [(OPEN_FILES, OPEN_FILES_MIN)])
            raise WrongUsage(reason="enough")

        self.patch(conversation, "peer_of", peer_of)
        self.patch(conversation, "allow_open_files", lambda *files: asked.append(files))
        talk = Conversation(invocation, console)
        joining = Deferred.fromCoroutine(talk._join("bob", None))
        self.failureResultOf(joining, WrongUsage)


class TellingTests(SynchronousTestCase):
    def test_reached(self) -> None:
        """A user whose peer is at a loopback address learns that other machines do not reach it."""
        for ip, is_warned in (("192.0.2.7", False), ("127.0.0.1", True), ("127.9.9.9", True)):
            told = _reached("bob", PeerAddress(ip, 50000))
            self.assertEqual(told[0].text, f"You are bob, and are reached at {ip}:50000.")
            self.assertEqual([each.text for each in told[1:]], [LOCAL_ONLY] if is_warned else [])

    def test_sharing(self) -> None:
        """What is shared is said with whom, and what of it goes out in the clear."""
        photos, notes = (SharedPath(name, Path(f"/{name}")) for name in ("photos", "notes"))
        mine = SharedPath("mine", Path("/mine"), frozenset({"bob", "alice"}))
        told = [said.text for said in _sharing((photos, mine, notes), True)]
        self.assertEqual(
            told,
            [
                "You share photos and notes, with everyone whose key owns a name in this registry.",
                "You share mine, with alice, bob.",
                IN_THE_CLEAR,
            ],
        )
        self.assertEqual([said.text for said in _sharing((), True)], [SHARING_NOTHING])
        many = [SharedPath(f"s{n}", Path("/s")) for n in range(SHARES_SHOWN + 3)]
        self.assertIn("and 3 more, with", _sharing(many, False)[0].text)

    def test_uploads(self) -> None:
        """Who fetches what is told while one looks on, and nothing else of the log is: not who only looks around."""
        told: list[str] = []
        with uploads_told(told.append):
            Logger(uploads.__name__).info("{name} is here", name="bob")
            Logger(uploads.__name__).debug("{name} has connected", name="bob")
            Logger("elsewhere").info("noise")
        Logger(uploads.__name__).info("too late")
        self.assertEqual(told, ["bob is here"])
