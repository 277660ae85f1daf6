"""Tests of `p2pshare.classic.net.text`, each end alone and both together."""

from __future__ import annotations

import errno
import io
import random
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.net.text import SAVE_SIZE, STALL_MAX, UNSAVED_MAX, TextReceiver, TextSender
from p2pshare.errors import CannotSave, TextCutShort
from p2pshare.storage.os_errors import plain_reason
from p2pshare.testing.network import ThreadlessReactor
from tests.strategies import seeds


class BrokenFile:
    """A file on a disk that fails."""

    def read(self, size: int) -> bytes:
        raise OSError("the disk fails")

    def write(self, data: bytes) -> None:
        raise CannotSave(path="alice.txt", reason="the disk is full")


def pump(sender: TextSender, receiver: TextReceiver) -> None:
    """Carry all bytes from one end to the other, and close."""
    there, here = StringTransport(), StringTransport()
    receiver.makeConnection(here)
    sender.makeConnection(there)
    while there.producer is not None and not there.disconnecting:
        receiver.dataReceived(there.value())
        there.clear()
        there.producer.resumeProducing()
    receiver.dataReceived(there.value())
    for each in (sender, receiver):
        each.connectionLost(Failure(ConnectionDone()))


class BothEndsTests(SynchronousTestCase):
    @settings(max_examples=50)
    @given(st.integers(0, 3_000_000), seeds)
    def test_round_trip(self, size: int, seed: int) -> None:
        """A text of any length arrives unchanged, and both ends know its length."""
        text = random.Random(seed).randbytes(size)
        saved = io.BytesIO()
        reactor: Any = ThreadlessReactor()
        sender, receiver = (
            TextSender(reactor, io.BytesIO(text).read),
            TextReceiver(reactor, saved.write),
        )
        pump(sender, receiver)
        self.assertEqual(self.successResultOf(sender.done), size)
        self.assertEqual(self.successResultOf(receiver.done), size)
        self.assertEqual(saved.getvalue(), text)
        self.assertEqual(reactor.getDelayedCalls(), [])


class TextSenderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = cast(Any, ThreadlessReactor())
        self.transport = StringTransport()

    def sender(self, file: Any) -> TextSender:
        """Return a connected sender that was asked for its first bytes, as a real transport does."""
        sender = TextSender(self.reactor, file.read)
        sender.makeConnection(self.transport)
        sender.resumeProducing()
        return sender

    def test_memory_is_bounded(self) -> None:
        """A transport that has not sent its bytes gets no more."""
        self.sender(io.BytesIO(bytes(10_000_000)))
        self.assertLess(len(self.transport.value()), 300_000)

    def test_requester_that_does_not_read(self) -> None:
        """The sender gives up a requester that reads nothing for too long."""
        sender = self.sender(io.BytesIO(bytes(10_000_000)))
        self.reactor.advance(STALL_MAX)
        self.failureResultOf(sender.done, TextCutShort)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_requester_that_closes(self) -> None:
        """The number of bytes tells that a requester closed early."""
        sender = self.sender(io.BytesIO(bytes(10_000_000)))
        sender.connectionLost(Failure(ConnectionDone()))
        self.assertLess(self.successResultOf(sender.done), 10_000_000)

    def test_broken_connection(self) -> None:
        """A broken connection is a failure."""
        sender = self.sender(io.BytesIO(b"text"))
        sender.connectionLost(Failure(ConnectionLost()))
        self.failureResultOf(sender.done, TextCutShort)

    def test_file_that_fails(self) -> None:
        """A disk error aborts the connection, so that it does not look like the end of the text."""
        sender = self.sender(BrokenFile())
        self.failureResultOf(sender.done, OSError)
        self.assertTrue(self.transport.disconnecting)

    def test_cancelled(self) -> None:
        """Cancelling aborts the connection."""
        sender = self.sender(io.BytesIO(bytes(10_000_000)))
        sender.done.cancel()
        self.failureResultOf(sender.done, CancelledError)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        sender.connectionLost(Failure(ConnectionLost()))


class TextReceiverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = cast(Any, ThreadlessReactor())
        self.transport = StringTransport()
        self.saved = io.BytesIO()
        self.receiver = TextReceiver(self.reactor, self.saved.write)
        self.receiver.makeConnection(self.transport)

    def test_empty(self) -> None:
        """A text of no bytes is a text."""
        self.receiver.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.successResultOf(self.receiver.done), 0)

    def test_broken_connection(self) -> None:
        """A broken connection is a failure."""
        self.receiver.dataReceived(b"half")
        self.receiver.connectionLost(Failure(ConnectionLost()))
        failure = self.failureResultOf(self.receiver.done, TextCutShort)
        self.assertEqual(failure.value.fields["done"], 4)

    def test_silence(self) -> None:
        """A silent sharer is given up; one that sends a byte now and then is not."""
        for _ in range(5):
            self.reactor.advance(STALL_MAX * 0.9)
            self.receiver.dataReceived(b".")
        self.assertNoResult(self.receiver.done)
        self.reactor.advance(STALL_MAX)
        self.failureResultOf(self.receiver.done, TextCutShort)

    def test_full_disk(self) -> None:
        """A full disk is the error that the user reads, and ends the connection."""
        receiver = TextReceiver(self.reactor, BrokenFile().write)
        receiver.makeConnection(self.transport)
        receiver.dataReceived(bytes(SAVE_SIZE))
        failure = self.failureResultOf(receiver.done, CannotSave)
        self.assertEqual(failure.value.fields["reason"], plain_reason(OSError(errno.ENOSPC, "")))
        self.assertTrue(self.transport.disconnecting)
        receiver.connectionLost(Failure(ConnectionLost()))

    def test_slow_disk(self) -> None:
        """While the disk is busy, at most a few megabytes are accepted; then the transfer continues."""
        slow = self.reactor.hold_threads()
        pieces = 0
        while self.transport.producerState == "producing":
            self.receiver.dataReceived(bytes(65536))
            pieces += 1
        self.assertLessEqual(pieces * 65536, SAVE_SIZE + UNSAVED_MAX + 65536)
        self.reactor.advance(STALL_MAX * 2)
        self.assertNoResult(self.receiver.done)
        slow()
        self.assertEqual(self.transport.producerState, "producing")
        self.receiver.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.successResultOf(self.receiver.done), pieces * 65536)
        self.assertEqual(len(self.saved.getvalue()), pieces * 65536)
