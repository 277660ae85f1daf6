"""The key phases of a connection: which keys seal the next packet, and which keys open a packet that arrives.

The keys of each direction change now and then (RFC 9001, section 6). The lowest bit of a packet's type, the key phase
bit, says which of two neighbouring phases its keys belong to.

**Sealing.** An end changes its keys after `update_after` packets. It waits until the other end has acknowledged a
packet of the present phase and uses the same phase itself. So the ends are never more than one phase apart, and one bit
suffices. An end whose opening keys change before its sealing keys follows at once: the acknowledgement of a packet
always comes in a packet of the same phase or a later one.

**Opening.** The sender's packet numbers ascend over its phases. A packet with the other bit therefore belongs to the
phase before if its number is below the first one that was opened in the present phase, and otherwise to the next
phase. So one attempt per packet is enough, and the time of the attempt tells an attacker nothing. The next keys are
derived in advance. They become the present ones only when a packet with a good tag needed them: a forged bit changes
nothing. Packets of the phase before may still be on their way; its keys are kept for `RETAINED` PTO.

**Limits.** `SEALED_MAX` bounds the packets that one key seals, `REJECTED_MAX` the forgeries that an attacker may try
on a connection. Both come from RFC 9001, section 6.6, and hold for both ciphers and for packets of any size.
"""

from __future__ import annotations

from p2pshare.core.datagram.protection.keys import DirectionKeys, KeyPair
from p2pshare.errors import LocalProtocolError
from p2pshare.wire.datagrams.packets import PACKET_NUMBER_MAX

UPDATE_AFTER = 2**22  # packets of one phase
SEALED_MAX = 2**23  # packets of one phase
REJECTED_MAX = 2**36  # packets with a bad tag on one connection
RETAINED = 3  # PTO for which the keys of the phase before are kept (RFC 9001, section 6.5)


class KeyPhases:
    """The keys of both directions of one connection, as one end uses them."""

    __slots__ = (
        *("_is_confirmed", "_next_number", "_sealed_max", "_sealing", "_sealing_phase"),
        *("_sealing_start", "_update_after"),
        *("_next", "_opening_phase", "_opening_start", "_previous", "_previous_until"),
        *("opening", "rejected"),
    )

    def __init__(
        self, pair: KeyPair, update_after: int = UPDATE_AFTER, sealed_max: int = SEALED_MAX
    ) -> None:
        """Begin with phase 0 in both directions.

        Args:
            pair: keys of phase 0.
            update_after: packets after which the sealing keys change.
            sealed_max: packets that are sealed in one phase at most.
        """
        self._update_after = update_after
        self._sealed_max = sealed_max
        self._sealing = pair.sealing
        self._sealing_phase = 0
        self._sealing_start = 0  # first packet number of this phase
        self._next_number = 0  # no packet from here on has been sealed
        self._is_confirmed = False  # whether a packet of this phase was acknowledged

        self.opening = pair.opening
        """The keys of the present phase of the other end."""
        self._opening_phase = 0
        self._opening_start = 0  # first packet number that was opened in this phase
        self._next = pair.opening.next()
        self._previous: DirectionKeys | None = None
        self._previous_until = 0.0
        self.rejected = 0
        """Packets that could not be opened."""

    @property
    def sealing_phase(self) -> int:
        """How often the sealing keys have changed."""
        return self._sealing_phase

    @property
    def sealing_bit(self) -> int:
        """The key phase bit of the packets that are sealed now."""
        return self._sealing_phase & 1

    @property
    def opening_bit(self) -> int:
        """The key phase bit of the packets that `opening` opens."""
        return self._opening_phase & 1

    @property
    def room(self) -> int:
        """The number of packets that may be sealed before the other end acknowledges one of them."""
        return self._sealing_start + self._sealed_max - self._next_number

    def reserve(self, first: int, count: int) -> DirectionKeys:
        """Return the keys for sealing `count` packets from the number `first` on; all have the present `sealing_bit`.

        Raises:
            LocalProtocolError: a number was used before, or there is no `room`.
        """
        end = first + count
        if first < self._next_number or end - 1 > PACKET_NUMBER_MAX:
            raise LocalProtocolError(reason=f"the packet number {first} is not a new one")
        if end - self._sealing_start > self._update_after and self._may_update:
            self._update(first)
        if end - self._sealing_start > self._sealed_max:
            raise LocalProtocolError(reason="a key would protect too many packets")
        self._next_number = end
        return self._sealing

    def acknowledged(self, number: int) -> None:
        """Note that the other end has received this packet, which was sealed here."""
        if number >= self._sealing_start:
            self._is_confirmed = True

    def keys_for(self, bit: int, number: int, now: float) -> DirectionKeys | None:
        """Return the only keys that can open a packet; None if they are gone, or too many packets were forged."""
        if self._previous is not None and now >= self._previous_until:
            self._previous = None
        if self.rejected >= REJECTED_MAX:
            return None
        if bit == self.opening_bit:
            return self.opening
        return self._next if number >= self._opening_start else self._previous

    def opened(self, keys: DirectionKeys, number: int, now: float, pto: float) -> None:
        """Note that these keys opened a packet with this number.

        Args:
            keys: from `keys_for`.
            number: of the packet.
            now: in seconds.
            pto: the present probe timeout in seconds.
        """
        if keys is not self._next:
            return
        self._previous, self.opening, self._next = self.opening, keys, keys.next()
        self._previous_until = now + RETAINED * pto
        self._opening_phase += 1
        self._opening_start = number
        if self._sealing_phase < self._opening_phase:
            self._update(self._next_number)

    @property
    def _may_update(self) -> bool:
        return self._is_confirmed and self._sealing_phase == self._opening_phase

    def _update(self, start: int) -> None:
        self._sealing = self._sealing.next()
        self._sealing_phase += 1
        self._sealing_start = start
        self._is_confirmed = False
