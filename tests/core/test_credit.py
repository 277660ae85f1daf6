"""Tests of credit over a whole session: an opener's `ReceiverCore` and a sharer's `SharerCore`, in virtual time.

Between them is a stream, or a carrier that repeats pieces and lets them arrive in any order, until they are dropped.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.credit import LIMITED_STEP_MIN, STEPS, CreditControl
from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.core.rate import RateLimit
from p2pshare.core.receiver import ReceiverCore
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.session_messages import Credit, Message
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Done,
    Failed,
    Fault,
    FileHeader,
    Stopped,
)
from tests.core.test_sharer import Sharer

MIB = BLOCK_SIZE
WINDOW = 4 * MIB  # bytes
ZEROS = memoryview(bytes(PIECE_MAX))
TICK = 0.05  # seconds
GONE = 1  # bytes of a file that its sharer does not find
UNREADABLE = 3 * MIB  # bytes of a file of which its sharer can read nothing


class ChangedLimitTests(SynchronousTestCase):
    """The user changes the rate limit during a session."""

    def test_changed(self) -> None:
        """Grants follow the new limit: less at a time for a lower one, and the whole window without one."""
        limit = RateLimit(None, 0.0, burst_min=LIMITED_STEP_MIN)
        crediting = CreditControl(limit, 0.0, WINDOW)
        self.assertEqual(crediting.granted, WINDOW)
        limit.change(40_000.0, 0.0)
        crediting.arrived = WINDOW
        crediting.release(WINDOW)
        granted = crediting.due(0.0)
        assert granted is not None
        self.assertLessEqual(granted - WINDOW, 20_000)
        self.assertIsNotNone(crediting.get_timer(0.0))
        limit.change(None, 0.5)
        self.assertIsNone(crediting.get_timer(0.5))
        self.assertEqual(crediting.due(0.5), 2 * WINDOW)


class Fetched:
    """One file that an opener asks for; its blocks stay in memory until `release`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.blocks: list[ArrivedBlock] = []
        self.is_over = False

    def announced(self, header: FileHeader) -> None: ...

    def block_arrived(self, block: ArrivedBlock) -> None:
        self.blocks.append(block)

    def ended(self, root: bytes) -> None:
        self.is_over = True

    def outgrown(self, header: FileHeader) -> None:
        self.is_over = True

    def failed(self, why: Fault) -> None:
        self.is_over = True

    def interrupted(self) -> None:
        raise AssertionError("the session lasts")

    def release(self) -> None:
        for block in self.blocks:
            block.release()
        self.blocks.clear()


class Session:
    """Both ends, and the messages and pieces between them."""

    def __init__(self, rate: int | None, disorder: random.Random | None = None) -> None:
        self.now = 0.0
        self.disorder = disorder
        limit = RateLimit(rate, self.now, burst_min=LIMITED_STEP_MIN)
        self.crediting = CreditControl(limit, self.now, WINDOW)
        self.receiver = ReceiverCore(self.crediting)
        self.receiver.on_release = self.grant
        broken = {(str(GONE),): Fault.NOT_FOUND, ("read", str(UNREADABLE)): Fault.UNREADABLE}
        self.sharer = Sharer(broken=broken)
        self.sharer.say(Credit(self.crediting.granted))
        self.up: deque[Message] = deque()
        self.down: deque[Any] = deque()
        self.pieces: list[tuple[int, int, int]] = []  # on their way, if there is no order
        self.sizes: dict[int, int] = {}
        self.files: list[Fetched] = []

    def grant(self) -> None:
        if (amount := self.crediting.due(self.now)) is not None:
            self.up.append(Credit(amount))

    def get(self, size: int) -> Fetched:
        file = Fetched(self.receiver.next_id)
        self.files.append(file)
        self.up.append(self.receiver.get(file, (str(size),)))
        self.sizes[file.number] = size
        return file

    def stop(self, file: Fetched) -> None:
        """Cancel a transfer, or say that it is done if it has ended."""
        if file.is_over:
            self.up.append(Done((file.number,)))
        else:
            self.receiver.forget(file.number)
            self.up.append(Cancel(file.number, Cancelled.BY_USER))
        file.is_over = True
        file.release()

    def tick(self) -> None:
        self.now += TICK
        self.grant()

    def serve(self, works: int = 10**9, pieces: int = 10**9) -> None:
        """Let the sharer do some of its work, and send some pieces."""
        while works and self.up:
            self.sharer.say(self.up.popleft())
        while works:
            self.sharer.collect()
            if not self.sharer.pending:
                break
            self.sharer.work(self.sharer.pending.pop(0))
            works -= 1
        self.sharer.send(pieces)
        for each in self.sharer.out:
            if self.disorder is None or isinstance(each, Message):
                self.down.append(each)
            else:
                self.pieces.append(each)
            if self.disorder and isinstance(each, Failed | Stopped):
                self.pieces = [
                    piece
                    for piece in self.pieces
                    if piece[0] != each.id or self.disorder.random() < 0.5
                ]
        self.sharer.out.clear()

    def take(self, count: int = 10**9) -> None:
        """Let some messages and pieces arrive."""
        while (self.down or self.pieces) and count:
            count -= 1
            match self.next_down():
                case (number, offset, size):
                    self.receiver.data_received(number, offset, ZEROS[:size])
                    self.grant()
                case message:
                    self.receiver.message_received(message)

    def next_down(self) -> Any:
        """Return the message or piece that arrives next."""
        rng = self.disorder
        if rng is None or not self.pieces or (self.down and rng.random() < 0.5):
            return self.down.popleft()
        piece = rng.choice(self.pieces)
        if rng.random() < 0.8:  # otherwise it comes again
            self.pieces.remove(piece)
        self.receiver.size_received(piece[0], self.sizes[piece[0]])
        return piece

    def finish(self, file: Fetched, until: float) -> None:
        """Fetch one file to its end, as long as it is not `until`."""
        while not file.is_over and self.now < until:
            self.serve()
            self.take()
            file.release()
            self.tick()


ACTIONS = st.one_of(
    st.tuples(st.just("get"), st.sampled_from([0, 7, MIB, 2 * MIB + 5, 3 * MIB + 1])),
    st.tuples(st.just("get"), st.sampled_from([GONE, UNREADABLE])),
    st.tuples(st.sampled_from(["stop", "release"]), st.integers(0, 5)),
    st.tuples(st.just("tick"), st.integers(1, 9)),
    st.tuples(st.sampled_from(["serve", "take"]), st.integers(1, 12)),
)


class CreditTests(SynchronousTestCase):
    @settings(max_examples=25)
    @given(
        st.lists(ACTIONS, max_size=40),
        st.sampled_from([None, 40_000, 1_000_000]),
        st.none() | st.randoms(use_true_random=False),
    )
    def test_given_back(
        self, steps: list[tuple[str, int]], rate: int | None, disorder: random.Random | None
    ) -> None:
        """After any transfers, completed, failed or cancelled, both sides agree about the credit, and the next transfer
        has all of it.
        """
        session = Session(rate, disorder)
        for what, number in steps:
            match what:
                case "get":
                    session.get(number)
                case "stop" | "release" if session.files:
                    file = session.files[number % len(session.files)]
                    session.stop(file) if what == "stop" else file.release()
                case "tick":
                    for _ in range(number):
                        session.tick()
                case "serve":
                    session.serve(number, number)
                case "take":
                    session.take(number)
        for file in session.files:
            session.stop(file)
        crediting = session.crediting
        while session.down or session.up or session.pieces:
            session.serve()
            session.take()
        for _ in range(30):
            session.tick()
            session.serve()
        self.assertFalse(any(session.sharer.kept()), session.sharer.kept())
        self.assertEqual(crediting.arrived, session.sharer.core._outflow._sent)
        whole = CreditControl(RateLimit(rate, 0.0, burst_min=LIMITED_STEP_MIN), 0.0, WINDOW)
        for second in range(1, 10):
            whole.due(float(second))
        step = max(LIMITED_STEP_MIN, WINDOW // STEPS if rate is None else rate // 10)
        self.assertLess(abs(crediting.outstanding - whole.outstanding), step)
        began = session.now
        size = 2 * MIB if rate == 40_000 else 6 * MIB
        file = session.get(size)
        seconds = 2 * TICK * 10 if rate is None else size / rate
        session.finish(file, began + 1.1 * seconds + 1.0)
        self.assertTrue(file.is_over)
