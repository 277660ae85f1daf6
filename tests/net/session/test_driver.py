"""Tests of `p2pshare.net.session.driver`, over a wire in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.message_budget import FLOOD_MAX, MESSAGES_BURST, MESSAGES_PER_S
from p2pshare.core.session import GREETING
from p2pshare.errors import (
    CannotSave,
    LocalProtocolError,
    P2pshareError,
    RemoteProtocolError,
    SessionLost,
    SessionRefused,
)
from p2pshare.net.session.driver import CLOSE_WAIT, READ_SIZE
from p2pshare.net.session.intake import SLICE, Intake
from p2pshare.net.session.interfaces import OwnedSession
from p2pshare.net.session.stream import UNREAD_MAX
from p2pshare.testing.sessions import CREDIT, FULL, RecordingUser, SessionPair
from p2pshare.wire.frames import PIECE_MAX, control_frame
from p2pshare.wire.session_messages import VERSION, Credit, Message, Ping, Refusal, Welcome
from p2pshare.wire.transfer_messages import (
    Done,
    End,
    Entry,
    EntryKind,
    Failed,
    Fault,
    FileHeader,
    Get,
    List,
    Listing,
)
from tests.net.session_pairs import ALICE, BOB, HELLO, CountingClock, session_pair

GET = Get(1, ("film.mkv",))
END = End(1, bytes(32))


class StreamTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = CountingClock()
        self.pair = session_pair(self.clock)

    def opened(self) -> SessionPair:
        self.pair.open()
        return self.pair

    def assert_lost(self, listener: RecordingUser) -> None:
        """The session ended once, with `SessionLost`."""
        (reason,) = listener.ends
        self.assertIsInstance(reason, SessionLost)

    def assert_all_over(self) -> None:
        """No timer is left, and both owners were told of the end."""
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])
        self.assertEqual([len(each.ends) for each in self.pair.owners], [1, 1])


class OpenTests(StreamTestCase):
    def test_greeting(self) -> None:
        """Two ends meet; each knows the other's key, and the name that its owner gave."""
        pair = self.opened()
        self.assertEqual(pair.owners[1].hellos, [HELLO])
        self.assertEqual((pair.opener.key, pair.opener.name), (ALICE.public, "alice"))
        self.assertEqual((pair.acceptor.key, pair.acceptor.name), (BOB.public, "bob"))
        self.assertTrue(pair.opener.has_room and pair.acceptor.has_room)

    def test_byte_by_byte(self) -> None:
        """The same events come wherever the wire cuts the records."""
        pair = self.pair
        pair.wire.connect()
        for size in (1, 7, 1000):
            pair.carry(size * 8)
        pair.opener.begin(pair.opener_user)
        pair.acceptor.begin(pair.acceptor_user)
        pair.opener.send(GET)
        pair.acceptor.send_data(1, 0, memoryview(b"x" * 5000))
        pair.acceptor.send(END)
        pair.carry(9)
        self.assertEqual(pair.acceptor_user.messages, [GET])
        self.assertEqual(
            (pair.opener_user.received, pair.opener_user.messages), (b"x" * 5000, [END])
        )

    def test_no_plaintext(self) -> None:
        """No message and no byte of a file is readable on the wire."""
        pair = self.opened()
        pair.opener.send(GET)
        pair.acceptor.send_data(1, 0, memoryview(b"a secret of mine" * 1000))
        pair.carry()
        self.assertEqual(len(pair.opener_user.received), 16000)
        for word in (b"film", b"hello", b"secret of mine", b"welcome", b"test/1"):
            self.assertNotIn(word, pair.wire.carried[0] + pair.wire.carried[1])

    def test_refused(self) -> None:
        """A refused opener learns the reason, and both ends are closed at once."""
        self.pair.owners[1].on_greeted = lambda stream: stream.refuse(Refusal.STRANGER)
        self.pair.connect()
        (reason,) = self.pair.owners[0].ends
        self.assertIsInstance(reason, SessionRefused)
        self.assertEqual(self.pair.owners[1].ends, [None])
        self.assert_all_over()

    def test_no_greeting(self) -> None:
        """Threat 25: a session without a welcome ends after 10 s, at both ends."""
        self.pair.owners[1].on_greeted = lambda _: None
        self.pair.connect()
        self.pair.wait(GREETING + 1)
        self.assertEqual([type(each.ends[0]) for each in self.pair.owners], [SessionLost] * 2)
        self.assert_all_over()

    def test_before_begin(self) -> None:
        """Events before `begin` are kept for the user; meanwhile the carrier is paused."""
        pair = self.pair
        pair.connect()
        pair.opener.begin(pair.opener_user)
        for number in range(3):
            pair.opener.send(Get(number, ("x",)))
        pair.carry()
        self.assertTrue(pair.wire.carriers[1].is_paused)
        pair.acceptor.begin(pair.acceptor_user)
        self.assertEqual(pair.acceptor_user.messages, [])
        pair.opener.send(GET)
        pair.carry()
        self.assertEqual(
            [each.id for each in pair.acceptor_user.messages if isinstance(each, Get)], [0, 1, 2, 1]
        )
        self.assertFalse(pair.wire.carriers[1].is_paused)

    def test_data_before_begin(self) -> None:
        """Bytes of files are kept, too, and not overwritten by later ones."""
        pair = self.pair
        pair.connect()
        pair.acceptor.begin(pair.acceptor_user)
        pair.acceptor.send_data(1, 0, memoryview(b"early" * 4000))
        pair.carry()
        pair.opener.begin(pair.opener_user)
        pair.acceptor.send_data(1, 20000, memoryview(b"later" * 4000))
        pair.carry()
        self.assertEqual(pair.opener_user.received, b"early" * 4000 + b"later" * 4000)

    def test_early(self) -> None:
        """Requests behind the greeting reach the acceptor's user, once and first, and are answered at once."""
        pair = session_pair(early=[GET, List(2, ())])
        pair.acceptor_user.on_message = lambda message: pair.acceptor.send(END)
        pair.wire.connect()
        pair.carry()
        self.assertEqual(pair.acceptor_user.messages, [])
        pair.acceptor.begin(pair.acceptor_user)
        pair.opener.begin(pair.opener_user)
        pair.opener.send(Done((1,)))
        pair.carry()
        self.assertEqual(pair.acceptor_user.messages, [GET, List(2, ()), Done((1,))])
        self.assertEqual(pair.opener_user.messages, [END] * 3)

    def test_early_refused(self) -> None:
        """Threat 17: requests of an opener that is refused are dropped, even if they have arrived."""
        pair = session_pair(early=[GET])
        greeted: list[OwnedSession] = []
        pair.owners[1].on_greeted = greeted.append
        pair.connect()
        greeted[0].refuse(Refusal.STRANGER)
        pair.carry()
        self.assertIsInstance(pair.owners[0].ends[0], SessionRefused)
        pair.acceptor.begin(pair.acceptor_user)
        pair.clock.advance(0)
        self.assertEqual((pair.acceptor_user.messages, pair.acceptor_user.ends), ([], [None]))

    def test_credit(self) -> None:
        """The user of each end is told the credit that the other end gave with its greeting."""
        pair = self.pair
        pair.owners[1].on_greeted = lambda stream: stream.welcome("bob", 77)
        pair.open()
        self.assertEqual((pair.opener_user.credit, pair.acceptor_user.credit), (77, HELLO.credit))

    def test_over_before_begin(self) -> None:
        """A user that begins after the end is told of the end."""
        self.pair.connect()
        self.pair.acceptor.abort()
        self.pair.carry()
        self.pair.opener.begin(self.pair.opener_user)
        self.assertEqual(self.pair.opener_user.ends, [])
        self.pair.clock.advance(0)
        self.assert_lost(self.pair.opener_user)


class SendTests(StreamTestCase):
    def test_order(self) -> None:
        """Messages and bytes, small and large, arrive in the order in which they were sent."""
        pair, order = self.opened(), list[int | Message]()
        pair.opener_user.on_message = lambda message: order.append(message)
        taken = pair.opener_user.data_received

        def data_received(transfer: int, offset: int, data: memoryview) -> None:
            if not order or order[-1] != transfer:
                order.append(transfer)
            taken(transfer, offset, data)

        pair.opener_user.data_received = data_received  # type: ignore[method-assign]
        small, large = memoryview(b"s" * 100), memoryview(b"l" * 60_000)
        pair.acceptor.send_data(1, 0, small)
        pair.acceptor.send(Failed(5, Fault.BUSY))
        pair.acceptor.send_data(2, 0, large)
        pair.acceptor.send(END)
        pair.acceptor.send_data(3, 0, small)
        pair.carry()
        self.assertEqual(order, [1, Failed(5, Fault.BUSY), 2, END, 3])
        self.assertEqual(pair.opener_user.received, bytes(small) + bytes(large) + bytes(small))

    def test_small_things_together(self) -> None:
        """Small things of one turn share a record."""
        pair = self.opened()
        before = len(pair.wire.carried[1])
        for number in range(100):
            pair.acceptor.send(Failed(number, Fault.NOT_FOUND))
            pair.acceptor.send_data(number, 0, memoryview(b"x"))
        pair.carry()
        plaintext = 100 * len(control_frame(Failed(99, Fault.NOT_FOUND).to_json())) + 1700
        self.assertLess(len(pair.wire.carried[1]) - before, plaintext + 100)
        self.assertEqual(
            (len(pair.opener_user.messages), pair.opener_user.received), (100, b"x" * 100)
        )

    def test_room(self) -> None:
        """A piece takes the room until the carrier is empty again; sending without room is an error."""
        pair = self.opened()
        piece = memoryview(bytes(PIECE_MAX))
        pair.acceptor.send_data(1, 0, piece)
        self.assertFalse(pair.acceptor.has_room)
        self.assertLess(len(pair.wire.carriers[1].waiting), FULL + READ_SIZE)
        self.assertRaises(LocalProtocolError, pair.acceptor.send_data, 1, 0, piece)
        self.assertEqual(pair.acceptor_user.rooms, 0)
        sent = list[bool]()

        def again() -> None:
            if len(sent) < 3:
                sent.append(pair.acceptor.has_room)
                pair.acceptor.send_data(1, PIECE_MAX * len(sent), piece)

        pair.acceptor_user.on_room = again
        pair.carry()
        self.assertEqual(sent, [True] * 3)
        self.assertEqual(len(pair.opener_user.received), 4 * PIECE_MAX)
        self.assertTrue(pair.acceptor.has_room)

    def test_data_may_change(self) -> None:
        """A buffer can be reused as soon as it was sent."""
        pair = self.opened()
        for size in (100, 50_000):
            buffer = bytearray(b"x" * size)
            pair.acceptor.send_data(1, 0, memoryview(buffer))
            buffer[:] = bytes(size)
        pair.carry()
        self.assertEqual(set(pair.opener_user.received), {ord("x")})

    def test_who_does_not_read(self) -> None:
        """Threat 31: a session whose other end reads no answers stops reading requests."""
        pair = self.opened()
        alice, bob = pair.wire.carriers[1], pair.wire.carriers[0]

        def answer(_: Message) -> None:
            for number in range(100):
                pair.acceptor.send(Failed(number, Fault.NOT_FOUND))

        pair.acceptor_user.on_message = answer
        bob.is_paused = True  # bob asks on and on, and reads nothing
        for _ in range(400):
            pair.opener.send(List(1, ()))
            pair.carry()
        self.assertTrue(alice.is_paused)
        self.assertLess(len(alice.waiting), FULL + UNREAD_MAX + READ_SIZE)
        bob.is_paused = False
        pair.carry()
        self.assertFalse(alice.is_paused)
        self.assertEqual(len(pair.acceptor_user.messages), 400)
        self.assertEqual(len(pair.opener_user.messages), 40_000)

    def test_answers_of_tls(self) -> None:
        """Threat 31: answers of TLS itself, as to new keys, are bounded, however many are asked for."""
        pair = self.opened()
        sharer, carrier = pair.channels[1], pair.wire.carriers[1]
        with (
            mock.patch.object(sharer._pump, "receive_data"),
            mock.patch.object(sharer._pump, "read_into", return_value=0),
            mock.patch.object(sharer._pump, "data_to_send", return_value=bytes(READ_SIZE)),
        ):
            for _ in range(2 + UNREAD_MAX // READ_SIZE):
                self.assertFalse(carrier.is_paused)
                sharer.received(b"new keys")
        self.assertGreater(len(carrier.waiting), UNREAD_MAX)
        self.assertTrue(carrier.is_paused)

    def test_pings(self) -> None:
        """Threat 31: a flood of pings is answered without a queue."""
        pair = self.opened()
        before = len(pair.wire.carried[1])
        for _ in range(50):
            for _ in range(1000):
                pair.channels[0]._small += control_frame(
                    Ping().to_json()
                )  # what no opener of ours says
            pair.opener.send(Credit(1))
            pair.carry()
        self.assertLess(len(pair.wire.carried[1]) - before, 50 * 100)
        self.assertEqual(len(pair.acceptor_user.messages), 50)


class EndTests(StreamTestCase):
    def test_close(self) -> None:
        """A close comes after everything that was sent, and is an error at neither end."""
        pair = self.opened()
        pair.acceptor.send_data(1, 0, memoryview(bytes(PIECE_MAX)))
        pair.acceptor.send(END)
        pair.acceptor.close()
        self.assertFalse(pair.acceptor.has_room)
        pair.acceptor.send(Failed(1, Fault.BUSY))
        pair.acceptor.send_data(1, 0, memoryview(b"x"))
        pair.carry()
        self.assertEqual(
            (len(pair.opener_user.received), pair.opener_user.messages), (PIECE_MAX, [END])
        )
        self.assertEqual((pair.opener_user.ends, pair.acceptor_user.ends), ([None], [None]))
        self.assert_all_over()

    def test_close_in_a_call(self) -> None:
        """A user can close the session in any call, and is told only of the end after that."""
        pair = self.opened()
        pair.acceptor_user.on_message = lambda _: pair.acceptor.close()
        pair.opener.send(GET)
        pair.opener.send(GET)
        pair.carry()
        self.assertEqual((pair.acceptor_user.messages, pair.acceptor_user.ends), ([GET], [None]))
        self.assertEqual(pair.opener_user.ends, [None])
        self.assert_all_over()

    def test_both_close(self) -> None:
        """Both ends can close at the same time; neither waits for the other."""
        pair = self.opened()
        pair.acceptor.close()
        pair.opener.close()
        pair.carry()
        self.assertEqual((pair.opener_user.ends, pair.acceptor_user.ends), ([None], [None]))
        self.assert_all_over()

    def test_nobody_hangs_up(self) -> None:
        """An end that does not react to the farewell is cut off after 3 s."""
        pair = self.opened()
        pair.wire.carriers[0].is_paused = True
        pair.acceptor.close()
        pair.carry()
        self.assertEqual(pair.acceptor_user.ends, [])
        pair.clock.advance(CLOSE_WAIT)
        pair.carry()
        self.assertEqual(pair.acceptor_user.ends, [None])

    def test_abort(self) -> None:
        """An abort is reported after the call, and is an error for the other end."""
        pair = self.opened()
        pair.opener.abort()
        self.assertEqual(pair.opener_user.ends, [])
        pair.carry()
        self.assertEqual(pair.opener_user.ends, [None])
        self.assert_lost(pair.acceptor_user)
        pair.opener.abort()
        pair.opener.close()
        self.assert_all_over()

    def test_cut(self) -> None:
        """A connection that ends without `Bye` is lost, at both ends."""
        pair = self.opened()
        pair.wire.carriers[0].cut()
        pair.carry()
        self.assert_lost(pair.opener_user)
        self.assert_lost(pair.acceptor_user)
        self.assert_all_over()

    def test_closed_without_bye(self) -> None:
        """A TLS close without `Bye` is a loss, too: the end of a file may be missing."""
        pair = self.opened()
        pair.wire.carriers[1].send(pair.channels[1]._pump.close())
        pair.carry()
        self.assert_lost(pair.opener_user)
        self.assert_all_over()

    def test_corrupted(self) -> None:
        """Threat 35: a byte changed on the way ends the session, and its record is not delivered."""
        pair = self.opened()
        pair.acceptor.send_data(1, 0, memoryview(bytes(1000)))
        pair.clock.advance(0)
        pair.wire.carriers[1].waiting[200] ^= 1
        pair.carry()
        self.assertEqual(pair.opener_user.pieces, [])
        self.assertIsInstance(pair.opener_user.ends[0], SessionLost)
        self.assert_all_over()

    def test_injected(self) -> None:
        """Threat 35: injected bytes end the connection."""
        pair = self.opened()
        pair.wire.carriers[1].send(b"\x17\x03\x03\x00\x20" + bytes(32))
        pair.carry()
        self.assertIsInstance(pair.opener_user.ends[0], SessionLost)
        self.assertEqual(pair.opener_user.messages, [])

    def test_silence(self) -> None:
        """After 15 s without a byte the user is told, and the connection is aborted."""
        pair = self.opened()
        pair.wire.carriers[0].is_paused = pair.wire.carriers[1].is_paused = True
        pair.wait(14)
        self.assertEqual(pair.opener_user.ends, [])
        pair.wait(1)
        self.assert_lost(pair.opener_user)
        self.assertTrue(pair.wire.carriers[0].is_aborted)

    def test_wrong_role(self) -> None:
        """A message that the other end's role does not allow ends the session as its fault."""
        pair = self.opened()
        pair.opener.send(Welcome(VERSION, "x", "bob", 0))
        pair.carry()
        self.assertIsInstance(pair.acceptor_user.ends[0], RemoteProtocolError)
        self.assert_lost(pair.opener_user)

    def test_user_fails(self) -> None:
        """Threat 6: a defect of a user is logged, and ends its session alone."""
        pair, other = self.opened(), session_pair()
        other.open()

        def fail(_: Message) -> None:
            raise ZeroDivisionError

        pair.acceptor_user.on_message = fail
        pair.opener.send(GET)
        pair.carry()
        self.assertIsInstance(pair.acceptor_user.ends[0], LocalProtocolError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        other.opener.send(GET)
        other.carry()
        self.assertEqual(other.acceptor_user.messages, [GET])

    def test_user_objects(self) -> None:
        """The error that a user raises is the reason of the end."""
        wrong = RemoteProtocolError(reason="nonsense"), CannotSave(path="x", reason="it is full")
        for error in wrong:
            pair = session_pair()
            pair.open()
            pair.acceptor_user.on_message = _raising(error)
            pair.opener.send(Done((1,)))
            pair.carry()
            self.assertEqual(pair.acceptor_user.ends, [error])

    def test_user_fails_at_the_end(self) -> None:
        """A user that fails in `session_ended` is called once."""
        pair = self.opened()

        def fail() -> None:
            raise ZeroDivisionError

        pair.acceptor_user.on_end = fail
        pair.opener.close()
        pair.carry()
        self.assertEqual(pair.acceptor_user.ends, [None])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_timers(self) -> None:
        """A busy session sets no timer for received bytes, and an idle one few."""
        pair = self.opened()
        before = self.clock.timers
        for number in range(200):
            pair.acceptor.send_data(1, number << 20, memoryview(bytes(20_000)))
            pair.carry()
        self.assertEqual(self.clock.timers, before)
        pair.wait(300)
        self.assertLess(self.clock.timers - before, 300)


def _raising(error: P2pshareError) -> Callable[[Message], object]:
    def fail(_: object) -> None:
        raise error

    return fail


class FloodTests(StreamTestCase):
    """Threat 33: an opener that sends more messages than an acceptor reads."""

    def setUp(self) -> None:
        super().setUp()
        self.floods = 0
        self.intake = Intake(self.pair.clock, self.flooded)
        self.pair.owners[1].on_greeted = lambda stream: stream.welcome("bob", CREDIT, self.intake)

    def flooded(self) -> None:
        self.floods += 1
        self.pair.acceptor.abort()

    def say(self, count: int) -> None:
        """Let the opener send more messages than its user would."""
        for number in range(count):
            self.pair.opener.send(Credit(number))
        self.pair.clock.advance(0)

    def turn(self) -> None:
        """Run one turn of the reactor; calls that it adds are left for the next turn."""
        clock: Any = self.pair.clock
        for call in [each for each in clock.calls if each.getTime() <= clock.seconds()]:
            if call.active():
                clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def deliver(self) -> None:
        """Deliver all bytes of the opener at once."""
        self.pair.channels[1].received(self.pair.wire.carriers[0].take())

    def test_slices(self) -> None:
        """Threat 33: one turn of the reactor reads one slice, and the carrier is paused."""
        pair = self.opened()
        self.say(1000)
        self.deliver()
        read = len(pair.acceptor_user.messages)
        self.assertLessEqual(read, SLICE // 20)
        self.assertTrue(pair.wire.carriers[1].is_paused)
        while pair.wire.carriers[1].is_paused:
            before = len(pair.acceptor_user.messages)
            self.turn()
            self.assertLessEqual(len(pair.acceptor_user.messages) - before, read + 1)
        self.assertEqual(pair.acceptor_user.messages, [Credit(n) for n in range(1000)])
        self.assertEqual(self.floods, 0)

    def test_sessions_take_turns(self) -> None:
        """Threat 33: all sessions of a key share one slice, in turn."""
        pair, other = self.opened(), session_pair(self.clock)
        other.owners[1].on_greeted = self.pair.owners[1].on_greeted
        other.open()
        pair.clock.advance(0)
        for each in (pair, other):
            for number in range(500):
                each.opener.send(Credit(number))
        pair.clock.advance(0)
        for each in (pair, other):
            each.channels[1].received(each.wire.carriers[0].take())
        counts = [len(each.acceptor_user.messages) for each in (pair, other)]
        while any(each.wire.carriers[1].is_paused for each in (pair, other)):
            self.turn()
            now = [len(each.acceptor_user.messages) for each in (pair, other)]
            self.assertLessEqual(sum(now) - sum(counts), SLICE // 20)
            self.assertLessEqual(abs(now[0] - now[1]), 2 * (SLICE // 20))
            counts = now
        self.assertEqual(counts, [500, 500])

    def test_flood(self) -> None:
        """Threat 33: messages beyond the budget wait unread; the session ends if that goes on."""
        pair = self.opened()
        self.say(5 * MESSAGES_BURST)
        self.deliver()
        for _ in range(200):
            pair.clock.advance(0)
        self.assertLess(len(pair.acceptor_user.messages), MESSAGES_BURST + SLICE)
        read = len(pair.acceptor_user.messages)
        pair.clock.pump([0.01] * 400)
        self.assertLess(len(pair.acceptor_user.messages) - read, 5 * MESSAGES_PER_S)
        self.assertGreater(len(pair.acceptor_user.messages) - read, 3 * MESSAGES_PER_S)
        self.assertEqual(self.floods, 0)
        pair.clock.pump([0.01] * 100 * int(FLOOD_MAX))
        self.assertEqual(self.floods, 1)
        self.assertTrue(self.intake.budget.is_barred(pair.clock.seconds()))

    def test_answered(self) -> None:
        """Requests that are answered are read without a limit."""
        pair = self.opened()
        pair.acceptor_user.on_message = lambda message: pair.acceptor.send(
            Failed(1, Fault.NOT_FOUND)
        )
        for _ in range(3):
            self.say(MESSAGES_BURST)
            pair.carry()
        self.assertEqual(len(pair.acceptor_user.messages), 3 * MESSAGES_BURST)
        self.assertEqual(pair.clock.seconds(), 0.0)

    def test_bytes_of_files(self) -> None:
        """An acceptor reads the bytes of files that it asked for without a limit but its credit."""
        pair, piece = self.opened(), memoryview(bytes(PIECE_MAX))
        for number in range(64):
            pair.opener.send_data(1, number * PIECE_MAX, piece)
            self.pair.channels[1].received(self.pair.wire.carriers[0].take())
            self.assertEqual(len(pair.acceptor_user.received), (number + 1) * PIECE_MAX)
        self.assertEqual(self.floods, 0)

    def test_answers(self) -> None:
        """An acceptor reads all answers that it asked for without a limit, however long they are."""
        pair = self.opened()
        entries = tuple(Entry((f"{n:0200}",), EntryKind.FOLDER, 0, 0) for n in range(500))
        listing, header = Listing(1, entries, more=False), FileHeader(1, 2**40, 0, False, "v")
        pair.opener_user.on_message = lambda message: pair.opener.send(
            listing if isinstance(message, List) else header
        )
        for _ in range(2 * MESSAGES_BURST // 100):
            for _ in range(100):
                pair.acceptor.send(GET)
            pair.acceptor.send(List(1, ()))
            pair.carry()
        self.assertEqual(len(pair.acceptor_user.messages), 101 * 2 * MESSAGES_BURST // 100)
        self.assertEqual(pair.clock.seconds(), 0.0)

    def test_hangs_up(self) -> None:
        """A session that ends while it waits for its turn leaves nothing behind."""
        pair = self.opened()
        self.say(1000)
        self.deliver()
        pair.wire.carriers[1].cut()
        pair.wire.carriers[0].cut()
        pair.clock.advance(0)
        self.assert_all_over()


class StrangerTests(StreamTestCase):
    """An opener that has not greeted begins a file."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(self.pair.owners[0], "secured", lambda _: None)
        self.pair.connect()

    def assert_broken(self) -> None:
        """The channel is cut, and nothing was kept for a user."""
        self.assertTrue(self.pair.wire.carriers[1].is_aborted)
        self.pair.carry()
        (reason,) = self.pair.owners[1].ends
        self.assertIsInstance(reason, RemoteProtocolError)
        self.assertEqual(self.pair.acceptor._early, [])

    def test_size(self) -> None:
        """Threat 44: keeping its size would stop reading, and all that follows would fill the memory."""
        self.pair.acceptor.size_received(1, 100)
        self.assert_broken()

    def test_fin(self) -> None:
        """Nor is there an answer to the end of a file."""
        self.assertEqual(self.pair.acceptor.fin_received(1), ())
        self.assert_broken()
