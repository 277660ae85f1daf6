"""Tests for `p2pshare.ui.dialog.actions`; process tests show the whole."""

from __future__ import annotations

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
from p2pshare.ui.dialog import actions
from p2pshare.ui.dialog.actions import (
    IN_THE_CLEAR,
    SHARES_SHOWN,
    SHARING_NOTHING,
    Actions,
    _reached,
    _sharing,
    _to_its_end,
    uploads_shown,
)
from p2pshare.wire.addresses import PeerAddress


class EndTests(SynchronousTestCase):
    def test_signal_while_ending(self) -> None:
        """A signal that comes while the peer stops does not interrupt that."""
        stopping: Deferred[None] = Deferred(lambda _: self.fail("cancelled"))
        ending = Deferred.fromCoroutine(_to_its_end(stopping))
        ending.cancel()
        self.assertNoResult(ending)
        stopping.callback(None)
        self.failureResultOf(ending, CancelledError)

    def test_no_signal(self) -> None:
        """Without a signal, the end is when the peer has stopped."""
        stopping: Deferred[None] = Deferred()
        ending = Deferred.fromCoroutine(_to_its_end(stopping))
        self.assertNoResult(ending)
        stopping.callback(None)
        self.assertIsNone(self.successResultOf(ending))


class JoinTests(SynchronousTestCase):
    def test_open_files(self) -> None:
        """The dialog's peer may have as many files open as one that runs alone."""
        invocation: Any = SimpleNamespace(
            settings=Settings(), reactor=None, rng=None, cwd=Path("/"), wall=None
        )
        console: Any = None
        asked: list[tuple[int, ...]] = []

        def make_peer(*_: object, **__: object) -> NoReturn:
            self.assertEqual(asked, [(OPEN_FILES, OPEN_FILES_MIN)])
            raise WrongUsage(reason="enough")

        self.patch(actions, "PeerService", make_peer)
        self.patch(actions, "allow_open_files", lambda *files: asked.append(files))
        joining = Deferred.fromCoroutine(Actions(invocation, console).join("bob", None))
        self.failureResultOf(joining, WrongUsage)


class LinesTests(SynchronousTestCase):
    def test_reached(self) -> None:
        """A user whose peer has a loopback address is told that other machines cannot reach it."""
        for ip, is_warned in (("192.0.2.7", False), ("127.0.0.1", True), ("127.9.9.9", True)):
            (first, _), *others = _reached("bob", PeerAddress(ip, 50000))
            self.assertIn(f"{ip}:50000", first)
            self.assertEqual([text for text, _ in others], [LOCAL_ONLY] if is_warned else [])

    def test_sharing(self) -> None:
        """Shares are listed with the names that may see them, and with a warning about unencrypted copies."""
        photos, notes = (SharedPath(name, Path(f"/{name}")) for name in ("photos", "notes"))
        mine = SharedPath("mine", Path("/mine"), frozenset({"bob", "alice"}))
        told = [text for text, _ in _sharing((photos, mine, notes), True)]
        self.assertEqual(
            told,
            [
                "You share photos and notes, with everyone whose key owns a name in this registry.",
                "You share mine, with alice, bob.",
                IN_THE_CLEAR,
            ],
        )
        self.assertEqual([text for text, _ in _sharing((), True)], [SHARING_NOTHING])
        many = [SharedPath(f"s{n}", Path("/s")) for n in range(SHARES_SHOWN + 3)]
        self.assertIn("and 3 more, with", _sharing(many, False)[0][0])

    def test_uploads(self) -> None:
        """The info events of the upload log are shown as long as the context lasts, and no others."""
        shown: list[str] = []
        with uploads_shown(shown.append):
            Logger(uploads.__name__).info("uploads began: peer={peer}", peer="bob")
            Logger(uploads.__name__).debug("session began: peer={peer}", peer="bob")
            Logger("elsewhere").info("noise")
        Logger(uploads.__name__).info("too late")
        self.assertEqual(shown, ["uploads began: peer=bob"])
