"""Two ends of a connection that has its keys, for tests."""

from __future__ import annotations

from p2pshare.core.datagram.protection.keys import AES_128_GCM, CHACHA20_POLY1305, Aead, KeyPair
from p2pshare.core.datagram.protection.opening import (
    DataRun,
    OpenedTrain,
    Opening,
    Payload,
    TrainOpener,
)
from p2pshare.core.datagram.protection.phases import SEALED_MAX, UPDATE_AFTER, KeyPhases
from p2pshare.core.datagram.protection.sealing import seal_packet

SECRET = bytes(range(32))
CID = b"\xa0abcdef"
PTO = 0.5  # seconds
AEADS = AES_128_GCM, CHACHA20_POLY1305


def key_phases(
    *,
    is_opener: bool = True,
    aead: Aead = AES_128_GCM,
    update_after: int = UPDATE_AFTER,
    sealed_max: int = SEALED_MAX,
) -> KeyPhases:
    """Return the keys of one end."""
    pair = KeyPair.for_session(SECRET, aead, is_opener=is_opener)
    return KeyPhases(pair, update_after, sealed_max)


class Receiver:
    """The receiving half of an end, with a replay window."""

    def __init__(self, phases: KeyPhases) -> None:
        self.phases = phases
        self.seen: set[int] = set()
        self._opener = TrainOpener()

    def open(
        self, train: bytes, segment: int | None = None, now: float = 0.0, cid: bytes = CID
    ) -> OpenedTrain:
        """Open a train, or a single packet if there is no segment size."""
        opening = Opening(self.phases, cid, self._is_new, now, PTO)
        opened = self._opener.open(memoryview(train), segment or len(train), opening)
        self.seen.update(numbers_of(opened))
        return opened

    def _is_new(self, first: int, end: int) -> bool:
        return self.seen.isdisjoint(range(first, end))


class End:
    """One end, which sends and receives single packets."""

    def __init__(self, *, is_opener: bool, aead: Aead, update_after: int = UPDATE_AFTER) -> None:
        self.phases = key_phases(is_opener=is_opener, aead=aead, update_after=update_after)
        self.receiver = Receiver(self.phases)
        self.number = 0
        """Of the next packet."""

    def send(self, payload: bytes) -> bytes:
        """Return a packet."""
        self.number += 1
        return seal_packet(self.phases, CID, self.number - 1, payload)

    def receive(self, packet: bytes, now: float = 0.0) -> bytes | None:
        """Return the payload of a packet; None if it was not opened."""
        return next(iter(payloads_of(self.receiver.open(packet, now=now)).values()), None)


def numbers_of(opened: OpenedTrain) -> list[int]:
    """Return the numbers of the packets that were opened, in the order of arrival."""
    return [number for first, end in opened.numbers for number in range(first, end)]


def payloads_of(opened: OpenedTrain) -> dict[int, bytes]:
    """Return the payloads by packet number; runs of DATA must not occur."""
    payloads = [each for each in opened.contents if isinstance(each, Payload)]
    assert len(payloads) == len(opened.contents)
    return {each.number: bytes(each.data) for each in payloads}


def data_of(opened: OpenedTrain) -> list[tuple[int, int, bytes]]:
    """Return transfer, offset and bytes of all DATA; payloads must hold nothing else."""
    found = []
    for each in opened.contents:
        if isinstance(each, DataRun):
            found.append((each.transfer, each.offset, bytes(each.data)))
        else:
            payload = bytes(each.data)
            assert payload[0] == 0x10
            found.append(
                (int.from_bytes(payload[8:12]), int.from_bytes(payload[1:8]), payload[12:])
            )
    return found
