"""A sharer and an opener in one process, with sessions over loopback and real folders."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.rate import RateLimit
from p2pshare.core.session_interface import SessionUser
from p2pshare.errors import P2pshareError
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import FairLimit
from p2pshare.peer.fetch.job import FetchJob, JobItem, JobProgress, SavedFile
from p2pshare.peer.fetch.link_change import LinkChange
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer
from p2pshare.peer.find.target import Target
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.peer.share.acceptor import SessionAcceptor
from p2pshare.peer.share.open_sessions import OpenSessions
from p2pshare.peer.share.session import LISTS_AT_ONCE, LISTS_OF_ONE, ServedSession
from p2pshare.peer.share.upload_log import Uploads
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.storage.settings import Via
from p2pshare.storage.shares.arguments import shared_paths
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.tree import ShareTree
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.paths import RemotePath, parse_path
from tests.storage.share_case import a_bit_later

HOST = "127.0.0.1"
ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)
PATIENCE = 20.0  # seconds of a test that waits for something

reactor = cast("IPeerReactor", the_reactor)


class AliceShares:
    """A peer that shares a folder under the folder's name, over TCP and over UDP."""

    def __init__(
        self,
        folder: Path,
        viewer: str = "bob",
        limit: float | None = None,
        names: Mapping[PublicKey, str] | None = None,
    ) -> None:
        self.uploads = Uploads(reactor)
        self._stores = BlockCache(None), FolderIndex(None)
        tree = ShareTree(shared_paths([str(folder)], [], folder.parent), *self._stores, a_bit_later)
        rate = RateLimit(limit, reactor.seconds())
        listing = FairLimit(LISTS_AT_ONCE, LISTS_OF_ONE)
        self.sessions: list[Any] = []

        async def admit(key: PublicKey, said: str, _purpose: object = None) -> str:
            return viewer if names is None else names[key]

        self.open_sessions = OpenSessions(reactor, CREDIT_WINDOW)

        def serve(session: Any) -> SessionUser:
            self.sessions.append(session)
            serving = ServedSession(reactor, session, tree, rate, self.uploads, listing)
            return self.open_sessions.add(session, serving)

        self.server = SessionAcceptor(reactor, lambda: ALICE, admit, serve)
        self.datagrams = DatagramSessions(reactor, os.urandom, self.server)
        Deferred.fromCoroutine(self.server.listen(0, HOST))
        self.datagrams.port.listen(self.server.port, HOST)
        self.address = PeerAddress(HOST, self.server.port)

    async def stop(self) -> None:
        """Close all sessions and caches."""
        await self.server.stop()
        await self.datagrams.stop()
        self.uploads.stop()
        self._stores[0].close()


class SharersTestCase(TestCase):
    """Tests with a folder that alice shares, and another into which bob fetches."""

    timeout = 60

    def setUp(self) -> None:
        """Make the folders."""
        top = Path(tempfile.mkdtemp(dir=os.getcwd()))
        self.share, self.inbox = top / "share", top / "inbox"
        self.share.mkdir()
        self.inbox.mkdir()
        self.alices: list[AliceShares] = []
        self.remotes: list[RemotePeer] = []
        self.saved: list[SavedFile] = []
        self.failed: dict[RemotePath, P2pshareError] = {}
        self.remarks: list[str] = []
        self.records = SavedFiles(Path(self.mktemp()).absolute())
        self.addCleanup(self.records.close)
        self.changes: list[LinkChange] = []

    def alice(self, **options: Any) -> AliceShares:
        """Share the folder `share`."""
        alice = AliceShares(self.share, **options)
        self.alices.append(alice)
        self.addCleanup(lambda: Deferred.fromCoroutine(alice.stop()))
        return alice

    def remote(
        self,
        where: Callable[[], PeerAddress],
        key: PublicKey = ALICE.public,
        via: Via = Via.TCP,
        own: SigningKey = BOB,
        **limits: Any,
    ) -> RemotePeer:
        """Return alice as bob sees her, or another peer with the key `own`."""
        carriers = Carriers(reactor, via)

        async def find() -> Target:
            return Target.at("alice", key, where())

        remote = RemotePeer(
            reactor,
            random.Random(1),
            "alice",
            find,
            Dialler(reactor, lambda: own, carriers),
            LinkLimits(**limits),
            on_link=self.changes.append,
        )

        self.remotes.append(remote)

        async def close() -> None:
            for each in self.remotes:
                await each.close()
            await carriers.close()
            await self.until(lambda: not any(alice.server.sessions for alice in self.alices))

        self.addCleanup(lambda: Deferred.fromCoroutine(close()))
        return remote

    def job(self, remote: RemotePeer, *paths: str, **options: Any) -> FetchJob:
        """Return a job of these paths, which go to `inbox`."""
        items = [JobItem(parse_path(path), self.inbox, **options) for path in paths]
        return FetchJob(
            remote,
            items,
            on_saved=self.saved.append,
            on_failed=self.failed.__setitem__,
            on_remark=lambda _, remark: self.remarks.append(remark),
            open_folder=partial(IncomingFolder.open, saved=self.records),
        )

    async def fetch(self, remote: RemotePeer, *paths: str, **options: Any) -> JobProgress:
        """Run a job of these paths."""
        return await self.job(remote, *paths, **options).run()

    def write(self, name: str, data: bytes = b"", mtime: int | None = None) -> Path:
        """Write a file that alice shares."""
        path = self.share / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if mtime is not None:
            os.utime(path, (mtime, mtime))
        return path

    def came(self) -> dict[str, bytes]:
        """Return the files in `inbox`, hidden ones included."""
        return {
            str(path.relative_to(self.inbox)): path.read_bytes()
            for path in self.inbox.rglob("*")
            if path.is_file()
        }

    def sent(self, alice: AliceShares) -> tuple[int, ...]:
        """Return the files and bytes that alice sent in the only session's job, and those remaining."""
        (visit,) = alice.uploads.status()
        return tuple(visit[each] for each in ("files", "bytes", "files_left", "bytes_left"))

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        for _ in range(int(PATIENCE / 0.01)):
            if holds():
                return
            await deferLater(reactor, 0.01)
        self.fail("it has not come about in time")
