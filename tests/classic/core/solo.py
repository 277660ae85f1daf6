"""One core alone, driven as `p2pshare.classic.net.datagram_driver` drives it; the test replaces the network."""

from __future__ import annotations

from typing import Any

from p2pshare.core.datagram_core import Address, DatagramCore

IDLE_TURNS_MAX = 3  # in a row at one moment: more is a busy loop


class Solo:
    """Hands a core its datagrams and the time, and keeps its output."""

    def __init__(self, core: DatagramCore) -> None:
        """Start at 0 s."""
        self.core = core
        self.now = 0.0
        self.sent: list[tuple[float, bytes, Address]] = []
        """When, what and where to."""
        self.events: list[Any] = []
        self._idle = 0
        self.run(0.0)

    def hear(self, data: bytes, addr: Address) -> list[bytes]:
        """Deliver a datagram now; return what the core sends at once."""
        before = len(self.sent)
        self.core.receive_datagram(data, addr, self.now)
        self._take()
        self.run(self.now)
        return [sent for _, sent, _ in self.sent[before:]]

    def run(self, until: float) -> list[bytes]:
        """Let time pass until it is `until` (seconds); what the core sends meanwhile.

        Raises:
            AssertionError: the core wants time again and again, and does nothing with it.
        """
        before = len(self.sent)
        while (timer := self.core.get_timer()) is not None and timer <= until:
            self._note_idleness(moved=timer > self.now)
            self.now = max(self.now, timer)
            self.core.handle_timer(self.now)
            self._take()
        self.now = max(self.now, until)
        return [sent for _, sent, _ in self.sent[before:]]

    def times(self, data: bytes) -> list[float]:
        """Return when this datagram was sent, in seconds."""
        return [round(when, 3) for when, sent, _ in self.sent if sent == data]

    def _take(self) -> None:
        known = len(self.sent) + len(self.events)
        datagrams = self.core.datagrams_to_send(self.now)
        self.sent += [(self.now, data, addr) for data, addr in datagrams]
        while (event := self.core.next_event()) is not None:
            self.events.append(event)
        if len(self.sent) + len(self.events) > known:
            self._idle = 0

    def _note_idleness(self, *, moved: bool) -> None:
        self._idle = 0 if moved else self._idle + 1
        if self._idle > IDLE_TURNS_MAX:
            raise AssertionError(f"busy at {self.now} s without doing anything")
