"""The handshake over CRYPTO frames, with a scripted TLS and with the real one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.protection.handshake import (
    TRANSITIONS,
    Handshake,
    HandshakeFailed,
    State,
    Step,
)
from p2pshare.core.datagram.protection.keys import AES_128_GCM, CHACHA20_POLY1305
from p2pshare.net.session.cipher_suites import AES_FIRST, CHACHA20_FIRST
from p2pshare.net.session.tls import SessionTls
from p2pshare.wire.datagrams.frames import CRYPTO_STREAM_MAX, Crypto
from p2pshare.wire.keys import PublicKey
from tests.net.session_pairs import ALICE, BOB, EVE

CIDS = b"opener1", b"accept1"


class ScriptedTls:
    """An end of TLS whose flights have given sizes. Opener and acceptor take turns; the last flight ends it."""

    def __init__(
        self, *flights: int, is_opener: bool, cipher: str = "TLS_AES_128_GCM_SHA256"
    ) -> None:
        self.cipher = cipher
        self.shown_key: PublicKey | None = None
        self.received = b""
        self._flights = [self.content(size, number) for number, size in enumerate(flights)]
        self._is_opener = is_opener
        self._turn = 0
        self._outgoing = b""

    @staticmethod
    def content(size: int, number: int = 0) -> bytes:
        return bytes((number * 7 + n) % 251 for n in range(size))

    @property
    def is_ready(self) -> bool:
        return self._turn == len(self._flights)

    def receive_data(self, protected: bytes) -> None:
        self.received += protected

    def shake_hands(self) -> None:
        read = 0
        for turn, flight in enumerate(self._flights):
            is_own = (turn % 2 == 0) == self._is_opener
            if not is_own:
                part = self.received[read : read + len(flight)]
                if part != flight[: len(part)]:
                    self._outgoing += b"alert"
                    raise HandshakeFailed("bad record")
                read += len(flight)
                if len(part) < len(flight):
                    return
            elif turn >= self._turn:
                self._outgoing += flight
            self._turn = max(self._turn, turn + 1)

    def data_to_send(self) -> bytes:
        data, self._outgoing = self._outgoing, b""
        return data

    def export(self, label: bytes, size: int, context: bytes) -> bytes:
        assert self.is_ready
        return (label + context)[-size:].rjust(size, b"\0")


def frames_of(handshake: Handshake, room: int = 1000) -> list[Crypto]:
    """Return all frames that are due."""
    return list(iter(lambda: handshake.next_frame(room), None))


def converse(
    opener: Handshake,
    acceptor: Handshake,
    deliver: Callable[[], bool] = lambda: True,
    room: int = 1000,
) -> None:
    """Exchange frames until nothing is due; what is not delivered is lost, which its sender learns."""
    ends = opener, acceptor
    for turn in range(2000):
        sender, receiver = ends[turn % 2], ends[1 - turn % 2]
        for frame in frames_of(sender, room):
            if deliver():
                receiver.receive(frame.offset, frame.data)
                sender.on_acked(frame)
            else:
                sender.on_lost(frame)
        if opener.is_done and acceptor.is_done and acceptor.is_acknowledged:
            return


def pair(*flights: int) -> tuple[Handshake, Handshake]:
    opener, acceptor = (ScriptedTls(*flights, is_opener=each) for each in (True, False))
    return Handshake(opener, is_opener=True), Handshake(acceptor, is_opener=False)


class StreamTests(SynchronousTestCase):
    @given(
        st.lists(st.integers(1, 3000), min_size=2, max_size=4),
        st.integers(1, 1200),
        st.integers(0, 2**32),
        st.floats(0, 0.5),
    )
    def test_any_loss(self, flights: list[int], room: int, seed: int, loss: float) -> None:
        """Whatever is lost, both ends are done, and have the same keys."""
        random = Random(seed)
        opener, acceptor = pair(*flights)
        converse(opener, acceptor, lambda: random.random() >= loss, max(room, max(flights) // 20))
        self.assertEqual((opener.state, acceptor.state), (State.DONE, State.DONE))
        self.assertTrue(opener.is_acknowledged and acceptor.is_acknowledged)

    @given(st.data(), st.integers(1, 400))
    def test_any_fragments(self, data: st.DataObject, size: int) -> None:
        """Fragments in any order, repeated and overlapping, give TLS the bytes in order."""
        flight = ScriptedTls.content(size)
        tls = ScriptedTls(size, is_opener=False)
        acceptor = Handshake(tls, is_opener=False)
        places = st.integers(0, size - 1)
        pieces = data.draw(st.lists(st.tuples(places, st.integers(1, size)), max_size=12))
        cuts = sorted({0, size, *data.draw(st.lists(places, max_size=5))})
        pieces += [(first, end - first) for first, end in pairwise(cuts)]
        for first, length in data.draw(st.permutations(pieces)):
            self.assertEqual(tls.received, flight[: len(tls.received)])
            acceptor.receive(first, flight[first : first + length])
        self.assertEqual(tls.received, flight)
        self.assertTrue(acceptor.is_done)

    def test_lost_first(self) -> None:
        """Lost bytes are sent before new ones, at most `room` at once, and not again after an acknowledgement."""
        opener, _ = pair(1000, 10)
        first, second = opener.next_frame(300), opener.next_frame(300)
        assert first is not None and second is not None
        self.assertEqual((first.offset, second.offset, len(second.data)), (0, 300, 300))
        opener.on_lost(first)
        opener.on_acked(second)
        opener.on_lost(second)
        again = frames_of(opener, 250)
        self.assertEqual(
            [(frame.offset, len(frame.data)) for frame in again],
            [(0, 250), (250, 50), (600, 250), (850, 150)],
        )
        for frame in again:
            opener.on_acked(frame)
            opener.on_lost(frame)
        self.assertIsNone(opener.next_frame(100))
        self.assertTrue(opener.is_acknowledged)

    def test_not_lost_after_all(self) -> None:
        """Bytes that were thought to be lost are not sent again when they are acknowledged."""
        opener, _ = pair(1000, 10)
        first, second, _ = frames_of(opener, 400)
        opener.on_lost(first)
        opener.on_lost(second)
        opener.on_acked(first)
        self.assertEqual(opener.next_frame(1000), second)
        self.assertIsNone(opener.next_frame(1000))

    def test_no_room(self) -> None:
        """Without room there is no frame, and none is lost."""
        opener, _ = pair(10, 10)
        self.assertIsNone(opener.next_frame(0))
        self.assertIsNone(opener.next_frame(-5))
        self.assertEqual(opener.next_frame(100), Crypto(0, ScriptedTls.content(10)))

    def test_acceptor_waits(self) -> None:
        """An acceptor sends nothing before it has received something."""
        _, acceptor = pair(10, 10)
        self.assertIsNone(acceptor.next_frame(100))

    def test_first_bytes_win(self) -> None:
        """Bytes that have arrived are not overwritten."""
        _, acceptor = pair(10, 10)
        flight = ScriptedTls.content(10)
        acceptor.receive(2, flight[2:])
        acceptor.receive(0, flight[:2] + b"\xff" * 8)
        self.assertTrue(acceptor.is_done)


class EndTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Every state has a row, and every step of the only state with steps leads to a state."""
        self.assertEqual(set(TRANSITIONS), set(State))
        self.assertEqual(set(TRANSITIONS[State.SHAKING]), set(Step))

    def test_failure(self) -> None:
        """A failure is raised once; the alert is sent, and further bytes are ignored."""
        _, acceptor = pair(10, 10)
        self.assertRaises(HandshakeFailed, acceptor.receive, 0, b"\xff")
        self.assertEqual(acceptor.state, State.FAILED)
        self.assertEqual(acceptor.next_frame(100), Crypto(0, b"alert"))
        acceptor.receive(0, ScriptedTls.content(10))
        self.assertEqual((acceptor.state, acceptor.next_frame(100)), (State.FAILED, None))

    def test_too_long(self) -> None:
        """More bytes than any handshake needs are rejected, wherever they lie."""
        tls = ScriptedTls(CRYPTO_STREAM_MAX, is_opener=False)
        Handshake(tls, is_opener=False).receive(CRYPTO_STREAM_MAX - 1, b"x")
        for offset, data in (
            (CRYPTO_STREAM_MAX, b"x"),
            (0, bytes(CRYPTO_STREAM_MAX + 1)),
            (2**32 - 1, b"x"),
        ):
            acceptor = Handshake(tls, is_opener=False)
            self.assertRaises(HandshakeFailed, acceptor.receive, offset, data)
            self.assertEqual(acceptor.state, State.FAILED)

    def test_after_the_end(self) -> None:
        """When TLS is done, late fragments are ignored, whatever is in them."""
        opener, acceptor = pair(10, 10)
        converse(opener, acceptor)
        for handshake in (opener, acceptor):
            handshake.receive(0, b"\xff" * 10)
            handshake.receive(CRYPTO_STREAM_MAX, b"x")
            self.assertTrue(handshake.is_done)

    def test_unknown_suite(self) -> None:
        """A cipher suite without an AEAD here is a failure."""
        tls = ScriptedTls(10, is_opener=False, cipher="TLS_AES_256_GCM_SHA384")
        acceptor = Handshake(tls, is_opener=False)
        self.assertRaises(HandshakeFailed, acceptor.receive, 0, ScriptedTls.content(10))
        self.assertEqual(acceptor.state, State.FAILED)

    @given(
        st.lists(
            st.tuples(st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=50)), max_size=9
        )
    )
    def test_anything(self, frames: list[tuple[int, bytes]]) -> None:
        """Any frames leave a handshake in a state of the table, or raise its one error."""
        acceptor = Handshake(SessionTls(ALICE).accept(), is_opener=False)
        for offset, data in frames:
            try:
                acceptor.receive(offset % (2 * CRYPTO_STREAM_MAX), data)
            except HandshakeFailed as error:
                self.assertNotEqual(str(error), "")
                self.assertIs(acceptor.state, State.FAILED)
        self.assertFalse(acceptor.is_done)


class RealTlsTests(SynchronousTestCase):
    def ends(self, expected: PublicKey, suites: bytes = AES_FIRST) -> tuple[Handshake, Handshake]:
        opener = SessionTls(BOB, suites).connect(expected)
        acceptor = SessionTls(ALICE).accept()
        return Handshake(opener, is_opener=True), Handshake(acceptor, is_opener=False)

    def test_keys(self) -> None:
        """Both ends know each other's key and derive the same keys; the AEAD follows the cipher suite."""
        for suites, aead in ((AES_FIRST, AES_128_GCM), (CHACHA20_FIRST, CHACHA20_POLY1305)):
            opener, acceptor = self.ends(ALICE.public, suites)
            converse(opener, acceptor)
            self.assertEqual((opener.shown_key, acceptor.shown_key), (ALICE.public, BOB.public))
            one, other = opener.keys(*CIDS), acceptor.keys(*CIDS)
            sealed = one.sealing.seal(0, b"payload", b"header")
            self.assertEqual(other.opening.open(0, sealed, b"header"), b"payload")
            sealed = other.sealing.seal(0, b"payload", b"header")
            self.assertEqual(one.opening.open(0, sealed, b"header"), b"payload")
            self.assertIsInstance(one.sealing.cipher, aead.cipher)
            moved = acceptor.keys(CIDS[0], b"another")
            self.assertIsNone(moved.opening.open(0, one.sealing.seal(1, b"x", b""), b""))

    @given(st.integers(0, 2**32), st.sampled_from([50, 300, 1100]))
    def test_loss(self, seed: int, room: int) -> None:
        """Real flights in small fragments, of which 30 % are lost."""
        random = Random(seed)
        opener, acceptor = self.ends(ALICE.public)
        converse(opener, acceptor, lambda: random.random() >= 0.3, room)
        self.assertTrue(opener.is_done and acceptor.is_done)

    def test_size(self) -> None:
        """A handshake is far smaller than the bound."""
        opener, acceptor = self.ends(ALICE.public)
        converse(opener, acceptor)
        for handshake in (opener, acceptor):
            self.assertLess(len(handshake._sent), CRYPTO_STREAM_MAX // 8)

    def test_other_key(self) -> None:
        """An acceptor with another key fails at the opener, whose alert tells the acceptor why."""
        opener, acceptor = self.ends(EVE.public)
        for frame in frames_of(opener):
            acceptor.receive(frame.offset, frame.data)
        for frame in frames_of(acceptor):
            if opener.state is State.SHAKING:
                try:
                    opener.receive(frame.offset, frame.data)
                except HandshakeFailed:
                    break
        self.assertEqual((opener.state, opener.shown_key), (State.FAILED, ALICE.public))
        (alert,) = frames_of(opener)
        self.assertRaises(HandshakeFailed, acceptor.receive, alert.offset, alert.data)
        self.assertRaises(HandshakeFailed, opener.keys, *CIDS)
