"""A train: what one system call sends or receives."""

from __future__ import annotations

from dataclasses import dataclass

Address = tuple[str, int]
"""An IP address in its text form, and a port."""

TRAIN_MAX = (
    65_507  # bytes of one train (UDP payload over IPv4), the bound of UDP_SEGMENT and UDP_GRO
)
SEGMENTS_MAX = 64  # segments in a train: UDP_MAX_SEGMENTS of older Linux kernels


@dataclass(frozen=True, slots=True)
class Train:
    """UDP payloads (segments) that lie behind each other in one buffer."""

    data: bytes | memoryview
    segment: int
    """Bytes of each segment; the last may be shorter."""
    address: Address
    """Where it goes."""
