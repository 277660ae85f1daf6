"""Peers that `get --wait` waits for: which of them to try next, and when.

A peer that is offline is tried when presence shows that it has come. One that is shown online, or of which nothing is
known, is tried after pauses that grow from `RETRY_FIRST` to `RETRY_MAX`: it may have crashed a moment ago, or be
unreachable from here only, or there may be no registry to tell. All peers are waited for at once, and tried one after
the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from p2pshare.core.back_off import BackOff
from p2pshare.errors import LinkClosed, NobodyHere, NoSuchPeer, P2pshareError, Unreachable
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.presence import PresenceWatch
from p2pshare.ui.invocation import Invocation

WAIT_MAX = 7 * 86400.0  # seconds for which `--wait` waits, unless the user says how long
RETRY_FIRST, RETRY_MAX = 5.0, 60.0  # seconds until a peer is tried again that is not shown offline


class WaitingPeers:
    """The peers of one command that could not be reached; call `stop` in the end."""

    def __init__(self, invocation: Invocation, directory: Directory, seconds: float) -> None:
        """Wait for `seconds` from now on; `directory` tells who is online."""
        self._invocation = invocation
        self._clock = invocation.reactor
        self._presence = PresenceWatch(invocation.reactor, invocation.rng, directory)
        self._waiting: dict[str, _Waiting] = {}
        self._met: set[str] = set()
        self._due: deque[str] = deque()
        self._news: Deferred[None] | None = None
        self._until = invocation.wall() + seconds
        self._is_over = False
        self._deadline: IDelayedCall | None = self._clock.callLater(seconds, self._end)

    def meets(self, peer: str) -> bool:
        """Note that a peer was found; whether it is for the first time."""
        is_new = peer not in self._met
        self._met.add(peer)
        return is_new

    def add(self, peer: str, error: P2pshareError) -> bool:
        """Wait for a peer, and tell the user why and until when; False if there is no use in waiting.

        A registry that does not know a peer which was found before has lost it for a while.

        Args:
            peer: the peer.
            error: why nothing more can be fetched from it now.
        """
        is_missing = isinstance(error, NobodyHere) or (
            isinstance(error, NoSuchPeer) and peer in self._met
        )
        if self._is_over or isinstance(error, LinkClosed):
            return False
        if not (is_missing or isinstance(error, Unreachable)):
            return False
        waiting = self._waiting.get(peer)
        if waiting is None:
            waiting = self._waiting[peer] = _Waiting(self._invocation, lambda: self._came(peer))
            waiting.stop_watching = self._presence.watch(peer, waiting.presence_changed)
        if waiting.error is None or str(waiting.error) != str(error):
            self._tell(peer, error)
        waiting.error = error
        waiting.begin()
        return True

    async def next(self) -> str | None:
        """Return the next peer to try; None if nobody is left, or the time is over."""
        while self._waiting and not self._due and not self._is_over:
            self._news = Deferred()
            await self._news
        return None if self._is_over or not self._waiting else self._due.popleft()

    def given_up(self) -> list[tuple[str, P2pshareError]]:
        """Return the peers that were waited for in vain, each with the last error."""
        return [(peer, each.error) for peer, each in self._waiting.items() if each.error]

    def done(self, peer: str) -> None:
        """Wait for a peer no longer, if it was waited for."""
        waiting = self._waiting.pop(peer, None)
        if waiting is not None:
            waiting.stop()

    def stop(self) -> None:
        """Wait for nobody any more."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        for peer in tuple(self._waiting):
            self.done(peer)
        self._presence.stop()

    def _came(self, peer: str) -> None:
        self._due.append(peer)
        self._wake()

    def _end(self) -> None:
        self._deadline, self._is_over = None, True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.callback(None)

    def _tell(self, peer: str, error: P2pshareError) -> None:
        output, until = self._invocation.output, datetime.fromtimestamp(self._until, UTC)
        output.event("waiting", **{"from": peer}, why=str(error), until=int(self._until))
        output.remark(
            f"{error} Waiting for {peer} until {until:%Y-%m-%d %H:%M} UTC; Ctrl+C ends that."
        )


class _Waiting:
    """One peer that is waited for."""

    def __init__(self, invocation: Invocation, on_due: Callable[[], object]) -> None:
        self._clock = invocation.reactor
        self._on_due = on_due
        self._back_off = BackOff(RETRY_FIRST, RETRY_MAX, invocation.rng)
        self._is_online: bool | None = None
        self._is_asleep = False  # whether it is not being tried
        self._timer: IDelayedCall | None = None
        self.error: P2pshareError | None = None
        """Why nothing could be fetched last."""
        self.stop_watching: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Wait, after a try that failed."""
        self._is_asleep = True
        if self._is_online is not False:
            self._wake_after(self._back_off.next_delay())

    def presence_changed(self, is_online: bool) -> None:
        """Try a peer that comes at once, and one that is away not before it comes."""
        before, self._is_online = self._is_online, is_online
        if is_online and before is False and self._is_asleep:
            self._back_off.reset()
            self._wake_after(0.0)
        elif not is_online:
            self._cancel()

    def stop(self) -> None:
        """Wait no longer."""
        self._is_asleep = False
        self._cancel()
        self.stop_watching()

    def _wake_after(self, seconds: float) -> None:
        self._cancel()
        self._timer = self._clock.callLater(seconds, self._wake)

    def _wake(self) -> None:
        self._timer, self._is_asleep = None, False
        self._on_due()

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
