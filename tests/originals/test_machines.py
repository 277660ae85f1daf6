"""The machines of the originals, against each other and at their bounds, in virtual time."""

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from tests.originals.datagrams import ACK, ACK_SIZE, COMPLETE, FIN, Address, encode_wanted
from tests.originals.machines import (
    REQUESTER_QUEUE,
    SHARER_QUEUE,
    Event,
    GaveUp,
    ImageCompleted,
    OriginalRequester,
    OriginalSharer,
    Pixels,
)

WELCOME = ("10.0.0.1", 50000)
TRANSFER = ("10.0.0.1", 40000)
REQUESTER = ("10.0.0.2", 60000)
LATENCY = 0.0001  # seconds


class Link:
    """A link without loss between a requester and the sharers that answer its words, in order."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.now = 0.0
        self.requester = OriginalRequester(WELCOME)
        self.sharer: OriginalSharer | None = None
        self.in_flight: list[tuple[float, bytes, Address, Address]] = []
        self.events: list[Event] = []

    def run(self) -> None:
        """Run until neither side has anything to wait for."""
        self._collect()
        while (due := self._next_time()) is not None:
            self.now = due
            while self.in_flight and self.in_flight[0][0] <= self.now:
                _, datagram, source, destination = self.in_flight.pop(0)
                self._deliver(datagram, source, destination)
            for machine in self._machines():
                timer = machine.get_timer()
                if timer is not None and timer <= self.now:
                    machine.handle_timer(self.now)
            self._collect()

    def _machines(self) -> list[OriginalRequester | OriginalSharer]:
        return [self.requester, *([self.sharer] if self.sharer is not None else [])]

    def _next_time(self) -> float | None:
        times = [timer for m in self._machines() if (timer := m.get_timer()) is not None]
        return min(times + [arrival for arrival, *_ in self.in_flight[:1]], default=None)

    def _collect(self) -> None:
        for machine in self._machines():
            source = REQUESTER if machine is self.requester else TRANSFER
            for datagram, destination in machine.datagrams_to_send(self.now):
                self._send(datagram, source, destination)
            while (event := machine.next_event()) is not None:
                self.events.append(event)

    def _send(self, datagram: bytes, source: Address, destination: Address) -> None:
        self.in_flight.append((self.now + LATENCY, datagram, source, destination))

    def _deliver(self, datagram: bytes, source: Address, destination: Address) -> None:
        if destination == WELCOME:
            self._send(ACK, WELCOME, source)
            self.sharer = OriginalSharer(self.pixels, source, self.now)
        elif destination == REQUESTER:
            self.requester.receive_datagram(datagram, source, self.now)
        elif self.sharer is not None:
            self.sharer.receive_datagram(datagram, source, self.now)


def picture(width: int, height: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


class MachineTests(SynchronousTestCase):
    """The machines against each other, on a link without loss."""

    def test_small_picture(self) -> None:
        """A picture that fits into the requester's buffer arrives exactly, at both ends."""
        link = Link(picture(60, 40))
        link.run()
        self.assertEqual(len(link.events), 2)
        for event in link.events:
            assert isinstance(event, ImageCompleted)
            np.testing.assert_array_equal(event.pixels, link.pixels)

    def test_outrun(self) -> None:
        """A sharer outruns a requester: rows are lost, no second FIN comes, all tries fail."""
        link = Link(picture(1200, 900))
        link.run()
        self.assertIn(GaveUp("3 tries"), link.events)
        self.assertEqual(link.requester.tries, 3)
        self.assertGreater(link.now, 33)

    def test_wide_rows(self) -> None:
        """Rows of more than 1363 pixels are cut short, so none ever arrives."""
        link = Link(picture(1364, 2))
        link.run()
        self.assertIn(GaveUp("3 tries"), link.events)


def run_out(machine: OriginalRequester | OriginalSharer) -> list[bytes]:
    """Let a machine wait until it is over; return what it sent meanwhile."""
    sent = [datagram for datagram, _ in machine.datagrams_to_send(0.0)]
    while (now := machine.get_timer()) is not None:
        machine.handle_timer(now)
        sent += [datagram for datagram, _ in machine.datagrams_to_send(now)]
    return sent


class SharerTests(SynchronousTestCase):
    """One sharer, and what comes to its D socket."""

    def test_nothing_but_ack_size(self) -> None:
        """Anything else than ACK_SIZE in its place ends the transfer."""
        sharer = OriginalSharer(picture(6, 4), REQUESTER)
        sharer.receive_datagram(b"IMG", REQUESTER, 0.1)
        self.assertEqual(sharer.next_event(), GaveUp("b'IMG' in place of ACK_SIZE"))
        self.assertIsNone(sharer.get_timer())

    def test_one_fin(self) -> None:
        """Each wanted row is answered, the requester's FIN is not."""
        sharer = OriginalSharer(picture(6, 4), REQUESTER)
        for datagram in (ACK_SIZE, encode_wanted(3), FIN):
            sharer.receive_datagram(datagram, REQUESTER, 0.0)
        sent = run_out(sharer)
        self.assertEqual([len(datagram) for datagram in sent], [9, 23, 23, 23, 23, 3, 23])
        self.assertEqual(sent[-1], sent[-3])
        self.assertEqual(sharer.next_event(), GaveUp("10 s of silence"))

    def test_complete(self) -> None:
        """COMPLETE, which waits until the rows are out, ends the transfer."""
        sharer = OriginalSharer(picture(6, 4), REQUESTER)
        sharer.receive_datagram(ACK_SIZE, REQUESTER, 0.0)
        sharer.receive_datagram(COMPLETE, REQUESTER, 0.0)
        self.assertEqual(len(run_out(sharer)), 6)
        self.assertIsInstance(sharer.next_event(), ImageCompleted)

    def test_queue(self) -> None:
        """No more ROW WANTED wait than its socket's buffer holds."""
        sharer = OriginalSharer(picture(6, 4), REQUESTER)
        sharer.receive_datagram(ACK_SIZE, REQUESTER, 0.0)
        for _ in range(SHARER_QUEUE + 50):
            sharer.receive_datagram(encode_wanted(0), REQUESTER, 0.0)
        self.assertEqual(len(run_out(sharer)), 1 + 4 + 1 + SHARER_QUEUE)


class RequesterTests(SynchronousTestCase):
    """One requester, and what comes to its socket."""

    def test_nobody(self) -> None:
        """Without ACK the requester gives up after 3 s."""
        requester = OriginalRequester(WELCOME)
        self.assertEqual(run_out(requester), [b"IMG"] * 3)
        self.assertEqual(requester.next_event(), GaveUp("3 tries"))

    def test_queue(self) -> None:
        """Rows that come faster than they are decoded are lost when the buffer is full."""
        sharer = OriginalSharer(picture(1200, 60), REQUESTER, row_cost=0.0)
        sharer.receive_datagram(ACK_SIZE, REQUESTER, 0.0)
        sharer.handle_timer(0.0)
        size, *rows, fin = [datagram for datagram, _ in sharer.datagrams_to_send(0.0)]
        requester = OriginalRequester(WELCOME)
        for datagram in (ACK, size, *rows):
            requester.receive_datagram(datagram, TRANSFER, 0.0)
        requester.datagrams_to_send(0.0)
        requester.handle_timer(1.0)
        requester.receive_datagram(fin, TRANSFER, 1.0)
        wanted = [datagram for datagram, _ in requester.datagrams_to_send(1.0)]
        taken = 1 + REQUESTER_QUEUE // len(rows[0])  # the first was being decoded meanwhile
        self.assertEqual(wanted, [*map(encode_wanted, range(taken, 60)), FIN])
