"""The interfaces around a session driver: what carries a session, and who owns it.

    SessionUser      asks or serves                          core.session_interface
    SessionOwner     opened or accepted the session          dialling, peer.share.acceptor
         |
    SessionDriver    core, timers, farewell                  driver
         |
    TlsPump          plaintext <-> protected bytes           tls
         |
    Carrier          protected bytes <-> the other end       tcp, p2pshare.testing.sessions

A carrier moves bytes in order and knows nothing of TLS, messages or time. A `TlsPump` has no I/O. The driver alone
knows both, and gives a carrier whole frames only.

A carrier over datagrams protects its own packets. It comes with a pump that passes bytes on unchanged and tells the key
that the carrier's handshake has proved. Because it gets whole frames, it can send the bytes of files unordered.

`tests/net/session/test_carriers.py` holds the contract: each carrier runs the same test class.
"""

from __future__ import annotations

from typing import Protocol

from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError
from p2pshare.net.session.intake import Intake
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Hello, Refusal


class Carrier(Protocol):
    """One end of a connection that carries a session. All of its events go to one `CarrierUser`."""

    @property
    def local(self) -> PeerAddress:
        """The address of this end."""

    @property
    def remote(self) -> PeerAddress:
        """The address of the other end, as this end sees it."""

    @property
    def is_full(self) -> bool:
        """Whether enough bytes wait to be sent: the user then sends only what must not wait for `writable`."""

    def send(self, data: bytes) -> None:
        """Send bytes after those that were sent before."""

    def pause(self) -> None:
        """Call `received` no more, which the other end notices in the end; `closed` may come only after `resume`."""

    def resume(self) -> None:
        """Call `received` again."""

    def half_close(self) -> None:
        """Tell the other end, after all that was sent, that nothing follows. This end still receives."""

    def close(self) -> None:
        """Close the connection once all that was sent has gone out."""

    def abort(self) -> None:
        """Close the connection now and drop what waits; `closed` follows, but not within this call."""


class CarrierUser(Protocol):
    """Receives the events of a carrier: `connected` first, `closed` last, each once."""

    def connected(self, carrier: Carrier) -> None:
        """The carrier can send and receive."""

    def received(self, data: bytes) -> None:
        """Bytes came from the other end."""

    def writable(self) -> None:
        """The carrier was full, and all that was sent has gone out."""

    def closed(self) -> None:
        """The connection is closed, by whichever end or by a fault."""


class OwnedSession(Session, Protocol):
    """A session as its owner sees it."""

    @property
    def is_secure(self) -> bool:
        """Whether the other end has proved `key`."""

    @property
    def shown_key(self) -> PublicKey | None:
        """The key that the other end showed, acceptable or not."""

    @property
    def is_waiting(self) -> bool:
        """Whether the opener has greeted, and is neither welcomed nor refused."""

    @property
    def unused_for(self) -> float:
        """Seconds without work and without messages other than pings."""

    def welcome(self, name: str, intake: Intake | None = None) -> None:
        """Let the opener in under its name in the registry; `intake` bounds what is read of it in one turn."""

    def refuse(self, why: Refusal, retry_after: int = 0) -> None:
        """Tell the opener why it is refused, and close; `retry_after` is in seconds."""


class SessionOwner(Protocol):
    """The code that opened or accepted a session, and decides about it."""

    def greeted(self, session: OwnedSession, hello: Hello) -> None:
        """The opener with `session.key` asks for a session: call `welcome` or `refuse`."""

    def welcomed(self, session: OwnedSession) -> None:
        """The session is open."""

    def ended(self, session: OwnedSession, reason: P2pshareError | None) -> None:
        """The session is over, or was never open; None if one of the two ends wanted that. Called once."""
