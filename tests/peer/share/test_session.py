"""Tests of `p2pshare.peer.share.session`: a session in memory, threads on demand, and real files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.rate import RateLimit
from p2pshare.core.session_interface import SessionPath, SessionUser
from p2pshare.core.sharer_transfers import SharerLimits
from p2pshare.errors import RemoteProtocolError, SessionLost
from p2pshare.net.threads import FairLimit
from p2pshare.peer.share.session import (
    LISTS_AT_ONCE,
    LISTS_OF_ONE,
    MEMORY,
    REFUSAL,
    SHORT_DELAY,
    SHORT_PATIENCE,
    ServedSession,
)
from p2pshare.peer.share.upload_log import Uploads
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.digest_cache import BlockCache, CachedFile
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.outgoing_files import OutgoingFile
from p2pshare.storage.shares.tree import ShareTree, Unavailable
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.blocks import BLOCK_SIZE, DIGEST_SIZE, digest_of, root_of
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import Credit, Message
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Digests,
    Done,
    End,
    Failed,
    Fault,
    FileHeader,
    Get,
    Job,
    List,
    Listing,
)
from tests.storage.share_case import a_bit_later

RICH = Credit(2**50)


class MemorySession:
    """A session whose other end is the test; `room` bytes may be sent at a time."""

    key = SigningKey(b"b" * 32).public
    path = SessionPath("memory", PeerAddress("192.0.2.1", 50001))
    piece_max = PIECE_MAX
    is_open = True

    def __init__(self, name: str = "bob", room: int = 10**12) -> None:
        self.name = name
        self.room = room
        self.said: list[Message] = []
        self.data: dict[int, bytearray] = {}
        self.pieces: list[int] = []
        self.is_aborted = False
        self.kept_alive = 0

    def begin(self, user: SessionUser) -> None:
        """Do nothing: no events came before."""

    def send(self, message: Message) -> None:
        """Record a message."""
        message.to_json()  # it can be said
        self.said.append(message)

    def send_data(self, transfer: int, offset: int, data: memoryview) -> None:
        """Record bytes, which must continue the announced block."""
        assert self.has_room and 0 < len(data) <= PIECE_MAX
        assert offset // BLOCK_SIZE == (offset + len(data) - 1) // BLOCK_SIZE
        assert offset // BLOCK_SIZE in self.digests(transfer)
        self.data.setdefault(transfer, bytearray())
        self.data[transfer] += data
        self.pieces.append(len(data))
        self.room -= len(data)

    def digests(self, transfer: int) -> dict[int, bytes]:
        """Return the digests of blocks that were sent."""
        said = [e for e in self.said if isinstance(e, Digests) and e.id == transfer]
        return {i: digest for each in said for i, digest in enumerate(each.digests, each.first)}

    @property
    def has_room(self) -> bool:
        """Whether the room is not used up."""
        return self.room > 0 and not self.is_aborted

    def keep_alive(self) -> None:
        """Count a call."""
        self.kept_alive += 1

    def close(self) -> None:
        """Fail: the serving code never calls it."""
        raise AssertionError

    def abort(self) -> None:
        """Record the abort."""
        self.is_aborted = True


class ServingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.reactor = ThreadlessReactor()
        self.tree: Any = self.tree_of(None)
        self.uploads = Uploads(self.reactor)
        self.limit = RateLimit(None, 0.0)

    def tree_of(self, allow: frozenset[str] | None) -> ShareTree:
        return ShareTree(
            [SharedPath("stuff", self.folder, allow)],
            BlockCache(None),
            FolderIndex(None),
            a_bit_later,
        )

    def share(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def serve(
        self, *messages: Message, session: MemorySession | None = None, **options: Any
    ) -> tuple[MemorySession, ServedSession]:
        session = session or MemorySession()
        options.setdefault("listing", FairLimit(LISTS_AT_ONCE, LISTS_OF_ONE))
        serving = ServedSession(
            self.reactor, session, self.tree, self.limit, self.uploads, **options
        )
        for message in messages:
            serving.message_received(message)
        return session, serving

    def open_files(self) -> int:
        """Return the number of shared files that this process has open; 0 where the system cannot tell."""
        opened = 0
        for link in Path("/proc/self/fd").glob("*"):
            with contextlib.suppress(OSError):
                opened += Path(os.readlink(link)).is_relative_to(self.folder)
        return opened


class FileTests(ServingTestCase):
    def test_whole(self) -> None:
        """Files of all sizes are sent with their digests, root, time and executable bit."""
        datas = {size: os.urandom(size) for size in (0, 1, BLOCK_SIZE, 2 * BLOCK_SIZE + 77)}
        for number, data in datas.items():
            path = self.share(f"a/{number}", data)
            os.utime(path, (1, 1_500_000_000.25))
            path.chmod(0o755 if number else 0o644)
        session, _ = self.serve(
            RICH, *[Get(number, ("stuff", "a", str(number))) for number in datas]
        )
        for number, data in datas.items():
            self.assertEqual(session.data.get(number, b""), data)
            header, *blocks, end = [e for e in session.said if getattr(e, "id", None) == number]
            assert isinstance(header, FileHeader) and isinstance(end, End)
            self.assertEqual((header.size, header.executable), (len(data), number > 0))
            self.assertEqual(header.mtime_ns, 1_500_000_000_250_000_000)
            cut = [data[at : at + BLOCK_SIZE] for at in range(0, len(data), BLOCK_SIZE)]
            expected = [Digests(number, i, (digest_of(each),)) for i, each in enumerate(cut)]
            self.assertEqual(blocks, expected)
            self.assertEqual(end.root, root_of(len(data), map(digest_of, cut)))
            self.assertEqual(end.sent, len(data))
        self.assertEqual(self.open_files(), 0)

    def test_part(self) -> None:
        """A part of a file is sent without its root, and nothing else of it is read; a file that changes is noticed."""
        data = os.urandom(5 * BLOCK_SIZE + 77)
        self.share("film", data)
        request = Get(1, ("stuff", "film"), want=((1, 2), (5, 6)), root=False)
        with mock.patch.object(OutgoingFile, "finish") as finish:
            session, _ = self.serve(RICH, request)
            self.assertEqual(finish.call_count, 0)
        self.assertEqual(
            session.data[1], data[BLOCK_SIZE : 2 * BLOCK_SIZE] + data[5 * BLOCK_SIZE :]
        )
        self.assertEqual(session.said[-1], End(1, b"", BLOCK_SIZE + 77))
        (upload,) = self.uploads.status()
        self.assertEqual((upload["files"], upload["current"]), (0, []))
        self.assertEqual(self.open_files(), 0)
        with mock.patch.object(OutgoingFile, "confirm", side_effect=Unavailable(Fault.CHANGED)):
            session, _ = self.serve(RICH, request)
        self.assertEqual(session.said[-1], Failed(1, Fault.CHANGED, len(session.data.get(1, b""))))

    def test_resumed(self) -> None:
        """Blocks that the opener does not want are not sent; the root is that of the whole file."""
        data = os.urandom(3 * BLOCK_SIZE)
        self.share("big", data)
        session, serving = self.serve(RICH, Get(1, ("stuff", "big")))
        (version,) = [e.version for e in session.said if isinstance(e, FileHeader)]
        session.data.clear()
        serving.message_received(Get(2, ("stuff", "big"), version, ((1, 2),)))
        self.assertEqual(session.data, {2: data[BLOCK_SIZE : 2 * BLOCK_SIZE]})
        roots = {e.root for e in session.said if isinstance(e, End)}
        self.assertEqual(len(roots), 1)

    def test_halves_of_two_sharers(self) -> None:
        """Half of a file comes from one sharer and half from another, with all digests from the first."""
        data = os.urandom(5 * BLOCK_SIZE - 9)
        self.share("big", data)
        first, second = (
            self.serve(RICH, Get(1, ("stuff", "big"), want=want, digests=ahead))[0]
            for want, ahead in ((((0, 2), (4, 9)), ((0, 9),)), (((2, 4),), ()))
        )
        known = first.digests(1)
        self.assertEqual(known | second.digests(1), known)
        sent, rest = bytes(first.data[1]), bytes(second.data[1])
        self.assertEqual(sent[: 2 * BLOCK_SIZE] + rest + sent[2 * BLOCK_SIZE :], data)
        roots = [each.said[-1] for each in (first, second)]
        root = root_of(len(data), (known[index] for index in range(5)))
        self.assertEqual(roots, [End(1, root, len(sent)), End(1, root, len(rest))])

    def test_not_for_you(self) -> None:
        """Missing files and files for others get the same answer, for `get` and `list` (threat 34)."""
        self.share("secret", b"secret")
        self.tree = self.tree_of(frozenset(["carol"]))
        asked = [("stuff", "secret"), ("stuff", "none"), ("none",), ("stuff",)]
        session, _ = self.serve(
            RICH,
            *[Get(number, path) for number, path in enumerate(asked)],
            *[List(number + 10, path) for number, path in enumerate(asked)],
        )
        answers = [e.why for e in session.said if isinstance(e, Failed)]
        self.assertEqual(answers, 8 * [Fault.NOT_FOUND])
        self.assertEqual(session.data, {})
        session, _ = self.serve(RICH, Get(1, ("stuff", "secret")), session=MemorySession("carol"))
        self.assertEqual(session.data, {1: b"secret"})

    def test_list(self) -> None:
        """A listing is that of the tree."""
        self.share("b", b"12")
        self.share("a", b"1")
        session, _ = self.serve(List(1, ("stuff",), limit=1), List(2, ("stuff",), after=("a",)))
        first, second = session.said
        assert isinstance(first, Listing) and isinstance(second, Listing)
        self.assertEqual(([e.path for e in first.entries], first.more), ([("a",)], True))
        self.assertEqual(([e.size for e in second.entries], second.more), ([2], False))

    def test_changed_on_the_way(self) -> None:
        """A file that changes while it is sent fails, and is never delivered as a mixture."""
        path = self.share("big", os.urandom(9 * BLOCK_SIZE))
        session, serving = self.serve(
            RICH, Get(1, ("stuff", "big")), session=MemorySession(room=BLOCK_SIZE)
        )
        path.write_bytes(b"something else")
        session.room = 10**12
        serving.room_again()
        sent = len(session.data[1])
        self.assertEqual(session.said[-1], Failed(1, Fault.CHANGED, sent))
        self.assertFalse(any(isinstance(e, End) for e in session.said))
        self.assertEqual(self.open_files(), 0)

    def test_reactor_never_reads(self) -> None:
        """While threads are held nothing is read or sent; then everything is."""
        self.share("small", b"x")
        self.share("big", bytes(2 * BLOCK_SIZE))
        let_go = self.reactor.hold_threads()
        session, _ = self.serve(
            RICH, Get(1, ("stuff", "small")), Get(2, ("stuff", "big")), List(3, ())
        )
        self.assertEqual((session.said, session.data), ([], {}))
        let_go()
        self.assertEqual(len([e for e in session.said if isinstance(e, End | Listing)]), 3)

    def test_many_small(self) -> None:
        """Hundreds of small files, more than fit at once, all arrive."""
        for number in range(200):
            self.share(f"m/{number}", os.urandom(40_000 + number))
        session, serving = self.serve(
            RICH, limits=SharerLimits(small_bytes=2 * BLOCK_SIZE, batch=50)
        )
        let_go: Callable[[], None] = self.reactor.hold_threads()
        for number in range(200):
            serving.message_received(Get(number, ("stuff", "m", str(number))))
        let_go()
        self.assertEqual(len(session.data), 200)
        for number in range(200):
            self.assertEqual(session.data[number], (self.folder / f"m/{number}").read_bytes())

    def test_many_large(self) -> None:
        """More large files than may be open at once all arrive, and are closed."""
        for number in range(12):
            self.share(f"l/{number}", os.urandom(BLOCK_SIZE + number + 1))
        gets = [Get(number, ("stuff", "l", str(number))) for number in range(12)]
        session, _ = self.serve(RICH, *gets, limits=SharerLimits(open_files=2))
        self.assertEqual(len([e for e in session.said if isinstance(e, End)]), 12)
        self.assertEqual(self.open_files(), 0)


class RoomTests(ServingTestCase):
    def test_room(self) -> None:
        """Nothing is sent without room, and sending continues when there is room."""
        data = os.urandom(3 * BLOCK_SIZE)
        self.share("big", data)
        session, serving = self.serve(RICH, Get(1, ("stuff", "big")), session=MemorySession(room=1))
        sent = len(session.pieces)
        self.assertEqual(sent, 1)
        while session.data[1] != data:
            session.room = 1
            serving.room_again()
            sent += 1
            self.assertEqual(len(session.pieces), sent)
        session.room = 1
        serving.room_again()
        self.assertIsInstance(session.said[-1], End)

    def test_answers_wait_for_room(self) -> None:
        """Answers wait for room, too (threat 7)."""
        for number in range(50):
            self.share(f"f/{number}", b"")
        session, serving = self.serve(session=MemorySession(room=0))
        for number in range(16):
            serving.message_received(List(number, ("stuff", "f")))
        self.assertEqual(session.said, [])
        session.room = 1
        serving.room_again()
        self.assertEqual(len(session.said), 16)

    def test_memory(self) -> None:
        """The more sessions fetch, the less each reads ahead, so the sum is bounded (threat 7)."""
        self.share("big", bytes(9 * BLOCK_SIZE))
        sessions = [self.serve(RICH, session=MemorySession(room=1)) for _ in range(40)]
        for _, serving in sessions:
            serving.message_received(Get(1, ("stuff", "big")))
        for session, serving in sessions:
            for _ in range(3 * 4):
                session.room = 1
                serving.room_again()
        self.assertEqual(self.uploads.busy, 40)
        held = [serving._core._outflow.blocks_held for _, serving in sessions]
        self.assertLessEqual(sum(held) * BLOCK_SIZE, MEMORY)
        for session, serving in sessions:
            session.room = 10**12
            serving.room_again()
            self.assertEqual(len(session.data[1]), 9 * BLOCK_SIZE)
            serving.session_ended(None)
        self.assertEqual((self.uploads.busy, self.open_files()), (0, 0))

    def test_lists_at_once(self) -> None:
        """Many listing sessions leave threads for files (threat 7) and for other openers."""
        self.share("small", b"x")
        listing = FairLimit(LISTS_AT_ONCE, LISTS_OF_ONE)
        let_go = self.reactor.hold_threads()
        sessions = [self.serve(List(1, ()), listing=listing)[0] for _ in range(10)]
        self.assertEqual(len(self.reactor._held or ()), LISTS_OF_ONE)
        for name in ("carol", "dave"):
            named = MemorySession(name)
            sessions.append(self.serve(List(1, ()), listing=listing, session=named)[0])
        self.assertEqual(len(self.reactor._held or ()), LISTS_AT_ONCE)
        let_go()
        self.assertEqual([len(each.said) for each in sessions], 12 * [1])

    def test_limit(self) -> None:
        """A rate limit holds over all sessions together, and is shared evenly."""
        self.limit = RateLimit(1_000_000, 0.0)
        self.share("big", bytes(3 * BLOCK_SIZE))
        sessions = [self.serve(RICH, Get(1, ("stuff", "big")))[0] for _ in range(3)]
        for _ in range(500):
            self.reactor.advance(0.01)
        sent = [len(each.data[1]) for each in sessions]
        self.assertTrue(4_900_000 < sum(sent) <= 5_250_000, str(sent))
        self.assertLess(max(sent) - min(sent), 350_000, str(sent))  # one had the burst

    def test_limit_ends(self) -> None:
        """A session that ends while it waits for the limit leaves no timer, and gives its reservation back."""
        self.limit = RateLimit(100_000, 0.0)
        self.share("big", bytes(3 * BLOCK_SIZE))
        _, serving = self.serve(RICH, Get(1, ("stuff", "big")))
        serving.session_ended(None)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertGreaterEqual(self.limit.available(0.0), 0)
        self.assertLess(self.limit.when(5_000, 0.0), 0.06)


class EndTests(ServingTestCase):
    def test_withdrawn(self) -> None:
        """A transfer of a share that ends is stopped with a reason; later requests for it get the same reason."""
        self.share("big", bytes(9 * BLOCK_SIZE))
        self.share("more", b"x")
        get = Get(1, ("stuff", "big"))
        session, serving = self.serve(RICH, get, session=MemorySession(room=BLOCK_SIZE))
        sent, other = len(session.data[1]), self.serve(RICH, session=MemorySession("carol"))
        shares = SharedPath("stuff", self.folder, frozenset(["carol"]))
        self.tree.show([shares, SharedPath("other", self.folder)])
        serving.shares_changed()
        session.room = 10**12
        serving.room_again()
        self.assertEqual(session.said[-1], Failed(1, Fault.WITHDRAWN, sent))
        self.assertEqual(self.open_files(), 0)
        for number, name in enumerate(("stuff", "none", "other"), 2):
            serving.message_received(Get(number, (name, "more")))
        failed = [each.why for each in session.said if isinstance(each, Failed)]
        self.assertEqual(failed, [Fault.WITHDRAWN, Fault.WITHDRAWN, Fault.NOT_FOUND])
        self.assertEqual(session.data[4], b"x")
        other[1].message_received(Get(1, ("stuff", "more")))
        self.assertEqual(other[0].data[1], b"x")
        self.tree.show([SharedPath("stuff", self.folder)])
        serving.message_received(Get(5, ("stuff", "more")))
        self.assertEqual(session.data[5], b"x")

    def test_refused(self) -> None:
        """What the owner ends stays so until the job of the opener is over; without a job, for a minute."""
        self.share("big", bytes(9 * BLOCK_SIZE))
        self.share("more", b"x")
        get = Get(1, ("stuff", "big"))
        session, serving = self.serve(RICH, get, session=MemorySession(room=BLOCK_SIZE))
        serving.refuse()
        session.room = 10**12
        serving.message_received(Get(2, ("stuff", "more")))
        serving.message_received(Job("stuff", 9, 9))
        self.reactor.advance(REFUSAL + 1)
        serving.message_received(Get(3, ("stuff", "more")))
        failed = [(each.id, each.why) for each in session.said if isinstance(each, Failed)]
        self.assertEqual(failed, [(number, Fault.WITHDRAWN) for number in (1, 2, 3)])
        self.assertEqual(self.open_files(), 0)
        serving.message_received(Job("stuff", 0, 0))
        serving.message_received(Get(4, ("stuff", "more")))
        self.assertEqual(session.data[4], b"x")
        serving.refuse()
        serving.message_received(Get(5, ("stuff", "more")))
        self.assertNotIn(5, session.data)
        self.reactor.advance(REFUSAL)
        serving.message_received(Get(6, ("stuff", "more")))
        self.assertEqual(session.data[6], b"x")

    def test_cancelled(self) -> None:
        """A cancelled file is closed, and nothing more of it is sent."""
        self.share("big", bytes(9 * BLOCK_SIZE))
        session, serving = self.serve(
            RICH, Get(1, ("stuff", "big")), session=MemorySession(room=BLOCK_SIZE)
        )
        serving.message_received(Cancel(1, Cancelled.BY_USER))
        sent = len(session.pieces)
        session.room = 10**12
        serving.room_again()
        self.assertEqual((len(session.pieces), self.open_files()), (sent, 0))

    def test_corrupt(self) -> None:
        """P2: the digests of a file that its receiver calls corrupt are calculated again."""
        cache = BlockCache(self.folder / "hashes.sqlite")
        self.addCleanup(cache.close)
        folder = self.folder / "shared"
        self.tree = ShareTree([SharedPath("stuff", folder)], cache, FolderIndex(None))
        path, wrong = self.share("shared/big", os.urandom(2 * BLOCK_SIZE)), b"x" * DIGEST_SIZE
        status = path.stat()
        times = status.st_mtime_ns, status.st_ino, status.st_ctime_ns
        cache.store(CachedFile(os.fsencode(path), status.st_size, *times), 2 * wrong)
        session, serving = self.serve(RICH)
        for number, why in enumerate((Cancelled.DISK, Cancelled.CORRUPT, Cancelled.BY_USER), 1):
            serving.message_received(Get(number, ("stuff", "big")))
            serving.message_received(Cancel(number, why))
        digests = [e.digests[0] for e in session.said if isinstance(e, Digests) and e.first == 0]
        read = path.read_bytes()[:BLOCK_SIZE]
        self.assertEqual(digests, [wrong, wrong, digest_of(read)])

    def test_session_ends(self) -> None:
        """The end of a session closes its files, also those that a thread opens or reads at the time."""
        self.share("big", bytes(9 * BLOCK_SIZE))
        for room in (0, BLOCK_SIZE):
            _, serving = self.serve(session=MemorySession(room=room))
            serving.message_received(RICH)
            let_go = self.reactor.hold_threads() if not room else lambda: None
            serving.message_received(Get(1, ("stuff", "big")))
            serving.session_ended(SessionLost(name="bob", reason="x"))
            let_go()
            self.assertEqual(self.open_files(), 0)
            self.assertEqual(self.uploads.status(), [])
        serving.message_received(Done((1,)))  # none of this is told of any more

    def test_ends_in_a_defect(self) -> None:
        """A defect during the end does not keep the session from ending."""
        self.share("big", bytes(9 * BLOCK_SIZE))
        _, serving = self.serve(
            RICH, Get(1, ("stuff", "big")), session=MemorySession(room=BLOCK_SIZE)
        )
        self.patch(serving, "_begin_work", lambda: 1 / 0)
        with self.assertRaises(ZeroDivisionError):
            serving.session_ended(None)
        self.assertEqual((self.uploads.sessions, self.uploads.busy), (0, 0))

    def test_reads_no_answers(self) -> None:
        """An opener whose answers pile up may ask for nothing more, also if a thread answers (threat 7)."""
        session, serving = self.serve(
            session=MemorySession(room=0), limits=SharerLimits(answers=3, transfers=100)
        )
        let_go = self.reactor.hold_threads()
        for number in range(5):
            serving.message_received(Get(number, ("none",)))
        let_go()
        with self.assertRaises(RemoteProtocolError):
            serving.message_received(Get(9, ("none",)))
        self.assertEqual(session.said, [])


class BrokenTree:
    """A tree in which everything fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def list(self, *_args: object) -> Any:
        """Fail."""
        raise self.error

    def open_many(self, *_args: object) -> Any:
        """Fail."""
        raise self.error


class BusyTree:
    """A tree that has too many open files for a time."""

    def __init__(self, tree: Any, error: Unavailable | None) -> None:
        self.tree = tree
        self.error = error  # of all at once; None: of each file by itself
        self.is_busy = True

    def open_many(self, viewer: str, paths: Any, *args: Any) -> Any:
        """Fail while the tree is busy."""
        if not self.is_busy:
            return self.tree.open_many(viewer, paths, *args)
        if self.error is not None:
            raise self.error
        return [Unavailable(Fault.BUSY) for _ in paths]


class BrokenTests(ServingTestCase):
    def test_defect(self) -> None:
        """A defect is logged and answered with `unreadable`; the session continues."""
        self.tree = BrokenTree(ZeroDivisionError())
        session, _ = self.serve(RICH, Get(1, ("a",)), Get(2, ("b",)), List(3, ()))
        self.assertEqual(session.said, [Failed(n, Fault.UNREADABLE) for n in (1, 2, 3)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.assertFalse(session.is_aborted)

    def test_broken_session(self) -> None:
        """A defect during sending ends that session alone."""
        self.share("small", b"x")
        session = MemorySession()
        self.patch(session, "send", lambda _: 1 / 0)
        let_go = self.reactor.hold_threads()
        self.serve(RICH, Get(1, ("stuff", "small")), session=session)
        let_go()
        self.assertTrue(session.is_aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        other, _ = self.serve(RICH, Get(1, ("stuff", "small")))
        self.assertEqual(other.data, {1: b"x"})

    def test_unavailable(self) -> None:
        """The reason of the tree is the answer."""
        self.tree = BrokenTree(Unavailable(Fault.BUSY))
        session, _ = self.serve(List(3, ()))
        self.assertEqual(session.said, [Failed(3, Fault.BUSY)])

    def test_too_many_open_files(self) -> None:
        """Files that cannot be opened because too many are open are opened later."""
        self.share("small", b"x")
        self.share("big", bytes(2 * BLOCK_SIZE))
        tree = self.tree
        for error in (Unavailable(Fault.BUSY), None):
            self.tree = BusyTree(tree, error)
            session, _ = self.serve(RICH, Get(1, ("stuff", "small")), Get(2, ("stuff", "big")))
            self.reactor.advance(0.5)
            self.assertEqual((session.said, session.is_aborted), ([], False))
            self.tree.is_busy = False
            self.reactor.advance(0.5)
            ends = [each.id for each in session.said if isinstance(each, End)]
            self.assertEqual(ends, [1, 2])
            self.assertGreater(session.kept_alive, 0)

    def test_too_many_open_files_for_long(self) -> None:
        """The wait is bounded, and ends with the session."""
        self.tree = BrokenTree(Unavailable(Fault.BUSY))
        session, serving = self.serve(Get(1, ("a",)))
        for _ in range(int(SHORT_PATIENCE / SHORT_DELAY)):
            self.assertEqual(session.said, [])
            self.reactor.advance(SHORT_DELAY)
        self.assertEqual(session.said, [Failed(1, Fault.BUSY)])
        serving.message_received(Get(2, ("a",)))
        self.assertEqual(session.said[1:], [Failed(2, Fault.BUSY)])
        session, serving = self.serve(Get(1, ("a",)))
        serving.session_ended(None)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(session.said, [])
