"""The addresses of the other end: the one in use, and one that it may have moved to.

An address changes when a NAT forgets a mapping or a machine changes its network. The sign of it is an authentic packet
with the highest number so far from another address. But the source of a datagram proves nothing: an attacker between
the ends can repeat a packet from any address. So the new address is a candidate first: it gets a CHALLENGE, and nothing
else but answers to its own challenges. The RESPONSE proves that the other end receives there; then the connection
moves. Until then at most `AMPLIFICATION` times the bytes that came from the address go to it (RFC 9000, sections 8
and 9). Data still goes to the old address: if that is dead, loss recovery sends it again.

There is one candidate at a time, the newest. A candidate that does not answer `TRIES` challenges is forgotten.
"""

from __future__ import annotations

from collections import deque

from p2pshare.core.datagram.trains import Address

AMPLIFICATION = 3  # bytes to an unproved address for each byte from it (RFC 9000, section 8.1)
TRIES = 3  # challenges to a candidate
RESPONSES_MAX = (
    4  # answers to challenges that wait; the oldest is dropped (RFC 9000, section 8.2.2)
)


class Candidate:
    """An address that the other end may have moved to."""

    def __init__(self, address: Address, challenge: bytes) -> None:
        self.address = address
        self.challenge = challenge
        self.tries = 0
        self.due: float | None = 0.0
        """When the next challenge goes out; None if the limit forbids it until more bytes come."""
        self._received = 0
        self._sent = 0

    @property
    def room(self) -> int:
        """The bytes that may go to it now."""
        return AMPLIFICATION * self._received - self._sent

    def on_received(self, size: int) -> None:
        """Count bytes from it."""
        self._received += size
        if self.due is None:
            self.due = 0.0

    def on_sent(self, size: int) -> None:
        """Count bytes to it."""
        self._sent += size


class Paths:
    """The address in use, the candidate, and the answers that are owed to challenges."""

    def __init__(self, address: Address) -> None:
        self.address = address
        """Where everything goes but challenges and their answers."""
        self.candidate: Candidate | None = None
        self.responses: deque[tuple[Address, bytes]] = deque(maxlen=RESPONSES_MAX)
        """Challenges to answer, with the addresses they came from."""

    def is_new(self, address: Address) -> bool:
        """Whether an authentic packet from an address makes it a new candidate, if it is the newest packet."""
        known = self.candidate.address if self.candidate else self.address
        return address not in (known, self.address)

    def propose(self, address: Address, challenge: bytes) -> None:
        """Make an address the candidate, with the 8 random bytes of its challenge."""
        self.candidate = Candidate(address, challenge)

    def on_received(self, address: Address, size: int) -> None:
        """Count authentic bytes from an address."""
        if self.candidate is not None and address == self.candidate.address:
            self.candidate.on_received(size)

    def on_challenge(self, address: Address, data: bytes) -> None:
        """Note that a challenge from an address is to be answered there."""
        if (address, data) not in self.responses:
            self.responses.append((address, data))

    def take_responses(self, size: int) -> list[tuple[Address, bytes]]:
        """Return the challenges to answer now, with the addresses to answer to, and count the answers.

        Args:
            size: bytes of a packet with an answer.
        """
        taken = [each for each in self.responses if self._may_send(each[0], size)]
        self.responses.clear()
        return taken

    def on_response(self, data: bytes) -> bool:
        """Take the answer to a challenge; True if the connection moves to the candidate."""
        candidate = self.candidate
        if candidate is None or not candidate.tries or data != candidate.challenge:
            return False
        self.address = candidate.address
        self.candidate = None
        return True

    def next_challenge(self, size: int, now: float, timeout: float) -> Candidate | None:
        """Return the candidate if a challenge of `size` bytes goes out now, and count it.

        Args:
            size: bytes of the packet with the challenge.
            now: time in s.
            timeout: seconds until the answer should be here.
        """
        candidate = self.candidate
        if candidate is None or candidate.due is None or now < candidate.due:
            return None
        if candidate.tries >= TRIES:
            self.candidate = None
            return None
        if not self._may_send(candidate.address, size):
            candidate.due = None
            return None
        candidate.due = now + timeout * 2**candidate.tries
        candidate.tries += 1
        return candidate

    def get_timer(self) -> float | None:
        """Return when to call `next_challenge`."""
        return self.candidate.due if self.candidate else None

    def _may_send(self, address: Address, size: int) -> bool:
        """Whether a packet may go to an address; if it may, it counts for the limit of the candidate."""
        candidate = self.candidate
        if candidate is None or address != candidate.address:
            return True
        if candidate.room < size:
            return False
        candidate.on_sent(size)
        return True
