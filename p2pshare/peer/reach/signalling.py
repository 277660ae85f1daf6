"""Signals of a call: what goes to the other end, and which of those that come are believed.

Each end checks what it receives. `wire.reach.signals.unseal` proves who has signed a signal, and for whom. Here the
time is compared, which bounds how long a recorded signal could be repeated, and the addresses in it are filtered by the
same rules as those of a record: the other end is known, but it may lie about where it is (threat 13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from p2pshare.errors import SignalOutOfTime
from p2pshare.net.session.interfaces import CarrierUser
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.reach.candidates import CANDIDATES_MAX, Candidate, Mapping
from p2pshare.wire.reach.signals import BACK_MAX, Signal, Step, seal, seal_of, unseal
from p2pshare.wire.registry_answers import CLOCK_SKEW_MAX

DRAWN_SIZE = 16  # bytes of a drawn text
SECRET_SIZE = 32  # bytes


class Follower(Protocol):
    """Follows the signals to an inbox."""

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            P2pshareError: the registry refuses for good.
        """

    def nudge(self) -> None:
        """Reconnect at once."""


class Rendezvous(Protocol):
    """What a registry offers for the calls of one user."""

    @property
    def url(self) -> str:
        """The registry's."""

    @property
    def has_relay(self) -> bool:
        """Whether there is a relay, as far as the registry has told."""

    async def own(self) -> OwnEnd:
        """Return the user's end of calls.

        Raises:
            P2pshareError: the registry does not prove its key.
        """

    def follow(
        self,
        own: OwnEnd,
        inbox: str,
        accept: Sequence[str] | None,
        on_signal: Callable[[bytes], object],
        on_link: Callable[[bool], object],
    ) -> Follower:
        """Return what follows the signals to an inbox.

        Args:
            own: this end.
            inbox: "main", or a drawn one.
            accept: the names whose signals are passed on; None for all.
            on_signal: called with each sealed signal.
            on_link: called with whether signals arrive.
        """

    async def send(self, own: OwnEnd, to: str, inbox: str, sealed: bytes) -> None:
        """Send a sealed signal to an inbox of the peer `to`.

        Raises:
            P2pshareError: it was not passed on.
        """

    async def learn_time(self) -> None:
        """Ask the registry for its time, which `OwnEnd.now` then goes by.

        Raises:
            P2pshareError: the registry does not answer.
        """

    async def stun_servers(self) -> Sequence[PeerAddress]:
        """Return the addresses of the STUN servers.

        Raises:
            P2pshareError: the registry does not answer.
        """

    async def join(
        self, own: OwnEnd, room: str, other: PublicKey, user: CarrierUser, read_size: int
    ) -> None:
        """Meet the owner of a key at the relay, and let the connection be the carrier of `user`.

        Raises:
            P2pshareError: the other end does not come, or the relay refuses.
        """


@dataclass(frozen=True, slots=True)
class OwnEnd:
    """The end of calls that this user has."""

    key: SigningKey
    name: str
    aud: PublicKey
    """The key of the registry that passes signals on."""
    now: Callable[[], int]
    """The Unix time in s, by the clock of the registry."""
    random: Callable[[int], bytes]
    """Returns that many unpredictable bytes."""

    def draw(self, size: int = DRAWN_SIZE) -> str:
        """Return a new unpredictable text, of `size` random bytes."""
        return to_base64url(self.random(size))

    def read(self, sealed: bytes) -> Signal:
        """Open a signal to this end.

        Raises:
            SignalOutOfTime: it is valid, but not of this time.
            RemoteProtocolError: it is not valid, or not for this end.
        """
        signal = unseal(sealed, self.key, self.aud)
        if abs(self.now() - signal.iat) > CLOCK_SKEW_MAX:
            raise SignalOutOfTime(reason="it is too old, or a clock is wrong")
        return signal


@dataclass(frozen=True, slots=True)
class OtherEnd:
    """The end to which signals of an attempt go."""

    name: str
    key: PublicKey
    seal: str
    inbox: str


class Correspondence:
    """What one end sends in one attempt."""

    def __init__(
        self, rendezvous: Rendezvous, own: OwnEnd, other: OtherEnd, attempt: str, inbox: str
    ) -> None:
        """Send to `other`; `inbox` is this end's own."""
        self._rendezvous = rendezvous
        self._own = own
        self._other = other
        self._attempt = attempt
        self._inbox = inbox

    async def send(
        self,
        step: Step,
        *,
        candidates: Sequence[Candidate] = (),
        mapping: Mapping = Mapping.UNKNOWN,
        secret: str = "",
        room: str = "",
        back: Sequence[PeerAddress] = (),
        why: str = "",
    ) -> None:
        """Send a signal; the arguments are those of `Signal`.

        Raises:
            P2pshareError: it was not passed on.
        """
        own, other = self._own, self._other
        signal = Signal(
            attempt=self._attempt,
            step=step,
            name=own.name,
            key=own.key.public,
            to=other.key,
            aud=own.aud,
            iat=own.now(),
            inbox=self._inbox,
            seal=seal_of(own.key),
            candidates=tuple(candidates[:CANDIDATES_MAX]),
            mapping=mapping,
            secret=secret,
            room=room,
            back=tuple(back[:BACK_MAX]),
            why=why,
        )
        sealed = seal(signal.sign(own.key), other.seal, other.key, own.aud)
        await self._rendezvous.send(own, other.name, other.inbox, sealed)
