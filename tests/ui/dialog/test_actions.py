"""Tests for `p2pshare.ui.dialog.actions`; process tests show the whole."""

from __future__ import annotations

import io
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import WrongUsage
from p2pshare.names import ON_NETWORK
from p2pshare.peer.registration import LOCAL_ONLY
from p2pshare.peer.service import OPEN_FILES, OPEN_FILES_MIN
from p2pshare.peer.share import upload_log as uploads
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.ui.dialog import actions
from p2pshare.ui.dialog.actions import (
    IN_THE_CLEAR,
    KEPT,
    SHARES_SHOWN,
    SHARING_NOTHING,
    Actions,
    Visit,
    _reached,
    _sharing,
    _to_its_end,
    uploads_shown,
)
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.wire.addresses import LAN, PeerAddress


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
        ((only, _),) = _reached("bob", PeerAddress("192.0.2.7", 50000), is_private=True)
        self.assertNotIn("192.0.2.7", only)

    def test_sharing(self) -> None:
        """Shares are listed with the names that may see them, and with a warning about unencrypted copies."""
        photos, notes = (SharedPath(name, Path(f"/{name}")) for name in ("photos", "notes"))
        mine = SharedPath("mine", Path("/mine"), frozenset({"bob", "alice"}))
        classic, lan = (
            Settings(registry="http://127.0.0.1:8000", classic=True),
            Settings(registry=LAN),
        )
        told = [text for text, _ in _sharing((photos, mine, notes), classic)]
        self.assertEqual(
            told,
            [
                "You share photos and notes, with everyone whose key owns a name in this registry.",
                "You share mine, with alice, bob.",
                IN_THE_CLEAR,
            ],
        )
        self.assertEqual([text for text, _ in _sharing((), classic)], [SHARING_NOTHING])
        many = [SharedPath(f"s{n}", Path("/s")) for n in range(SHARES_SHOWN + 3)]
        self.assertIn("and 3 more, with", _sharing(many, lan)[0][0])
        here = SharedPath("here", Path("/here"), frozenset({ON_NETWORK}))
        self.assertEqual(
            [text for text, _ in _sharing((photos, here), lan)],
            [
                "You share photos, with everyone whose key you have accepted.",
                "You share here, with everyone on this network.",
            ],
        )

    def test_uploads(self) -> None:
        """The info events of the upload log are shown as long as the context lasts, and no others."""
        shown: list[str] = []
        with uploads_shown(shown.append):
            log = Logger(uploads.__name__)
            log.info("uploads began: peer={peer}", peer="bob")
            log.debug("uploads ended: peer={peer} files={files}", peer="bob", files=0)
            log.info("upload: {outcome} {path}", peer="bob", outcome="confirmed", path="a", bytes=9)
            log.info("upload: {outcome} {path}", peer="bob", outcome="failed", path="b", bytes=9)
            log.info("upload: {path}", peer="bob", outcome="confirmed", path="@x/c", bytes=9)
            log.info("files uploaded: {files}", peer="bob", files=2, bytes=4096)
            Logger("elsewhere").info("noise")
        Logger(uploads.__name__).info("too late", peer="bob")
        expected = (("bob",), ("fetched", "a", "9"), ("failed", "b"), ("2 files", "4.0 KiB"))
        for words, text in zip(expected, shown, strict=True):
            for word in words:
                self.assertIn(word, text)


class StoppedTests(SynchronousTestCase):
    def test_kept(self) -> None:
        """A user who stops a fetch is told how to resume it."""
        stderr = io.StringIO()
        terminal = Terminal.detect(stderr, {})
        invocation: Any = SimpleNamespace(
            reactor=ThreadlessReactor(),
            rng=random.Random(1),
            settings=Settings(),
            output=Output(Terminal.detect(io.StringIO(), {}), terminal),
            cwd=Path("/home/bob"),
        )
        found: Any = SimpleNamespace(name="alice", takes_sessions=True, speaks_classic=False)

        class EndlessJob:
            def __init__(self, *_: object, **__: object) -> None: ...

            async def run(self, *_: object) -> None:
                await Deferred()

        self.patch(actions, "WatchedJob", EndlessJob)
        visit = Visit(invocation, "bob", found, lambda: invocation.cwd)
        visit.remote = cast(Any, None)
        fetching = Deferred.fromCoroutine(visit.fetch(("film.mp4",)))
        self.assertNoResult(fetching)
        fetching.cancel()
        self.failureResultOf(fetching, CancelledError)
        self.assertEqual(stderr.getvalue(), f"{KEPT}\n")
