"""A train: equal datagrams in one buffer."""

from __future__ import annotations

from dataclasses import dataclass

Address = tuple[str, int]
"""An IP address in its text form, and a port."""

TRAIN_MAX = 352 * 1024  # bytes: a third of a block in packets of 16 KiB; longer ones save little


@dataclass(frozen=True, slots=True)
class Train:
    """UDP payloads (segments) that lie behind each other in one buffer."""

    data: bytes | memoryview
    segment: int
    """Bytes of each segment; the last may be shorter."""
    address: Address
    """Where it goes."""
