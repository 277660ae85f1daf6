"""A fetch while somebody looks on: a person at a terminal, or a program that reads events."""

from __future__ import annotations

import os
from pathlib import Path

from colorama import Fore
from twisted.internet.task import LoopingCall

from p2pshare.classic.download import ClassicDownload, Fetched, Order
from p2pshare.errors import PeerUnreachable
from p2pshare.peer.find.lookup import FoundPeer
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.numbers import duration_text, rate_text, size_text
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.progress import ProgressView
from p2pshare.ui.verbs.classic_items import Wanted
from p2pshare.ui.verbs.connection import announce

DRAW_EVERY = 1 / 15  # seconds
TELL_EVERY = 0.5  # seconds between two events that say how far it is

NOT_VERIFIED = "Not verified: the classic protocol has no checksum for texts."
VERIFIED = "Verified: the checksum of every row was right."


async def fetch_from(
    invocation: Invocation, peer: FoundPeer, wanted: Wanted, *, overwrite: bool = False
) -> Fetched:
    """Fetch a file from a peer. One that is offline is tried, since the registry may be mistaken.

    Raises:
        NotClassic: the peer does not speak the classic protocol.
        PeerOffline: the peer is offline, and does not answer.
        P2pshareError: as for `fetch_watched`.
    """
    peer.expect_classic()
    announce(invocation, peer)
    try:
        return await fetch_watched(invocation, wanted.order(peer.address, overwrite=overwrite))
    except PeerUnreachable as error:
        raise peer.explained(error) from error


async def fetch_watched(invocation: Invocation, order: Order) -> Fetched:
    """Fetch a file, show how it goes, and say what came of it.

    Raises:
        P2pshareError: what `Fetch.run` raises.
    """
    output, clock = invocation.output, invocation.reactor
    fetch = ClassicDownload(clock, order)
    view = output.progress(order.name, "bytes", None, clock.seconds)
    output.event("started", peer=order.peer, kind=order.kind.value)
    watch = _Watch(fetch, view, output, clock.seconds())
    drawing = LoopingCall(lambda: watch.look(clock.seconds()))
    drawing.clock = clock
    view.start()
    drawn = drawing.start(DRAW_EVERY, now=False)
    try:
        fetched = await fetch.run()
        watch.draw()
    finally:
        if drawing.running:
            drawing.stop()
        view.finish()
    await drawn  # fails if it could not be drawn, since nobody reads it any more
    _report(order, fetched, output, invocation.cwd)
    return fetched


class _Watch:
    """Looks at a fetch now and then, and passes on what it sees."""

    def __init__(
        self, fetch: ClassicDownload, view: ProgressView, output: Output, started: float
    ) -> None:
        self._fetch = fetch
        self._view = view
        self._output = output
        self._started = started
        self._told = started

    def look(self, now: float) -> None:
        """Draw, and tell programs if it is time again."""
        self.draw()
        if now - self._told >= TELL_EVERY:
            self._told = now
            self._output.event(
                "progress",
                done=self._fetch.bytes_done,
                total=self._fetch.bytes_total,
                unit="bytes",
                rate=round(self._fetch.bytes_done / (now - self._started), 1),
            )

    def draw(self) -> None:
        rows = self._fetch.rows
        if rows is not None:
            self._view.show_picture(rows.pixels, rows.have)
        self._view.update(self._fetch.bytes_done, self._fetch.bytes_total)


def _report(order: Order, fetched: Fetched, output: Output, cwd: Path) -> None:
    width, height = fetched.pixels or (None, None)
    output.event(
        "fetched",
        peer=order.peer,
        path=fetched.path,
        kind=order.kind.value,
        bytes=fetched.size,
        seconds=round(fetched.seconds, 3),
        width=width,
        height=height,
        verified=fetched.verified,
    )
    size = size_text(fetched.size) if width is None else f"{width} x {height} pixels"
    took = duration_text(fetched.seconds)
    rate = rate_text(fetched.size / max(fetched.seconds, 1e-3))
    output.line(f"Saved {shown_path(fetched.path, cwd)}: {size} in {took}, {rate}.", Fore.GREEN)
    output.line(VERIFIED if fetched.verified else NOT_VERIFIED)


def shown_path(path: Path, cwd: Path) -> str:
    """A path as a person in the folder `cwd` would write it."""
    return min(str(path), os.path.relpath(path, cwd), key=len)
