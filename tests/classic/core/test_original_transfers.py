"""Picture transfers in virtual time between our machines and models of the originals."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.requester import (
    PictureCompleted,
    PictureRequest,
    RequestClosed,
    RequestEvent,
    RequestFailed,
)
from p2pshare.classic.core.row_sender import TransferEnd
from p2pshare.core.datagram_core import Address, Outgoing
from p2pshare.pictures.pixels import Pixels
from p2pshare.testing.links import Conditions
from p2pshare.testing.network import Fate, Rule, VirtualNetwork
from tests import examples
from tests.classic.core.fetches import WELCOME, SharerSide
from tests.originals.machines import GaveUp, ImageCompleted, OriginalRequester, OriginalSharer
from tests.strategies import pictures, seeds

SHARER = WELCOME[0]


def picture(height: int, width: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


class OriginalRequests(SharerSide):
    """An original requester and our sharer."""

    def __init__(
        self,
        pixels: Pixels,
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        rule: Rule | None = None,
        seconds_per_pixel: float = 0.0025 / 1200,
    ) -> None:
        super().__init__(pixels, conditions, seed=seed, rule=rule)
        self.events: list[object] = []
        self.finished_at = 0.0
        self.requester = OriginalRequester(WELCOME, 0.0, pixels.shape[1] * seconds_per_pixel)
        self.network.attach(("10.0.0.2", 7000), self.requester, self._requester_event)

    @property
    def exact(self) -> bool:
        return [type(event) for event in self.events] == [ImageCompleted] and bool(
            (self.events[0].pixels == self.pixels).all()  # type: ignore[attr-defined]
        )

    def _requester_event(self, event: object) -> None:
        self.events.append(event)
        self.finished_at = self.network.now


class OriginalWelcome:
    """The welcome port of an original: it answers each IMG with ACK, and starts a transfer for each."""

    def __init__(self) -> None:
        self._answers: Outgoing = []
        self._requesters: list[Address] = []

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        if data == b"IMG":
            self._answers.append((b"ACK", addr))
            self._requesters.append(addr)

    def datagrams_to_send(self, now: float) -> Outgoing:
        answers, self._answers = self._answers, []
        return answers

    def get_timer(self) -> None:
        return None

    def handle_timer(self, now: float) -> None:
        """Do nothing, as nothing is ever due."""

    def next_event(self) -> Address | None:
        return self._requesters.pop(0) if self._requesters else None


class OurRequests:
    """Our requester and an original sharer."""

    def __init__(
        self,
        pixels: Pixels,
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        rule: Rule | None = None,
    ) -> None:
        self.network = VirtualNetwork(random.Random(seed), conditions, rule)
        self.pixels = pixels
        self.sharers = 0
        self.events: list[RequestEvent] = []
        self.attempts = 0
        self.network.attach(WELCOME, OriginalWelcome(), self._requested)
        self._ask()

    def run(self) -> None:
        self.network.run(600.0)

    @property
    def exact(self) -> bool:
        last = self.events[-1]
        return isinstance(last, PictureCompleted) and bool((last.rows.pixels == self.pixels).all())

    def _ask(self) -> None:
        self.attempts += 1
        request = PictureRequest(WELCOME, self.network.now)
        self.network.attach(("10.0.0.2", 7000 + self.attempts), request, self._request_event)

    def _request_event(self, event: RequestEvent) -> None:
        if not isinstance(event, RequestClosed):
            self.events.append(event)
        if isinstance(event, RequestFailed) and self.attempts < 3:
            self._ask()

    def _requested(self, requester: Address) -> None:
        self.sharers += 1
        sharer: Any = OriginalSharer(self.pixels, requester, self.network.now)
        self.network.attach((SHARER, 6000 + self.sharers), sharer)


class OriginalRequesterTests(SynchronousTestCase):
    def test_large_picture(self) -> None:
        """A large picture arrives completely in one request, at the speed of the original."""
        fetch = OriginalRequests(picture(900, 1200))
        fetch.run()
        self.assertTrue(fetch.exact, fetch.events)
        self.assertEqual(fetch.endings, [TransferEnd.COMPLETE])
        self.assertLess(fetch.finished_at, 4.0)

    def test_slow_original(self) -> None:
        """The pace adapts to an original that takes four times as long per row."""
        fetch = OriginalRequests(picture(600, 1200), seconds_per_pixel=0.01 / 1200)
        fetch.run()
        self.assertTrue(fetch.exact, fetch.events)
        self.assertEqual(fetch.requester.tries, 1)
        self.assertLess(fetch.finished_at, 15.0)

    def test_each_kind_lost_once(self) -> None:
        """The loss of the first SIZE, ACK_SIZE, FIN, row or ROW WANTED needs no new IMG."""
        row = 3 * 40 + 5
        for length, from_sharer in ((9, True), (row, True), (3, True), (8, False), (5, False)):
            lost: list[int] = []

            def rule(
                number: int,
                data: bytes,
                source: Address,
                _: Address,
                kind: tuple[int, bool] = (length, from_sharer),
                lost: list[int] = lost,
            ) -> Fate | None:
                if len(data) == row and number < 60 and number % 7 == 0:
                    return Fate(())  # so that there are wishes
                word = data in (b"IMG", b"ACK")
                if not lost and not word and (len(data), source[0] == SHARER) == kind:
                    lost.append(number)
                    return Fate(())
                return None

            fetch = OriginalRequests(picture(100, 40), rule=rule)
            fetch.run()
            self.assertEqual(len(lost), 1, (length, from_sharer))
            self.assertTrue(fetch.exact, (length, from_sharer, fetch.events))
            self.assertEqual(fetch.requester.tries, 1)

    @settings(max_examples=examples(300))
    @given(pictures(), st.floats(0, 0.1), seeds)
    def test_lossy_networks(self, pixels: Pixels, loss: float, seed: int) -> None:
        """Lost rows are sent again; only the loss of a word that an original sends once costs a new request."""
        fetch = OriginalRequests(
            pixels, Conditions(loss=loss, reordering=1.0, reordering_delay=0.01), seed=seed
        )
        fetch.run()
        self.assertTrue(fetch.exact or isinstance(fetch.events[0], GaveUp))
        if isinstance(fetch.events[0], GaveUp):
            self.assertGreater(loss, 0.01)
        self.assertEqual(fetch.welcome.serving, 0)


class OriginalSharerTests(SynchronousTestCase):
    def test_large_picture(self) -> None:
        """A large picture arrives completely in one request, at the speed of the original."""
        fetch = OurRequests(picture(900, 1200))
        fetch.run()
        self.assertTrue(fetch.exact, fetch.events)
        self.assertEqual((fetch.attempts, fetch.sharers), (1, 1))

    def test_many_rows_lost(self) -> None:
        """Rows are requested no faster than an original can encode them, and never more than its buffer holds."""

        def rule(_: int, data: bytes, source: Address, destination: Address) -> Fate | None:
            early = fetch.network.now < 1.5
            return Fate(()) if early and len(data) > 9 and source[0] == SHARER else None

        fetch = OurRequests(picture(900, 1200), rule=rule)
        fetch.run()
        self.assertTrue(fetch.exact, fetch.events)
        self.assertEqual(fetch.attempts, 1)

    def test_fin_lost(self) -> None:
        """If the only FIN of an original and some rows are lost, the requester's timer asks for the rows."""

        def rule(number: int, data: bytes, source: Address, destination: Address) -> Fate | None:
            return Fate(()) if source[0] == SHARER and (data == b"FIN" or number % 9 == 8) else None

        fetch = OurRequests(picture(60, 40), rule=rule)
        fetch.run()
        self.assertTrue(fetch.exact, fetch.events)
        self.assertEqual(fetch.attempts, 1)

    @settings(max_examples=examples(300))
    @given(pictures(), st.floats(0, 0.2), seeds)
    def test_lossy_networks(self, pixels: Pixels, loss: float, seed: int) -> None:
        """Lost rows are sent again; only the loss of a word that an original sends once costs a new request."""
        fetch = OurRequests(
            pixels, Conditions(loss=loss, reordering=1.0, reordering_delay=0.01), seed=seed
        )
        fetch.run()
        last = fetch.events[-1]
        self.assertIsInstance(last, (PictureCompleted, RequestFailed))
        self.assertTrue(fetch.exact or fetch.attempts == 3)
