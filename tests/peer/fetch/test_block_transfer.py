"""Tests of `p2pshare.peer.fetch.block_transfer`: every event in every state, and any order of events."""

from __future__ import annotations

import itertools
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import BlockCorrupt, CannotSave, InUse
from p2pshare.peer.fetch.block_transfer import (
    _TRANSITIONS,
    BlockTransfer,
    TransferEvent,
    TransferState,
    cancel_reason,
)
from p2pshare.peer.fetch.disk_work import MOMENT, DiskWork
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.wire.transfer_messages import Cancelled, Fault, FileHeader
from tests import examples
from tests.peer.fetch.test_disk_work import Block, File

HEADER = FileHeader(7, 1000, 1, False, "v1")
STEPS = ["header", "prepared", "block", "bad block", "end", "fault", "loss", "stop", "tick", "time"]


class Part(File):
    """A part that syncs, unless it is broken."""

    unsynced = 1

    def sync(self) -> None:
        if self._bad is not None:
            raise CannotSave(path="x", reason="the disk reports an error")


class TransferTests(SynchronousTestCase):
    """A transfer with a sharer that does anything, and a disk that is slow."""

    def setUp(self) -> None:
        self.reactor = ThreadlessReactor()
        self.cancelled: list[Cancelled] = []
        self.opening: Deferred[Part] = Deferred()
        self.part = Part()
        self.blocks: list[Block] = []
        context = SimpleNamespace(
            remote=SimpleNamespace(
                get=lambda *_: 7, cancel=lambda number, why: self.cancelled.append(why)
            ),
            disk=DiskWork(cast(Any, self.reactor), self.fail),
            reactor=self.reactor,
            stop=self.fail,
        )
        self.transfer = BlockTransfer(cast(Any, context), self.announced, lambda _: None)
        self.transfer.begin(("x",), "", ())

    def announced(self, _: FileHeader) -> None:
        async def opening() -> Part:
            return await self.opening

        self.transfer.prepare(cast(Coroutine[Any, Any, Any], opening()))

    def test_table(self) -> None:
        """Every event in every state does what the table says, or nothing."""
        for state, event in itertools.product(TransferState, TransferEvent):
            self.transfer.state = state
            self.assertIs(self.transfer._move(event), event in _TRANSITIONS[state])
            self.assertIs(self.transfer.state, _TRANSITIONS[state].get(event, state))

    @settings(max_examples=examples(150), deadline=None)
    @given(st.lists(st.sampled_from(STEPS), max_size=14), st.booleans())
    def test_any_order(self, steps: list[str], is_slow: bool) -> None:
        """In any order of events it ends once, when no thread uses the part, and with all memory released."""
        self.setUp()
        let_go = self.reactor.hold_threads() if is_slow else lambda: None
        is_open, transfer = True, self.transfer
        for step in [*steps, "stop"]:
            if step == "header" and is_open and transfer.header is None:
                transfer.announced(HEADER)
            elif step == "prepared" and transfer.header is not None and not self.opening.called:
                self.opening.callback(self.part)
            elif "block" in step and is_open and transfer.header is not None:
                self.part._bad = 0 if step == "bad block" else None
                self.blocks.append(Block(0))
                transfer.block_arrived(cast(Any, self.blocks[-1]))
            elif step in ("end", "fault", "loss") and is_open:
                is_open = False
                if step == "end":
                    transfer.ended(b"root")
                elif step == "fault":
                    transfer.failed(Fault.BUSY)
                else:
                    transfer.interrupted()
            elif step == "stop":
                transfer.abort(CannotSave(path="x", reason="stopped"))
            elif step == "tick":
                transfer.checkpoint(even_if_durable=True)
            elif step == "time":
                self.reactor.advance(MOMENT)
            is_open &= transfer.state not in (TransferState.ABORTING, TransferState.OVER)
            self.assertEqual(transfer.outcome.called, transfer.state is TransferState.OVER)
        let_go()
        if transfer.header is not None and not self.opening.called:
            self.assertFalse(transfer.outcome.called)
            self.opening.callback(self.part)
        self.reactor.advance(MOMENT)
        self.assertIs(transfer.state, TransferState.OVER)
        self.assertEqual((transfer.held, transfer._threads), (0, 0))
        self.assertTrue(all(block.is_released for block in self.blocks))
        self.assertLessEqual(len(self.cancelled), 1)
        outcome: list[object] = []
        transfer.outcome.addBoth(outcome.append)
        self.assertEqual(len(outcome), 1)

    def test_cancel_reasons(self) -> None:
        """The sharer hears whether its file is corrupt or this disk fails; anything else is the user's wish."""
        for error, why in (
            (BlockCorrupt(path="x", reason=""), Cancelled.CORRUPT),
            (CannotSave(path="x", reason=""), Cancelled.DISK),
            (InUse(path="x"), Cancelled.BY_USER),
            (KeyError(), Cancelled.BY_USER),
        ):
            self.assertIs(cancel_reason(error), why)
