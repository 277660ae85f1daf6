"""A sharer and a requester on a virtual network, wired as the peer wires them."""

from __future__ import annotations

import random

from p2pshare.classic.core.requester import (
    Failure,
    PictureCompleted,
    PictureRequest,
    RequestEvent,
    RequestFailed,
)
from p2pshare.classic.core.row_receiver import RowReceiver
from p2pshare.classic.core.row_sender import PictureSender, TransferEnd
from p2pshare.classic.core.welcome import TransferRequested, Welcome
from p2pshare.pictures.pixels import Pixels
from p2pshare.testing.links import Conditions
from p2pshare.testing.network import Rule, VirtualNetwork

WELCOME = ("10.0.0.1", 5000)
ATTEMPTS = 3


class SharerSide:
    """A network with a sharer of ours."""

    def __init__(
        self,
        pixels: Pixels,
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        rule: Rule | None = None,
    ) -> None:
        self.pixels = pixels
        self.network = VirtualNetwork(random.Random(seed), conditions, rule)
        self.welcome = Welcome()
        self.endings: list[TransferEnd] = []
        self.senders: list[PictureSender] = []
        self.network.attach(WELCOME, self.welcome, self._requested)

    def run(self, until: float = 600.0) -> None:
        self.network.run(until)

    def _requested(self, request: TransferRequested) -> None:
        sender = PictureSender(
            self.pixels, request.requester, self.network.now, reports=request.reports
        )
        here = (WELCOME[0], 6000 + len(self.senders))
        self.senders.append(sender)

        def ended(event: TransferEnd) -> None:
            self.endings.append(event)
            self.network.detach(here)
            succeeded = event is TransferEnd.COMPLETE
            self.welcome.transfer_ended(request, self.network.now, succeeded=succeeded)

        self.network.attach(here, sender, ended)


class PictureFetch(SharerSide):
    """One fetch of one picture, with up to three requests, as `classic.download` makes them."""

    def __init__(
        self,
        pixels: Pixels,
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        rule: Rule | None = None,
    ) -> None:
        super().__init__(pixels, conditions, seed=seed, rule=rule)
        self.completed: list[RowReceiver] = []
        self.failures: list[Failure] = []
        self.finished_at: float | None = None
        self._ask()

    @property
    def exact(self) -> bool:
        """Whether the picture arrived exactly once and unchanged."""
        return len(self.completed) == 1 and bool((self.completed[0].pixels == self.pixels).all())

    def _ask(self) -> None:
        port = 7000 + len(self.failures)
        self.network.attach(
            ("10.0.0.2", port), PictureRequest(WELCOME, self.network.now), self._request_event
        )

    def _request_event(self, event: RequestEvent) -> None:
        if isinstance(event, PictureCompleted):
            self.completed.append(event.rows)
            self.finished_at = self.network.now
        elif isinstance(event, RequestFailed):
            self.failures.append(event.failure)
            self.finished_at = self.network.now
            if len(self.failures) < ATTEMPTS and event.failure is not Failure.NO_ANSWER:
                self._ask()
