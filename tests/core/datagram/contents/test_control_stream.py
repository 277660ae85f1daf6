"""Tests of the control stream: every byte once and in order, whatever is lost, repeated or reordered."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.contents.control_stream import (
    CREDIT_STEP,
    FRAGMENTS_MAX,
    WINDOW,
    ControlReceiver,
    ControlSender,
)
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.frames import Control


def span(frame: Control) -> tuple[int, int]:
    return frame.offset, frame.offset + len(frame.data)


class SenderTests(SynchronousTestCase):
    def test_lost_bytes_go_first(self) -> None:
        """Lost bytes are sent again before new ones, in frames of any size."""
        sender = ControlSender()
        sender.write(b"abcdefgh")
        self.assertEqual(sender.next_frame(3), Control(0, b"abc"))
        sender.on_lost(0, 3)
        self.assertEqual(sender.next_frame(2), Control(0, b"ab"))
        self.assertEqual(sender.next_frame(9), Control(2, b"c"))
        self.assertEqual(sender.next_frame(9), Control(3, b"defgh"))
        self.assertIsNone(sender.next_frame(9))
        self.assertFalse(sender.is_due)

    def test_acknowledged_bytes_are_forgotten(self) -> None:
        """Acknowledged bytes are neither kept nor sent again, in whatever order the acknowledgements come."""
        sender = ControlSender()
        sender.write(bytes(10))
        sender.next_frame(10)
        sender.on_acked(4, 6)
        self.assertEqual(sender.waiting, 10)
        sender.on_acked(0, 4)
        self.assertEqual(sender.waiting, 4)
        sender.on_lost(0, 8)
        frame = sender.next_frame(10)
        assert frame is not None
        self.assertEqual(span(frame), (6, 8))

    def test_late_acknowledgement_of_lost_bytes(self) -> None:
        """Bytes that were declared lost and then acknowledged are not sent again."""
        sender = ControlSender()
        sender.write(bytes(4))
        sender.next_frame(4)
        sender.on_lost(0, 4)
        sender.on_acked(0, 4)
        self.assertFalse(sender.is_due)
        self.assertIsNone(sender.next_frame(9))

    def test_credit(self) -> None:
        """Nothing goes out beyond the credit; an older CREDIT that comes later is ignored, a smaller one an error."""
        sender = ControlSender(limit=4)
        sender.write(bytes(10))
        self.assertEqual(sender.next_frame(9), Control(0, bytes(4)))
        self.assertIsNone(sender.next_frame(9))
        sender.grant(8, number=5)
        sender.grant(6, number=3)
        self.assertEqual(sender.next_frame(9), Control(4, bytes(4)))
        with self.assertRaises(RemoteProtocolError):
            sender.grant(7, number=6)


class ReceiverTests(SynchronousTestCase):
    def test_beyond_the_credit(self) -> None:
        """Threat 44: bytes beyond the credit are an error, up to the last byte of it they are not."""
        receiver = ControlReceiver(window=8)
        receiver.receive(4, bytes(4))
        with self.assertRaises(RemoteProtocolError):
            receiver.receive(8, b"x")

    def test_credit_grows_with_reading(self) -> None:
        """Arrived bytes give no new credit before they are read, so a user who is paused stops the other end."""
        receiver = ControlReceiver()
        receiver.receive(0, bytes(WINDOW))
        self.assertFalse(receiver.is_credit_due)
        self.assertEqual(len(receiver.read()), WINDOW)
        self.assertTrue(receiver.is_credit_due)
        self.assertEqual(receiver.take_credit(), 2 * WINDOW)
        receiver.receive(WINDOW, bytes(CREDIT_STEP - 1))
        receiver.read()
        self.assertFalse(receiver.is_credit_due)

    def test_gaps_are_bounded(self) -> None:
        """Threat 44: a sender that leaves out every second byte ends the connection before it costs memory."""
        receiver = ControlReceiver()
        with self.assertRaises(RemoteProtocolError):
            for offset in range(1, 2 * FRAGMENTS_MAX + 4, 2):
                receiver.receive(offset, b"x")


class StreamTests(SynchronousTestCase):
    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def test_any_network(self, data: st.DataObject) -> None:
        """All bytes arrive once and in order, although frames are lost, repeated and reordered."""
        window = data.draw(st.integers(8, 64))
        sender, receiver = ControlSender(limit=window), ControlReceiver(window)
        sent = bytes(range(200))
        sender.write(sent)
        arrived = b""
        flying = list[Control]()
        for number in range(2000):
            if frame := sender.next_frame(data.draw(st.integers(1, 20))):
                flying.append(frame)
            if flying:
                frame = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
                match data.draw(st.sampled_from(["arrive", "lose", "repeat", "acknowledge late"])):
                    case "lose":
                        sender.on_lost(*span(frame))
                    case "repeat":
                        receiver.receive(frame.offset, frame.data)
                        sender.on_lost(*span(frame))
                    case "acknowledge late":
                        receiver.receive(frame.offset, frame.data)
                        sender.on_lost(*span(frame))
                        sender.on_acked(*span(frame))
                    case _:
                        receiver.receive(frame.offset, frame.data)
                        sender.on_acked(*span(frame))
                arrived += receiver.read()
                sender.grant(receiver.take_credit(), number)
            if not sender.waiting:
                break
        self.assertEqual(arrived, sent[: len(arrived)])
        self.assertTrue(arrived == sent or sender.waiting)
