"""Tests for `p2pshare.net.session.stream`, in memory."""

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
from p2pshare.net.session.intake import SLICE, Intake
from p2pshare.net.session.outbox import UNREAD_MAX
from p2pshare.net.session.stream import CLOSE_WAIT, READ_SIZE, ROOM
from p2pshare.wire.frames import PIECE_MAX, control_frame
from p2pshare.wire.message_fields import Message
from p2pshare.wire.session_messages import Credit, Ping, Refusal, Welcome
from p2pshare.wire.transfer_messages import Done, End, Failed, Fault, Get, List
from tests.net.session_pairs import ALICE, BOB, HELLO, Listener, Pair

GET = Get(1, ("film.mkv",))
END = End(1, bytes(32))


class StreamTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()

    def opened(self) -> Pair:
        self.pair.open()
        return self.pair

    def assert_lost(self, listener: Listener, words: str) -> None:
        """The session is over once, and not because anybody wanted that."""
        (reason,) = listener.ends
        assert isinstance(reason, SessionLost), reason
        self.assertIn(words, str(reason))

    def assert_all_over(self) -> None:
        """Nothing is left that could do anything."""
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])
        self.assertEqual([len(each.ends) for each in self.pair.owners], [1, 1])


class OpenTests(StreamTestCase):
    def test_greeting(self) -> None:
        """Two ends meet, each with the key of the other, and the name that its owner gave it."""
        pair = self.opened()
        self.assertEqual(pair.owners[1].hellos, [HELLO])
        self.assertEqual((pair.opener.key, pair.opener.name), (ALICE.public, "alice"))
        self.assertEqual((pair.sharer.key, pair.sharer.name), (BOB.public, "bob"))
        self.assertTrue(pair.opener.has_room and pair.sharer.has_room)

    def test_byte_by_byte(self) -> None:
        """Wherever the wire cuts the records, the same comes."""
        pair = self.pair
        for stream, transport in reversed(pair.ends):
            stream.makeConnection(transport)
        for size in (1, 7, 1000):
            pair.carry(size * 8)
        pair.opener.begin(pair.fetcher)
        pair.sharer.begin(pair.server)
        pair.opener.send(GET)
        pair.sharer.send_data(1, 0, memoryview(b"x" * 5000))
        pair.sharer.send(END)
        pair.carry(9)
        self.assertEqual(pair.server.messages, [GET])
        self.assertEqual((pair.fetcher.received, pair.fetcher.messages), (b"x" * 5000, [END]))

    def test_no_plaintext(self) -> None:
        """Nothing that is said, and no byte of a file, can be read on the wire."""
        pair = self.opened()
        pair.opener.send(GET)
        pair.sharer.send_data(1, 0, memoryview(b"a secret of mine" * 1000))
        pair.carry()
        self.assertEqual(len(pair.fetcher.received), 16000)
        for word in (b"film", b"hello", b"secret of mine", b"welcome", b"test/1"):
            self.assertNotIn(word, pair.carried[0] + pair.carried[1])

    def test_refused(self) -> None:
        """Who is turned away learns why, and both ends are over at once."""
        self.pair.owners[1].on_greeted = lambda stream: stream.refuse(Refusal.STRANGER)
        self.pair.connect()
        (reason,) = self.pair.owners[0].ends
        self.assertIsInstance(reason, SessionRefused)
        self.assertEqual(self.pair.owners[1].ends, [None])
        self.assert_all_over()

    def test_no_greeting(self) -> None:
        """Threat 25: an end that is never welcomed gives up after 10 s, and so does the other."""
        self.pair.owners[1].on_greeted = lambda _: None
        self.pair.connect()
        self.pair.wait(GREETING + 1)
        self.assertEqual([type(each.ends[0]) for each in self.pair.owners], [SessionLost] * 2)
        self.assert_all_over()

    def test_before_begin(self) -> None:
        """What came before there was a user is kept and then told; meanwhile no more is taken from the wire."""
        pair = self.pair
        pair.connect()
        pair.opener.begin(pair.fetcher)
        for number in range(3):
            pair.opener.send(Get(number, ("x",)))
        pair.carry()
        self.assertTrue(pair.ends[1][1].is_paused)
        pair.sharer.begin(pair.server)
        self.assertEqual(pair.server.messages, [])
        pair.opener.send(GET)
        pair.carry()
        self.assertEqual(
            [each.id for each in pair.server.messages if isinstance(each, Get)], [0, 1, 2, 1]
        )
        self.assertFalse(pair.ends[1][1].is_paused)

    def test_data_before_begin(self) -> None:
        """So are bytes of files, and they are not those that came later."""
        pair = self.pair
        pair.connect()
        pair.sharer.begin(pair.server)
        pair.sharer.send_data(1, 0, memoryview(b"early" * 4000))
        pair.carry()
        pair.opener.begin(pair.fetcher)
        pair.sharer.send_data(1, 20000, memoryview(b"later" * 4000))
        pair.carry()
        self.assertEqual(pair.fetcher.received, b"early" * 4000 + b"later" * 4000)

    def test_over_before_begin(self) -> None:
        """A user that comes too late learns that it is over."""
        self.pair.connect()
        self.pair.sharer.abort()
        self.pair.carry()
        self.pair.opener.begin(self.pair.fetcher)
        self.assertEqual(self.pair.fetcher.ends, [])
        self.pair.clock.advance(0)
        self.assert_lost(self.pair.fetcher, "broke")


class SendTests(StreamTestCase):
    def test_order(self) -> None:
        """Messages and bytes, small and large, come in the order in which they were sent."""
        pair, order = self.opened(), list[int | Message]()
        pair.fetcher.on_message = lambda message: order.append(message)
        taken = pair.fetcher.data_received

        def data_received(transfer: int, offset: int, data: memoryview) -> None:
            if not order or order[-1] != transfer:
                order.append(transfer)
            taken(transfer, offset, data)

        pair.fetcher.data_received = data_received  # type: ignore[method-assign]
        small, large = memoryview(b"s" * 100), memoryview(b"l" * 60_000)
        pair.sharer.send_data(1, 0, small)
        pair.sharer.send(Failed(5, Fault.BUSY))
        pair.sharer.send_data(2, 0, large)
        pair.sharer.send(END)
        pair.sharer.send_data(3, 0, small)
        pair.carry()
        self.assertEqual(order, [1, Failed(5, Fault.BUSY), 2, END, 3])
        self.assertEqual(pair.fetcher.received, bytes(small) + bytes(large) + bytes(small))

    def test_small_things_together(self) -> None:
        """What is small, and sent in one turn, goes out in one record."""
        pair = self.opened()
        before = len(pair.carried[1])
        for number in range(100):
            pair.sharer.send(Failed(number, Fault.NOT_FOUND))
            pair.sharer.send_data(number, 0, memoryview(b"x"))
        pair.carry()
        plaintext = 100 * len(control_frame(Failed(99, Fault.NOT_FOUND).to_json())) + 1700
        self.assertLess(len(pair.carried[1]) - before, plaintext + 100)
        self.assertEqual((len(pair.fetcher.messages), pair.fetcher.received), (100, b"x" * 100))

    def test_room(self) -> None:
        """There is room for a piece, and then none until it has gone to the kernel; nobody sends without it."""
        pair = self.opened()
        piece = memoryview(bytes(PIECE_MAX))
        pair.sharer.send_data(1, 0, piece)
        self.assertFalse(pair.sharer.has_room)
        self.assertLess(len(pair.ends[1][1].waiting), ROOM + READ_SIZE)
        self.assertRaises(LocalProtocolError, pair.sharer.send_data, 1, 0, piece)
        self.assertEqual(pair.server.rooms, 0)
        sent = list[bool]()

        def again() -> None:
            if len(sent) < 3:
                sent.append(pair.sharer.has_room)
                pair.sharer.send_data(1, PIECE_MAX * len(sent), piece)

        pair.server.on_room = again
        pair.carry()
        self.assertEqual(sent, [True] * 3)
        self.assertEqual(len(pair.fetcher.received), 4 * PIECE_MAX)
        self.assertTrue(pair.sharer.has_room)

    def test_data_may_change(self) -> None:
        """A buffer may be used again as soon as it was sent."""
        pair = self.opened()
        for size in (100, 50_000):
            buffer = bytearray(b"x" * size)
            pair.sharer.send_data(1, 0, memoryview(buffer))
            buffer[:] = bytes(size)
        pair.carry()
        self.assertEqual(set(pair.fetcher.received), {ord("x")})

    def test_who_does_not_read(self) -> None:
        """Threat 31: from one that takes no answers no more questions are taken, so that they are no queue."""
        pair = self.opened()
        alice, bob = pair.ends[1][1], pair.ends[0][1]

        def answer(_: Message) -> None:
            for number in range(100):
                pair.sharer.send(Failed(number, Fault.NOT_FOUND))

        pair.server.on_message = answer
        bob.is_paused = True  # bob asks on and on, and reads nothing
        for _ in range(400):
            pair.opener.send(List(1, ()))
            pair.carry()
        self.assertTrue(alice.is_paused)
        self.assertLess(len(alice.waiting), ROOM + UNREAD_MAX + READ_SIZE)
        bob.is_paused = False
        pair.carry()
        self.assertFalse(alice.is_paused)
        self.assertEqual(len(pair.server.messages), 400)
        self.assertEqual(len(pair.fetcher.messages), 40_000)

    def test_answers_of_tls(self) -> None:
        """Threat 31: what TLS answers by itself, as to new keys, does not gather, however much of it is asked for."""
        pair = self.opened()
        sharer, (_, transport) = pair.sharer, pair.ends[1]
        with (
            mock.patch.object(sharer._pump, "receive_data"),
            mock.patch.object(sharer._pump, "read_into", return_value=0),
            mock.patch.object(sharer._pump, "data_to_send", return_value=bytes(READ_SIZE)),
        ):
            for _ in range(2 + UNREAD_MAX // READ_SIZE):
                self.assertFalse(transport.is_paused)
                sharer.dataReceived(b"new keys")
        self.assertGreater(len(transport.waiting), UNREAD_MAX)
        self.assertTrue(transport.is_paused)

    def test_pings(self) -> None:
        """Threat 31: a flood of pings is answered, but builds no queue."""
        pair = self.opened()
        before = len(pair.carried[1])
        for _ in range(50):
            for _ in range(1000):
                pair.opener._outbox.add(
                    control_frame(Ping().to_json())
                )  # what no opener of ours says
            pair.opener.send(Credit(1))
            pair.carry()
        self.assertLess(len(pair.carried[1]) - before, 50 * 100)
        self.assertEqual(len(pair.server.messages), 50)


class EndTests(StreamTestCase):
    def test_close(self) -> None:
        """An end that was wanted comes after all that was sent, and is nobody's error."""
        pair = self.opened()
        pair.sharer.send_data(1, 0, memoryview(bytes(PIECE_MAX)))
        pair.sharer.send(END)
        pair.sharer.close()
        self.assertFalse(pair.sharer.has_room)
        pair.sharer.send(Failed(1, Fault.BUSY))
        pair.sharer.send_data(1, 0, memoryview(b"x"))
        pair.carry()
        self.assertEqual((len(pair.fetcher.received), pair.fetcher.messages), (PIECE_MAX, [END]))
        self.assertEqual((pair.fetcher.ends, pair.server.ends), ([None], [None]))
        self.assert_all_over()

    def test_close_in_a_call(self) -> None:
        """A user may end the session from within any call; nothing more is told to it."""
        pair = self.opened()
        pair.server.on_message = lambda _: pair.sharer.close()
        pair.opener.send(GET)
        pair.opener.send(GET)
        pair.carry()
        self.assertEqual((pair.server.messages, pair.server.ends), ([GET], [None]))
        self.assertEqual(pair.fetcher.ends, [None])
        self.assert_all_over()

    def test_both_close(self) -> None:
        """Both may want the end at the same time, and neither waits for the other one then."""
        pair = self.opened()
        pair.sharer.close()
        pair.opener.close()
        pair.carry()
        self.assertEqual((pair.fetcher.ends, pair.server.ends), ([None], [None]))
        self.assert_all_over()

    def test_nobody_hangs_up(self) -> None:
        """An other side that does not hear the farewell is not waited for longer than 3 s."""
        pair = self.opened()
        pair.ends[0][1].is_paused = True
        pair.sharer.close()
        pair.carry()
        self.assertEqual(pair.server.ends, [])
        pair.clock.advance(CLOSE_WAIT)
        pair.carry()
        self.assertEqual(pair.server.ends, [None])

    def test_abort(self) -> None:
        """An end at once is not heard of within the call that wants it, and is an error for the other side."""
        pair = self.opened()
        pair.opener.abort()
        self.assertEqual(pair.fetcher.ends, [])
        pair.carry()
        self.assertEqual(pair.fetcher.ends, [None])
        self.assert_lost(pair.server, "broke")
        pair.opener.abort()
        pair.opener.close()
        self.assert_all_over()

    def test_cut(self) -> None:
        """A connection that ends without `Bye` is lost, at both ends."""
        pair = self.opened()
        pair.hang_up(0)
        pair.carry()
        self.assert_lost(pair.fetcher, "broke")
        self.assert_lost(pair.server, "broke")
        self.assert_all_over()

    def test_closed_without_bye(self) -> None:
        """A TLS connection that is closed in order, but without `Bye`, is lost, too: a file may be missing its end."""
        pair = self.opened()
        pair.ends[1][1].write(pair.sharer._pump.close())
        pair.carry()
        self.assert_lost(pair.fetcher, "ended the connection")
        self.assert_all_over()

    def test_corrupted(self) -> None:
        """Threat 35: a byte that was changed on the way ends the session, before anybody is told of what it was in."""
        pair = self.opened()
        pair.sharer.send_data(1, 0, memoryview(bytes(1000)))
        pair.clock.advance(0)
        pair.ends[1][1].waiting[200] ^= 1
        pair.carry()
        self.assertEqual(pair.fetcher.pieces, [])
        self.assertIsInstance(pair.fetcher.ends[0], SessionLost)
        self.assert_all_over()

    def test_injected(self) -> None:
        """Threat 35: bytes that somebody puts into the connection end it."""
        pair = self.opened()
        pair.ends[1][1].write(b"\x17\x03\x03\x00\x20" + bytes(32))
        pair.carry()
        self.assertIsInstance(pair.fetcher.ends[0], SessionLost)
        self.assertEqual(pair.fetcher.messages, [])

    def test_silence(self) -> None:
        """Nothing for 15 s is a broken path: the user hears of it, and the connection is dropped."""
        pair = self.opened()
        pair.ends[0][1].is_paused = pair.ends[1][1].is_paused = True
        pair.wait(14)
        self.assertEqual(pair.fetcher.ends, [])
        pair.wait(1)
        self.assert_lost(pair.fetcher, "nothing came for 15 s")
        self.assertTrue(pair.ends[0][1].is_aborted)

    def test_wrong_role(self) -> None:
        """What the other side must not say ends the session, and is its fault."""
        pair = self.opened()
        pair.opener.send(Welcome("x", "bob"))
        pair.carry()
        self.assertIsInstance(pair.server.ends[0], RemoteProtocolError)
        self.assert_lost(pair.fetcher, "broke")

    def test_user_fails(self) -> None:
        """Threat 6: a user's defect ends its session with a line in the log, and no other session."""
        pair, other = self.opened(), Pair()
        other.open()

        def fail(_: Message) -> None:
            raise ZeroDivisionError

        pair.server.on_message = fail
        pair.opener.send(GET)
        pair.carry()
        self.assertIsInstance(pair.server.ends[0], LocalProtocolError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        other.opener.send(GET)
        other.carry()
        self.assertEqual(other.server.messages, [GET])

    def test_user_objects(self) -> None:
        """What a user says of the other side, or of itself, is the reason."""
        wrong = RemoteProtocolError(reason="nonsense"), CannotSave(path="x", reason="it is full")
        for error in wrong:
            pair = Pair()
            pair.open()
            pair.server.on_message = _raising(error)
            pair.opener.send(Done((1,)))
            pair.carry()
            self.assertEqual(pair.server.ends, [error])

    def test_user_fails_at_the_end(self) -> None:
        """One that fails when it is told of the end is told of it once."""
        pair = self.opened()

        def fail() -> None:
            raise ZeroDivisionError

        pair.server.on_end = fail
        pair.opener.close()
        pair.carry()
        self.assertEqual(pair.server.ends, [None])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_timers(self) -> None:
        """A session at work sets no timer for what it receives, and one at rest few."""
        pair = self.opened()
        before = pair.clock.timers
        for number in range(200):
            pair.sharer.send_data(1, number << 20, memoryview(bytes(20_000)))
            pair.carry()
        self.assertEqual(pair.clock.timers, before)
        pair.wait(300)
        self.assertLess(pair.clock.timers - before, 300)


def _raising(error: P2pshareError) -> Callable[[Message], object]:
    def fail(_: object) -> None:
        raise error

    return fail


class FloodTests(StreamTestCase):
    """Threat 33: an opener that says more than a sharer wants to read."""

    def setUp(self) -> None:
        super().setUp()
        self.floods = 0
        self.intake = Intake(self.pair.clock, self.flooded)
        self.pair.owners[1].on_greeted = lambda stream: stream.welcome("bob", self.intake)

    def flooded(self) -> None:
        self.floods += 1
        self.pair.sharer.abort()

    def say(self, count: int) -> None:
        """Have the opener say more than its user would."""
        for number in range(count):
            self.pair.opener.send(Credit(number))
        self.pair.clock.advance(0)

    def turn(self) -> None:
        """Do what the clock has for one turn of a reactor; what comes of it is for the next one."""
        clock: Any = self.pair.clock
        for call in [each for each in clock.calls if each.getTime() <= clock.seconds()]:
            if call.active():
                clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def deliver(self) -> None:
        """Hand all that the opener has said to the sharer at once."""
        self.pair.sharer.dataReceived(self.pair.ends[0][1].take())

    def test_slices(self) -> None:
        """Threat 33: in one turn of the reactor only a slice is read, and nothing more taken from the socket."""
        pair = self.opened()
        self.say(1000)
        self.deliver()
        read = len(pair.server.messages)
        self.assertLessEqual(read, SLICE // 20)
        self.assertTrue(pair.ends[1][1].is_paused)
        while pair.ends[1][1].is_paused:
            before = len(pair.server.messages)
            self.turn()
            self.assertLessEqual(len(pair.server.messages) - before, read + 1)
        self.assertEqual(pair.server.messages, [Credit(n) for n in range(1000)])
        self.assertEqual(self.floods, 0)

    def test_sessions_take_turns(self) -> None:
        """Threat 33: all sessions of a key together get one slice, in turn."""
        pair, other = self.opened(), Pair(clock=self.pair.clock)
        other.owners[1].on_greeted = self.pair.owners[1].on_greeted
        other.open()
        pair.clock.advance(0)
        for each in (pair, other):
            for number in range(500):
                each.opener.send(Credit(number))
        pair.clock.advance(0)
        for each in (pair, other):
            each.sharer.dataReceived(each.ends[0][1].take())
        counts = [len(each.server.messages) for each in (pair, other)]
        while any(each.ends[1][1].is_paused for each in (pair, other)):
            self.turn()
            now = [len(each.server.messages) for each in (pair, other)]
            self.assertLessEqual(sum(now) - sum(counts), SLICE // 20)
            self.assertLessEqual(abs(now[0] - now[1]), 2 * (SLICE // 20))
            counts = now
        self.assertEqual(counts, [500, 500])

    def test_flood(self) -> None:
        """Threat 33: what is more than the budget waits unread, and ends the session if there is no end of it."""
        pair = self.opened()
        self.say(5 * MESSAGES_BURST)
        self.deliver()
        for _ in range(200):
            pair.clock.advance(0)
        self.assertLess(len(pair.server.messages), MESSAGES_BURST + SLICE)
        read = len(pair.server.messages)
        pair.clock.pump([0.01] * 400)
        self.assertLess(len(pair.server.messages) - read, 5 * MESSAGES_PER_S)
        self.assertGreater(len(pair.server.messages) - read, 3 * MESSAGES_PER_S)
        self.assertEqual(self.floods, 0)
        pair.clock.pump([0.01] * 100 * int(FLOOD_MAX))
        self.assertEqual(self.floods, 1)
        self.assertTrue(self.intake.budget.is_barred(pair.clock.seconds()))

    def test_answered(self) -> None:
        """Requests that are answered are read without an end."""
        pair = self.opened()
        pair.server.on_message = lambda message: pair.sharer.send(Failed(1, Fault.NOT_FOUND))
        for _ in range(3):
            self.say(MESSAGES_BURST)
            pair.carry()
        self.assertEqual(len(pair.server.messages), 3 * MESSAGES_BURST)
        self.assertEqual(pair.clock.seconds(), 0.0)

    def test_hangs_up(self) -> None:
        """A session that ends while it waits for its turn leaves nothing."""
        pair = self.opened()
        self.say(1000)
        self.deliver()
        pair.hang_up(1)
        pair.hang_up(0)
        pair.clock.advance(0)
        self.assert_all_over()
