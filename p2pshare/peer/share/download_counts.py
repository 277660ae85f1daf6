"""Counts the downloads of a share, which may end after a number of them.

A *download* belongs to a key. It begins with the first file of the share that is opened for the key. It is over when
the peer says that its job has ended and has confirmed a file of the share, or `PAUSE_MAX` after its last session. So an
interrupted download that is resumed counts once, and a peer cannot avoid being counted by confirming nothing.

When as many have begun as the share allows, it is shared with their keys alone. When they are over, so is the share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2pshare.wire.keys import PublicKey

PAUSE_MAX = 3600.0  # seconds without a session after which a download is over
OPEN_MAX = 1000  # downloads of a share that are known to be open; of more, the one that paused first is forgotten


@dataclass(slots=True)
class _Download:
    """A download that is not over."""

    last: float
    """When a file was opened, or a session ended, last; seconds of the clock."""
    sessions: int = 0
    """Sessions that fetch from the share."""


class Downloads:
    """The downloads of a share. Times are seconds of a clock that never runs backwards."""

    def __init__(
        self,
        most: int | None = None,
        count: int = 0,
        keys: Iterable[PublicKey] = (),
        now: float = 0.0,
    ) -> None:
        """Continue a count.

        Args:
            most: downloads after which the share ends; None for any number.
            count: downloads that have begun before.
            keys: those of them that were not over.
            now: the time; these have paused since.
        """
        self.most = most
        self.count = count
        """Downloads that have begun."""
        self._open = {
            key: _Download(now) for key in keys
        }  # the one that was opened first at the beginning

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """The keys whose downloads are not over."""
        return tuple(self._open)

    @property
    def is_full(self) -> bool:
        """Whether no further download may begin."""
        return self.most is not None and self.count >= self.most

    @property
    def is_over(self) -> bool:
        """Whether all downloads that are allowed are over."""
        return self.is_full and not self._open

    def begin(self, key: PublicKey, now: float) -> bool:
        """Note that a file is opened for a key; return False if its download may not begin."""
        found = self._open.get(key)
        if found is None:
            if self.is_full:
                return False
            self._make_room()
            found = self._open[key] = _Download(now)
            self.count += 1
        found.last = now
        return True

    def forget(self, key: PublicKey) -> None:
        """Take back a download that has just begun, since it could not be written."""
        del self._open[key]
        self.count -= 1

    def attach(self, key: PublicKey) -> None:
        """Note that a session has begun to fetch for a key; `detach` it in the end."""
        if (found := self._open.get(key)) is not None:
            found.sessions += 1

    def detach(self, key: PublicKey, now: float, *, is_complete: bool) -> None:
        """Note that a session does not fetch any more; its download is over if the peer said that it is complete."""
        if (found := self._open.get(key)) is None:
            return
        found.sessions -= 1
        found.last = now
        if is_complete and found.sessions <= 0:
            del self._open[key]

    def expire(self, now: float) -> None:
        """Forget downloads that have paused for too long."""
        for key, each in list(self._open.items()):
            if each.sessions <= 0 and now - each.last >= PAUSE_MAX:
                del self._open[key]

    def next_expiry(self) -> float | None:
        """Return when `expire` is to be called next; None if no download pauses, or their number does not matter."""
        if not self.is_full:
            return None
        pausing = [each.last for each in self._open.values() if each.sessions <= 0]
        return min(pausing) + PAUSE_MAX if pausing else None

    def _make_room(self) -> None:
        if len(self._open) >= OPEN_MAX and self.most is None:
            pausing = [key for key, each in self._open.items() if each.sessions <= 0]
            self._open.pop(min(pausing or self._open, key=lambda key: self._open[key].last))
