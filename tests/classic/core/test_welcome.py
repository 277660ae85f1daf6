"""Tests of `p2pshare.classic.core.welcome`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.welcome import (
    ANSWER_WITHIN,
    REMEMBER_FOR,
    TransferDisplaced,
    TransferRequested,
    Welcome,
    WelcomeEvent,
)
from p2pshare.classic.datagrams import Kind
from p2pshare.core.datagram_core import Address

BOB = ("10.0.0.2", 7000)


def events_of(welcome: Welcome) -> list[WelcomeEvent]:
    return list(iter(welcome.next_event, None))


def requests_of(welcome: Welcome) -> list[TransferRequested]:
    return [event for event in events_of(welcome) if isinstance(event, TransferRequested)]


class WelcomeTests(SynchronousTestCase):
    def say(
        self, welcome: Welcome, data: bytes, addr: Address = BOB, now: float = 0.0
    ) -> list[bytes]:
        """Deliver a datagram; return the answers, which must all go back to its source."""
        welcome.receive_datagram(data, addr, now)
        answers = welcome.datagrams_to_send(now)
        self.assertTrue(all(to == addr for _, to in answers))
        return [answer for answer, _ in answers]

    def test_words(self) -> None:
        """Each word is answered with its acknowledgement, and makes a request."""
        for word, answer, kind, reports in (
            (b"TXT", b"ACK", Kind.TEXT, False),
            (b"IMG", b"ACK", Kind.PICTURE, False),
            (b"IMG2", b"ACK2", Kind.PICTURE, True),
        ):
            welcome = Welcome()
            self.assertEqual(self.say(welcome, word), [answer])
            self.assertEqual(requests_of(welcome), [TransferRequested(kind, BOB, reports)])

    def test_repeated_word(self) -> None:
        """A repeated word is answered again and starts nothing new; IMG after IMG2 still comes from one of ours."""
        welcome = Welcome()
        self.say(welcome, b"IMG2")
        self.assertEqual(self.say(welcome, b"IMG2"), [b"ACK2"])
        self.assertEqual(self.say(welcome, b"IMG"), [b"ACK2"])
        self.assertEqual(len(requests_of(welcome)), 1)

    def test_text_and_picture_at_once(self) -> None:
        """One address may get both files at once."""
        welcome = Welcome()
        self.say(welcome, b"IMG")
        self.say(welcome, b"TXT")
        self.assertEqual(len(requests_of(welcome)), 2)

    def test_after_success(self) -> None:
        """A late word after a successful transfer starts nothing; after a while it is a new request."""
        welcome = Welcome()
        self.say(welcome, b"IMG")
        (request,) = requests_of(welcome)
        welcome.transfer_ended(request, 1.0, succeeded=True)
        self.assertEqual(self.say(welcome, b"IMG", now=1.1), [])
        self.assertEqual(self.say(welcome, b"IMG", now=1.0 + REMEMBER_FOR), [b"ACK"])
        self.assertEqual(len(requests_of(welcome)), 1)

    def test_after_failure(self) -> None:
        """After a failed transfer the same address may ask again at once."""
        welcome = Welcome()
        self.say(welcome, b"IMG")
        (request,) = requests_of(welcome)
        welcome.transfer_ended(request, 1.0, succeeded=False)
        self.assertEqual(self.say(welcome, b"IMG", now=1.1), [b"ACK"])

    def test_cap_for_one_host(self) -> None:
        """One host gets only its share of places; other hosts are served, and an end makes room."""
        welcome = Welcome(transfers_per_host_max=2)
        for port in (7001, 7002):
            self.assertEqual(self.say(welcome, b"IMG", ("10.0.0.2", port)), [b"ACK"])
        self.assertEqual(self.say(welcome, b"IMG", ("10.0.0.2", 7003)), [])
        self.assertEqual(self.say(welcome, b"IMG", ("10.0.0.3", 7003)), [b"ACK"])
        self.assertEqual(welcome.turned_away, 1)
        first = requests_of(welcome)[0]
        for _ in range(2):  # the end counts once, however often it is told
            welcome.transfer_ended(first, 1.0, succeeded=False)
        self.assertEqual(self.say(welcome, b"IMG", ("10.0.0.2", 7004)), [b"ACK"])
        self.assertEqual(self.say(welcome, b"IMG", ("10.0.0.2", 7005)), [])

    def test_cap_for_all(self) -> None:
        """All hosts together get only the places that there are."""
        welcome = Welcome(transfers_max=3)
        answers = [self.say(welcome, b"TXT", (f"10.0.0.{n}", 7000)) for n in range(10)]
        self.assertEqual(answers.count([b"ACK"]), 3)
        self.assertEqual(welcome.serving, 3)

    def test_silent_ones_make_room(self) -> None:
        """Without a free place, the oldest transfer that was never answered loses its place."""
        for limits in ({"transfers_max": 3}, {"transfers_per_host_max": 3}):
            answered: list[TransferRequested] = []
            welcome = Welcome(answered.__contains__, **limits)
            for port in (7001, 7002, 7003):
                self.say(welcome, b"IMG", (BOB[0], port))
            first, second, third = requests_of(welcome)
            answered.append(first)
            self.assertEqual(self.say(welcome, b"IMG", (BOB[0], 7004), ANSWER_WITHIN - 0.01), [])
            self.assertEqual(self.say(welcome, b"IMG", (BOB[0], 7004), ANSWER_WITHIN), [b"ACK"])
            displaced, requested = events_of(welcome)
            self.assertEqual(displaced, TransferDisplaced(second))
            welcome.transfer_ended(second, 1.0, succeeded=False)
            self.assertEqual(welcome.serving, 3)
            assert isinstance(requested, TransferRequested)
            answered += [third, requested]
            self.assertEqual(self.say(welcome, b"IMG", (BOB[0], 7005), 60.0), [])
            self.assertEqual(events_of(welcome), [])

    def test_displaced_and_back(self) -> None:
        """The end of a displaced transfer does not end a new one from the same address."""
        welcome = Welcome(lambda _: False, transfers_max=1)
        self.say(welcome, b"IMG", (BOB[0], 7001))
        (old,) = requests_of(welcome)
        self.say(welcome, b"IMG", (BOB[0], 7002), 10.0)
        self.say(welcome, b"IMG", (BOB[0], 7001), 20.0)
        welcome.transfer_ended(old, 1.0, succeeded=True)
        self.assertEqual(welcome.serving, 1)
        self.assertEqual(self.say(welcome, b"IMG", (BOB[0], 7001)), [b"ACK"])

    def test_others_do_not_make_room(self) -> None:
        """A host that has all its places displaces only its own transfers."""
        welcome = Welcome(lambda _: False, transfers_per_host_max=1)
        for host in ("10.0.0.3", "10.0.0.2"):
            self.say(welcome, b"IMG", (host, 7001))
        other, own = requests_of(welcome)
        self.say(welcome, b"IMG", ("10.0.0.2", 7002), 10.0)
        self.assertIn(TransferDisplaced(own), events_of(welcome))
        welcome.transfer_ended(other, 1.0, succeeded=False)
        self.assertEqual(welcome.serving, 1)

    def test_ports_of_services(self) -> None:
        """A word from the port of a service is dropped, so that no text is sent to a service."""
        welcome = Welcome()
        for port in (0, 25, 1023):
            self.assertEqual(self.say(welcome, b"TXT", ("10.0.0.2", port)), [])
        self.assertEqual((welcome.dropped, welcome.serving), (3, 0))

    @given(st.binary(max_size=12))
    def test_anything_else_is_dropped(self, data: bytes) -> None:
        """A datagram that is not a word is counted, and neither answered nor served."""
        welcome = Welcome()
        if data not in (b"TXT", b"IMG", b"IMG2"):
            self.assertEqual(self.say(welcome, data), [])
            self.assertEqual((welcome.dropped, welcome.serving), (1, 0))
