"""A sharer in memory, behind sessions in memory, in virtual time: it answers, lies or vanishes as a test wants."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from twisted.internet.task import deferLater

from p2pshare.core.session_interface import SessionPath, SessionUser
from p2pshare.core.wanted_blocks import named_blocks
from p2pshare.errors import P2pshareError, SessionLost
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.fetch.link_change import LinkChange
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer, SessionOpener
from p2pshare.peer.find.target import Target
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.blocks import BLOCK_SIZE, block_count, digest_of, root_of
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.paths import RemotePath, parse_path
from p2pshare.wire.session_messages import Credit, Message
from p2pshare.wire.transfer_messages import (
    Cancel,
    Digests,
    End,
    Entry,
    EntryKind,
    Failed,
    Fault,
    FileHeader,
    Get,
    List,
    Listing,
    Omission,
    Omitted,
)

ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)
ADDRESS = PeerAddress("192.0.2.1", 50000)
DIRECT_DELAY = 0.05  # seconds to open a direct session
LATENCY = 0.01  # seconds from a question to its answer
MTIME = 1_600_000_000_123_456_789  # nanoseconds

Answer = Callable[["MemorySession", Any], object]


class MemorySession:
    """A session as its opener sees it."""

    key = ALICE.public
    name = "alice"
    path = SessionPath("memory", PeerAddress("192.0.2.1", 50001))
    piece_max = PIECE_MAX
    has_room = True

    def __init__(self, sharer: MemorySharer, credit: int) -> None:
        self.sharer = sharer
        self.credit = credit
        self.sent = 0
        self.is_over = False
        self.user: SessionUser | None = None
        self._outgoing: deque[tuple[int, Callable[[], object]]] = deque()
        self.cancelled: set[int] = set()

    @property
    def is_open(self) -> bool:
        return not self.is_over

    def begin(self, user: SessionUser) -> None:
        self.user = user

    def send(self, message: Message) -> None:
        assert not self.is_over
        self.sharer.heard.append(message)
        self.sharer.reactor.callLater(LATENCY, self._answer, message)

    def send_data(self, transfer: int, offset: int, data: memoryview) -> None:
        raise AssertionError("a requester sends no data")

    def close(self) -> None:
        self.is_over = True
        if self.user is not None and self.sharer.hangs_up:
            self.user.session_ended(None)

    def abort(self) -> None:
        self.is_over = True

    def lose(self, reason: P2pshareError | None) -> None:
        """Break."""
        assert self.user is not None and not self.is_over
        self.is_over = True
        self.user.session_ended(reason)

    def say(self, *messages: Message) -> None:
        """Let the requester hear these."""
        assert self.user is not None
        try:
            for message in messages:
                if not self.is_over:
                    self.user.message_received(message)
        except P2pshareError as error:
            self.lose(error)

    def data(self, number: int, offset: int, data: bytes) -> None:
        """Let bytes of a file arrive, once there is credit."""
        for start in range(0, len(data), PIECE_MAX):
            piece = data[start : start + PIECE_MAX]
            deliver = partial(self._piece, number, offset + start, piece)
            self._outgoing.append((len(piece), deliver))
        self._flow()

    def after_data(self, *messages: Message) -> None:
        """Let the requester hear these after all data that waits."""
        self._outgoing.append((0, lambda: self.say(*messages)))
        self._flow()

    def _piece(self, number: int, offset: int, piece: bytes) -> None:
        assert self.user is not None
        try:
            self.user.data_received(number, offset, memoryview(piece))
        except P2pshareError as error:
            self.lose(error)

    def _flow(self) -> None:
        while self._outgoing and not self.is_over:
            size, deliver = self._outgoing[0]
            if self.sent + size > self.credit:
                return
            self._outgoing.popleft()
            self.sent += size
            deliver()

    def _answer(self, message: Message) -> None:
        if self.is_over:
            return
        match message:
            case Credit():
                self.credit = message.bytes
                self._flow()
            case Cancel():
                self.cancelled.add(message.id)
            case Get():
                self.sharer.answers.get(message.path, self.sharer.answer)(self, message)
            case List():
                self.sharer.list_answer(self, message)


class MemorySharer:
    """What alice shares."""

    def __init__(self) -> None:
        self.reactor = ThreadlessReactor()
        self.files: dict[RemotePath, bytes] = {}
        self.folders: set[RemotePath] = set()
        self.versions: dict[RemotePath, str] = {}
        self.executable: set[RemotePath] = set()
        self.omitted: dict[RemotePath, Omitted] = {}
        """Entries that are left out of listings, and reported with their last page."""
        self.answers: dict[RemotePath, Answer] = {}
        """How a `Get` of a path is answered, other than by `give`."""
        self.answer: Answer = give
        """How any other is."""
        self.list_answer: Answer = give_listing
        self.refusals: list[P2pshareError] = []
        """Errors that the next tries to open a session raise."""
        self.sessions: list[MemorySession] = []
        self.heard: list[Message] = []
        self.opened: list[tuple[PeerAddress, PublicKey, float]] = []
        self.found = Target.at("alice", ALICE.public, ADDRESS)
        self.find_failures: list[P2pshareError] = []
        self.changes: list[LinkChange] = []
        self.carrier = "memory"
        """Of the next sessions."""
        self.direct_errors: list[P2pshareError] = []
        """Errors that the next tries to open a direct session raise."""
        self.direct_tries: list[float] = []
        """When a direct session was wanted."""
        self.hangs_up = True
        """Whether an end that the requester wants is heard of."""

    async def find(self) -> Target:
        """Where alice is."""
        if self.find_failures:
            raise self.find_failures.pop(0)
        return self.found

    async def open(
        self, target: Target, *, credit: int, early: Sequence[Message], silence: float
    ) -> MemorySession:
        """Stand for a dialler."""
        (address,) = (each.address for each in target.candidates)
        self.opened.append((address, target.key, self.reactor.seconds()))
        if self.refusals:
            raise self.refusals.pop(0)
        session = MemorySession(self, credit)
        session.path = SessionPath(self.carrier, MemorySession.path.address)
        self.sessions.append(session)
        for message in early:
            session.send(message)
        return session

    async def open_direct(self, target: Target, *, credit: int, silence: float) -> MemorySession:
        """Stand for a dialler."""
        self.direct_tries.append(self.reactor.seconds())
        await deferLater(cast("Any", self.reactor), DIRECT_DELAY)
        if self.direct_errors:
            raise self.direct_errors.pop(0)
        session = MemorySession(self, credit)
        session.path = SessionPath("udp", MemorySession.path.address)
        self.sessions.append(session)
        return session

    def remote(self, **limits: Any) -> RemotePeer:
        """Alice, as bob sees her."""
        return RemotePeer(
            cast("IPeerReactor", self.reactor),
            random.Random(1),
            "alice",
            self.find,
            cast("SessionOpener", self),
            LinkLimits(**limits),
            on_link=self.changes.append,
        )

    def put(self, path: str, data: bytes) -> RemotePath:
        """Share a file."""
        parsed = parse_path(path)
        self.files[parsed] = data
        self.folders |= {parsed[:end] for end in range(1, len(parsed))}
        return parsed

    def version(self, path: RemotePath) -> str:
        """Return the version of a file."""
        return self.versions.get(path, "v1")

    def lose(self, reason: str = "no word for 15 s") -> None:
        """Break the session."""
        self.sessions[-1].lose(SessionLost(name="alice", reason=reason))

    def pass_time(self, seconds: float, step: float = LATENCY) -> None:
        """Let time pass."""
        self.reactor.pump([step] * round(seconds / step))

    def heard_of(self, kind: type[Message]) -> list[Any]:
        """The messages of a kind that the requester sent."""
        return [message for message in self.heard if isinstance(message, kind)]

    def gets(self) -> list[Get]:
        """The requests for files: the first item of a job may be requested and turn out to be a folder."""
        return [get for get in self.heard_of(Get) if get.path not in self.folders]


def header_of(session: MemorySession, get: Get) -> FileHeader:
    """Return the header of an honest sharer for a file."""
    sharer = session.sharer
    size = len(sharer.files[get.path])
    return FileHeader(get.id, size, MTIME, get.path in sharer.executable, sharer.version(get.path))


def give(session: MemorySession, get: Get, until: int | None = None) -> None:
    """Send a header, then the blocks before `until`; after the last one, the end."""
    sharer = session.sharer
    data = sharer.files.get(get.path)
    if data is None:
        session.say(
            Failed(get.id, Fault.IS_FOLDER if get.path in sharer.folders else Fault.NOT_FOUND)
        )
        return
    header = header_of(session, get)
    session.say(header)
    count = block_count(len(data))
    wanted, _ = named_blocks(get, header)
    sent = 0
    for index in range(count if until is None else min(until, count)):
        if index in wanted:
            block = block_of(data, index)
            sent += len(block)
            session.after_data(Digests(get.id, index, (digest_of(block),)))
            session.data(get.id, index * BLOCK_SIZE, block)
    if until is None or until >= count:
        digests = (digest_of(block_of(data, index)) for index in range(count))
        root = root_of(len(data), digests) if get.root else b""
        session.after_data(End(get.id, root, sent))


def block_of(data: bytes, index: int) -> bytes:
    """Return a block of a file."""
    return data[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]


def give_listing(session: MemorySession, question: List) -> None:
    """Answer as an honest sharer does."""
    sharer = session.sharer
    if question.path in sharer.files:
        session.say(Failed(question.id, Fault.IS_FILE))
        return
    if question.path and question.path not in sharer.folders:
        session.say(Failed(question.id, Fault.NOT_FOUND))
        return
    depth = len(question.path)
    found = [
        (path, EntryKind.FILE, len(data), sharer.version(path))
        for path, data in sharer.files.items()
    ]
    found += [(path, EntryKind.FOLDER, 0, "") for path in sharer.folders]
    rows = sorted(
        (
            Entry(path[depth:], kind, size, MTIME, version)
            for path, kind, size, version in found
            if path[:depth] == question.path
            and path[depth:] > question.after
            and (question.recursive or len(path) == depth + 1)
        ),
        key=lambda entry: entry.path,
    )
    page = tuple(rows[: question.limit])
    more = len(rows) > len(page)
    omitted = tuple(
        Omission(path[depth:], why)
        for path, why in sharer.omitted.items()
        if path[:depth] == question.path and (question.recursive or len(path) == depth + 1)
    )
    session.say(Listing(question.id, page, more, () if more else omitted))
