"""Both ends of one session list and fetch each other's files at the same time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from p2pshare.core.credit import CreditControl
from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.core.rate import RateLimit
from p2pshare.core.receiver import ReceiverCore
from p2pshare.core.session_interface import Session
from p2pshare.core.session_parts import NoOffers, SessionParts
from p2pshare.errors import P2pshareError
from p2pshare.net.session.dialling import open_session
from p2pshare.net.threads import FairLimit
from p2pshare.peer.fetch.link import Link
from p2pshare.peer.share.acceptor import SessionAcceptor, SessionLimits
from p2pshare.peer.share.open_sessions import OpenSessions
from p2pshare.peer.share.session import LISTS_AT_ONCE, LISTS_OF_ONE, ServedSession
from p2pshare.peer.share.upload_log import Uploads
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.tree import ShareTree
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.testing.sessions import SessionPair
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import parse_path
from p2pshare.wire.session_messages import VERSION, Hello
from p2pshare.wire.transfer_messages import Fault, FileHeader, Listing
from tests.net.session_pairs import ALICE, BOB
from tests.storage.share_case import a_bit_later

HOST = "127.0.0.1"
WINDOW = 2 * 1024 * 1024  # bytes of credit at first
SIZE = 3 * WINDOW + 12345  # bytes of a file: credit must be given again and again
PATIENCE = 120.0


class Fetched:
    """The requester of a file and of a listing; it records what comes."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}
        self.root = b""
        self.listing: Listing | None = None
        self.faults: list[Fault] = []
        self.interruptions = 0

    def announced(self, header: FileHeader) -> None:
        """Any header is wanted."""

    def outgrown(self, header: FileHeader) -> None:
        raise AssertionError("any size is wanted")

    def block_arrived(self, block: ArrivedBlock) -> None:
        self.blocks[block.index] = bytes(block.data)
        block.release()

    def ended(self, root: bytes) -> None:
        self.root = root

    def listed(self, listing: Listing) -> None:
        self.listing = listing

    def failed(self, why: Fault) -> None:
        self.faults.append(why)

    def interrupted(self) -> None:
        self.interruptions += 1

    @property
    def content(self) -> bytes:
        return b"".join(self.blocks[index] for index in sorted(self.blocks))


class BothDirections:
    """Tests of a pair of links; a subclass connects them."""

    bob: Link
    alice: Link
    """The requests of each, to the other one."""
    sessions: OpenSessions

    async def connect(self) -> None:
        raise NotImplementedError

    async def until(self, condition: Callable[[], object]) -> None:
        raise NotImplementedError

    def share(self: Any, reactor: Any) -> None:
        """Make a share for each."""
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.reactor = reactor
        self.trees, self.contents = {}, {}
        for name in ("alice", "bob"):
            path = Path(folder.name, name)
            path.mkdir()
            self.contents[name] = (name.encode() * SIZE)[:SIZE]
            (path / f"of_{name}").write_bytes(self.contents[name])
            cache = BlockCache(None)
            self.addCleanup(cache.close)
            shares = [SharedPath("stuff", path)]
            self.trees[name] = ShareTree(shares, cache, FolderIndex(None), a_bit_later)
        self.uploads = Uploads(reactor)
        self.addCleanup(self.uploads.stop)
        self.sessions = OpenSessions(reactor, WINDOW)

    def serving(self: Any, name: str, session: Session) -> ServedSession:
        limit = RateLimit(None, self.reactor.seconds())
        listing = FairLimit(LISTS_AT_ONCE, LISTS_OF_ONE)
        return ServedSession(self.reactor, session, self.trees[name], limit, self.uploads, listing)

    def core(self: Any) -> ReceiverCore:
        now = self.reactor.seconds()
        return ReceiverCore(CreditControl(RateLimit(None, now), now, WINDOW))

    def begin(self: Any, session: Session, core: ReceiverCore) -> None:
        """Begin bob's end, which opened the session."""
        self.over: list[P2pshareError | None] = []

        def over(link: Link, reason: P2pshareError | None) -> None:
            self.over.append(reason)

        self.bob = Link(self.reactor, session, core, over, PATIENCE)
        session.begin(SessionParts(self.serving("bob", session), NoOffers(session), self.bob))
        self.bob.join()

    def ask(self, link: Link, path: str) -> Fetched:
        """Ask for the listing of `stuff`, and for a file."""
        fetched = Fetched()
        link.send(link.core.list(fetched, ("stuff",), (), 10, False))
        link.send(link.core.get(fetched, parse_path(path)))
        return fetched

    async def test_at_once(self: Any) -> None:
        """Each end lists and fetches what the other shares, at the same time, beyond the credit of the greeting."""
        await self.connect()
        for _ in range(2):
            await self.exchange()
        for link in (self.bob, self.alice):
            self.assertEqual(link.core.crediting.arrived, 2 * SIZE)

    async def exchange(self: Any) -> None:
        of_alice = self.ask(self.bob, "stuff/of_alice")
        of_bob = self.ask(self.alice, "stuff/of_bob")
        await self.until(lambda: of_alice.root and of_bob.root)
        for name, fetched in (("alice", of_alice), ("bob", of_bob)):
            self.assertEqual(fetched.content, self.contents[name])
            (entry,) = fetched.listing.entries
            self.assertEqual(entry.path, (f"of_{name}",))

    async def test_not_there(self: Any) -> None:
        """Each end is told what the other one does not share."""
        await self.connect()
        asked = [self.ask(self.bob, "stuff/of_bob"), self.ask(self.alice, "x")]
        await self.until(lambda: all(each.faults for each in asked))
        self.assertEqual([each.faults for each in asked], [[Fault.NOT_FOUND]] * 2)

    async def test_end(self: Any) -> None:
        """Both ends hear of the end, whoever of them wants it, and what they requested is interrupted."""
        await self.connect()
        asked = [self.ask(self.bob, "stuff/of_alice"), self.ask(self.alice, "stuff/of_bob")]
        await self.until(lambda: all(each.blocks for each in asked))
        self.alice.close()
        await self.until(lambda: self.alice.ended_by is not None and self.over)
        self.assertEqual(asked[1].interruptions, 1 + (asked[1].listing is None))
        self.assertIsNone(self.sessions.link("bob"))


class MemoryTests(BothDirections, TestCase):
    async def connect(self) -> None:
        reactor = ThreadlessReactor()
        self.share(reactor)
        core = self.core()
        hello = Hello(VERSION, "test/1", core.crediting.granted)
        self.pair = SessionPair(BOB, ALICE, clock=reactor, hello=hello)
        self.pair.owners[1].on_greeted = lambda session: session.welcome("bob", WINDOW)
        self.pair.connect()
        accepted = self.pair.acceptor
        accepted.begin(self.sessions.add(accepted, self.serving("alice", accepted)))
        self.begin(self.pair.opener, core)
        link = self.sessions.link("bob")
        assert link is not None
        self.alice = link

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.pair.clock.advance(0)
            assert self.pair.wire.carry(), "nothing moves any more"


class TcpTests(BothDirections, TestCase):
    timeout = 30

    async def connect(self) -> None:
        reactor: Any = global_reactor
        self.share(reactor)

        async def admit(key: PublicKey, said: str, _purpose: object = None) -> str:
            return "bob"

        def serve(session: Session) -> Any:
            return self.sessions.add(session, self.serving("alice", session))

        server = SessionAcceptor(reactor, lambda: ALICE, admit, serve, SessionLimits(credit=WINDOW))
        await server.listen(0, HOST)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        address, core = PeerAddress(HOST, server.port), self.core()
        credit = core.crediting.granted
        session = await open_session(reactor, BOB, "alice", address, ALICE.public, credit=credit)
        self.begin(session, core)
        self.addCleanup(self.end)
        await self.until(lambda: server.sessions)
        link = self.sessions.link("bob")
        assert link is not None
        self.alice = link

    async def end(self) -> None:
        self.bob.close()
        await self.until(lambda: self.over and self.alice.ended_by is not None)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await deferLater(self.reactor, 0.001)
