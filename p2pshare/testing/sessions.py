"""Sessions in memory: a wire with a carrier at each end, channels over it, and a pair of connected sessions.

Nothing moves by itself: `Wire.carry` moves bytes, and a `Clock` moves the time. So a test can stop anywhere, look at
what is on its way, and change it.

    pair = SessionPair(opener_key, acceptor_key)
    pair.open()
    pair.opener.send(Get(1, ("film.mkv",)))
    pair.carry()
    pair.acceptor_user.messages  # [Get(1, ("film.mkv",))]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.task import Clock

from p2pshare.core.ranges import Range
from p2pshare.core.session import Role, SessionCore
from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError
from p2pshare.net.session.driver import SessionDriver
from p2pshare.net.session.interfaces import CarrierUser, OwnedSession
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tls import SessionTls
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import VERSION, Credit, Hello, Message

CREDIT = 2**20  # bytes of files that each end allows the other one at first
FULL = 64 * 1024  # bytes that wait in a carrier until it is full
ROUNDS_MAX = 1000  # rounds of carrying bytes to and fro until a test counts as stuck


class MemoryCarrier:
    """One end of a `Wire`, as a `Carrier`."""

    name = "memory"

    def __init__(self, user: CarrierUser, local: PeerAddress, remote: PeerAddress) -> None:
        self.local = local
        self.remote = remote
        self.is_full = self.is_paused = False
        self.waiting = bytearray()
        """Bytes that were sent and not carried."""
        self.is_half_closed = self.is_closing = self.is_aborted = self.is_over = False
        self._user = user

    def send(self, data: bytes) -> None:
        """See `Carrier`."""
        if not (self.is_half_closed or self.is_closing or self.is_aborted or self.is_over):
            self.waiting += data
            self.is_full = len(self.waiting) > FULL

    def pause(self) -> None:
        """See `Carrier`."""
        self.is_paused = True

    def resume(self) -> None:
        """See `Carrier`."""
        self.is_paused = False

    def half_close(self) -> None:
        """See `Carrier`."""
        self.is_half_closed = True

    def close(self) -> None:
        """See `Carrier`."""
        self.is_closing = True

    def abort(self) -> None:
        """See `Carrier`."""
        self.is_aborted = True

    def connect(self) -> None:
        """Tell the user that the carrier is connected."""
        self._user.connected(self)

    def deliver(self, data: bytes) -> None:
        """Give bytes to the user as if the other end had sent them."""
        self._user.received(data)

    def take(self, size: int | None = None) -> bytes:
        """Take up to `size` bytes off the wire."""
        data = bytes(self.waiting[:size])
        del self.waiting[: len(data)]
        if self.is_full and not self.waiting:
            self.is_full = False
            self._user.writable()
        return data

    def cut(self) -> None:
        """End the connection at this end."""
        if not self.is_over:
            self.is_over = True
            self.waiting.clear()
            self._user.closed()


class Wire:
    """Two connected carriers, and the bytes between them."""

    def __init__(self, opener: CarrierUser, acceptor: CarrierUser) -> None:
        """Make a carrier for each user; `connect` hands it over."""
        near, far = PeerAddress("192.0.2.1", 50001), PeerAddress("192.0.2.2", 50002)
        self.carriers = MemoryCarrier(opener, near, far), MemoryCarrier(acceptor, far, near)
        self.carried = [b"", b""]
        """All bytes that the opener's carrier, and the acceptor's, have sent."""

    def connect(self) -> None:
        """Connect both ends, the acceptor's first."""
        for carrier in reversed(self.carriers):
            carrier.connect()

    def carry(self, size: int | None = None) -> bool:
        """Move up to `size` bytes each way, and what closing brings; whether anything happened."""
        moved = [self._carry(number, size) for number in (0, 1)]
        return any(moved)

    def _carry(self, number: int, size: int | None) -> bool:
        source, target = self.carriers[number], self.carriers[1 - number]
        if source.is_over:
            return False
        if source.is_aborted:
            source.cut()
            return True
        if target.is_over:
            source.waiting.clear()
            source.cut()
            return True
        if target.is_paused:
            return False
        if data := source.take(size):
            self.carried[number] += data
            target.deliver(data)
        elif source.is_closing:
            source.cut()
        elif source.is_half_closed:
            target.cut()
        else:
            return False
        return True


class RecordingUser:
    """A `SessionUser` that records everything, and does what a test wants."""

    def __init__(self, session: Session | None = None) -> None:
        self.session = session
        self.credit: int | None = None
        self.messages: list[Message] = []
        self.pieces: list[tuple[int, int, bytes]] = []
        self.sizes: dict[int, int] = {}
        self.rooms = 0
        """Calls of `room_again`."""
        self.ends: list[P2pshareError | None] = []
        self.on_message: Callable[[Message], object] = lambda _: None
        self.on_room: Callable[[], object] = lambda: None
        self.on_end: Callable[[], object] = lambda: None

    def message_received(self, message: Message) -> None:
        """Record a message; the first one is the credit that the other end gave as it greeted."""
        assert not self.ends
        if self.credit is None:
            assert isinstance(message, Credit)
            self.credit = message.bytes
            return
        self.messages.append(message)
        self.on_message(message)

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Record a piece of a file."""
        assert not self.ends
        self.pieces.append((transfer, offset, bytes(data)))

    def size_received(self, transfer: int, size: int) -> None:
        """Record the size of a file."""
        assert not self.ends
        self.sizes[transfer] = size

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """Return what is missing between the pieces that came, and before and behind them."""
        assert not self.ends
        at = 0
        missing = []
        for _, offset, data in sorted(each for each in self.pieces if each[0] == transfer):
            if at < offset:
                missing.append((at, offset))
            at = max(at, offset + len(data))
        size = self.sizes.get(transfer, at)
        return [*missing, (at, size)] if at < size else missing

    def room_again(self) -> None:
        """Count."""
        assert not self.ends
        self.rooms += 1
        self.on_room()

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Record the end."""
        self.ends.append(reason)
        self.on_end()

    @property
    def received(self) -> bytes:
        """All bytes of files in the order of arrival."""
        return b"".join(data for _, _, data in self.pieces)


class RecordingOwner:
    """A `SessionOwner` that records everything, and welcomes every opener as `name` unless a test wants otherwise."""

    def __init__(self, name: str = "bob") -> None:
        self.hellos: list[Hello] = []
        self.sessions = 0
        self.ends: list[P2pshareError | None] = []
        self.on_greeted: Callable[[OwnedSession], object] = lambda session: session.welcome(
            name, CREDIT
        )

    def secured(self, session: OwnedSession) -> None:
        """Greet, as an opener does."""
        session.greet()

    def greeted(self, session: OwnedSession, hello: Hello) -> None:
        """Record a greeting, and answer it."""
        self.hellos.append(hello)
        self.on_greeted(session)

    def welcomed(self, session: OwnedSession) -> None:
        """Count an open session."""
        self.sessions += 1

    def ended(self, session: OwnedSession, reason: P2pshareError | None) -> None:
        """Record the end."""
        self.ends.append(reason)


class SessionPair:
    """Both ends of a session over a `Wire`: alice accepts what bob opens."""

    def __init__(
        self,
        opener_key: SigningKey,
        acceptor_key: SigningKey,
        *,
        clock: Clock | None = None,
        hello: Hello | None = None,
        early: Sequence[Message] = (),
        silence: float = 15.0,
    ) -> None:
        """Make both ends.

        Args:
            opener_key: bob's.
            acceptor_key: alice's.
            clock: runs the timers; a new one by default.
            hello: bob's greeting.
            early: bob's requests that follow it at once.
            silence: seconds without a byte after which the session is lost for bob.
        """
        self.clock = clock or Clock()
        self.owners = RecordingOwner(), RecordingOwner()
        """Bob's and alice's."""
        now = self.clock.seconds()
        hello = hello or Hello(VERSION, "test/1", CREDIT)
        core = SessionCore(Role.OPENER, now, name="alice", hello=hello, silence=silence)
        core.send_early(early)
        self.opener = SessionDriver(self.clock, core, self.owners[0])
        self.acceptor = SessionDriver(
            self.clock, SessionCore(Role.ACCEPTOR, now, agent="test/2"), self.owners[1]
        )
        self.channels = (
            StreamChannel(
                self.clock, SessionTls(opener_key).connect(acceptor_key.public), self.opener
            ),
            StreamChannel(self.clock, SessionTls(acceptor_key).accept(), self.acceptor),
        )
        """Bob's and alice's."""
        self.wire = Wire(*self.channels)
        self.opener_user = RecordingUser(self.opener)
        self.acceptor_user = RecordingUser(self.acceptor)

    def connect(self) -> None:
        """Connect, and let both ends come as far as they can."""
        self.wire.connect()
        self.carry()

    def open(self) -> None:
        """Connect, and begin a session with a recording user at each end."""
        self.connect()
        assert [each.sessions for each in self.owners] == [1, 1]
        self.opener.begin(self.opener_user)
        self.acceptor.begin(self.acceptor_user)
        self.carry()

    def carry(self, size: int | None = None) -> None:
        """Carry bytes to and fro, `size` at a time, until nothing more happens."""
        for _ in range(ROUNDS_MAX):
            self.clock.advance(0)
            if not self.wire.carry(size):
                return
        raise AssertionError(f"still busy after {ROUNDS_MAX} rounds")

    def wait(self, seconds: float) -> None:
        """Let time pass in steps of 1 s, and carry what comes of it."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.carry()
