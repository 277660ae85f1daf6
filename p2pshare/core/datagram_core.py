"""The interface of every core that speaks in datagrams: bytes and the time go in, datagrams and events come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

Address = tuple[str, int]
"""An IP address in its text form, and a port."""

Outgoing = list[tuple[bytes, Address]]
"""Datagrams to send, each with its destination."""


class TimedCore(Protocol):
    """What all datagram cores share: no socket, clock or randomness; `now` is in seconds."""

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer` and then send what is due; None if only a datagram matters."""

    def handle_timer(self, now: float) -> None:
        """Process the passing of time."""

    def next_event(self) -> Any:
        """Return the oldest event that was not returned yet, or None."""


class DatagramCore(TimedCore, Protocol):
    """A core that speaks in single datagrams."""

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Process a datagram."""

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Return the datagrams that are due; the core does not return them again."""


@runtime_checkable
class TrainCore(TimedCore, Protocol):
    """A core that speaks in trains: equal segments in one buffer, of which the last may be shorter."""

    def receive_train(
        self, data: memoryview, segment: int, address: Address, now: float, ce: int = 0
    ) -> None:
        """Process a train, valid during this call, with segments of `segment` bytes, `ce` of them marked (ECN)."""

    def trains_to_send(self, now: float, budget: int) -> Sequence[OutgoingTrain]:
        """Return trains that are due, of about `budget` bytes at most; the core does not return them again."""

    def datagram_refused(self, address: Address) -> None:
        """Take a hint: the latest datagram to `address` was larger than the interface carries."""


class OutgoingTrain(Protocol):
    """A train to send."""

    @property
    def data(self) -> bytes | memoryview:
        """All segments."""

    @property
    def segment(self) -> int:
        """Bytes of each segment but the last."""

    @property
    def address(self) -> Address:
        """Where it goes."""
