"""How far each person is with an offer, as the sender sees it: by the transfers below the folder of the offer."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.core.rate import RateMeter
from p2pshare.core.sharer_transfers import Outcome, Transfer

CONFIRMED_MAX = 100_000  # files of an offer, for one person, that are not counted twice
BEGUN_MAX = 1024  # files of an offer, for one person, that are there in part and count
EVENT_EVERY = 0.5  # seconds between two events about the progress of an offer


class Progress:
    """How much one person has of one offer."""

    def __init__(self, total: int, now: float) -> None:
        """Begin; the offer has `total` bytes."""
        self._total = total
        self._meter = RateMeter(now)
        self._confirmed = 0
        self._files: set[int] = set()  # hashes of the paths of confirmed files
        self._begun: dict[int, int] = {}  # bytes of the others that are there; the latest last

    @property
    def bytes_done(self) -> int:
        """Bytes of the files that are confirmed, and of those that are there in part."""
        return min(self._total, self._confirmed + sum(self._begun.values()))

    def rate(self, now: float) -> int:
        """Return the bytes per second."""
        return round(self._meter.rate(now))

    def sent(self, transfer: Transfer, size: int, now: float) -> None:
        """Count bytes that have gone out, beside those that the person had before."""
        self._meter.add(size, now)
        path, header = hash(transfer.request.path), transfer.header
        if path not in self._files and header is not None:
            there = header.size - transfer.to_send + transfer.sent
            self._begun.pop(path, None)
            self._begun[path] = min(header.size, there)
            while len(self._begun) > BEGUN_MAX:
                del self._begun[next(iter(self._begun))]

    def ended(self, transfer: Transfer) -> None:
        """Count a file once, if the person has confirmed it; an interrupted one goes on later."""
        path, header = hash(transfer.request.path), transfer.header
        if transfer.outcome is Outcome.CONFIRMED and header is not None:
            self._begun.pop(path, None)
            if path not in self._files:
                self._confirmed += header.size
                if len(self._files) < CONFIRMED_MAX:
                    self._files.add(path)
        elif transfer.outcome in (Outcome.CANCELLED, Outcome.FAILED):
            self._begun.pop(path, None)


class Throttle:
    """Calls something for an offer, at most every `EVENT_EVERY` seconds, and once more in the end."""

    def __init__(
        self, clock: IReactorTime, call: Callable[[str], object], every: float = EVENT_EVERY
    ) -> None:
        self._clock = clock
        self._call = call
        self._every = every
        self._timers: dict[str, IDelayedCall] = {}

    def soon(self, offer_id: str) -> None:
        """Call it soon."""
        if offer_id not in self._timers:
            self._timers[offer_id] = self._clock.callLater(self._every, self._due, offer_id)

    def stop(self) -> None:
        """Call nothing more."""
        for each in self._timers.values():
            each.cancel()
        self._timers.clear()

    def _due(self, offer_id: str) -> None:
        del self._timers[offer_id]
        self._call(offer_id)
