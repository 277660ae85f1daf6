"""Errors of the way to another peer, and of the session with it."""

from __future__ import annotations

from p2pshare.errors.base import P2pshareError, Refused, RemoteProtocolError, Unreachable


class ClassicOnly(Refused):
    """{name!r} supports only the classic protocol, which is neither encrypted nor authenticated. Add --classic if you
    accept that, or ask its owner to update.
    """


class NewerOnly(Refused):
    """{name!r} supports only a newer protocol. Update p2pshare."""


class NotClassic(Refused):
    """{name!r} does not support the classic protocol. Omit --classic, or ask its owner to enable it."""


class RelayRefused(Unreachable):
    """The relay of the registry {registry} did not join this peer with the other one: {reason}."""


class PeerNotListening(Unreachable):
    """{name!r} takes no calls at the moment. Try again when it is online."""


class SignalNotAccepted(Refused):
    """{name!r} does not accept calls from you."""


class CallFailed(Unreachable):
    """The call to {name!r} failed: {reason}. Run `p2pshare path {name}` to see what was tried."""


class PeerUnreachable(Unreachable):
    """{name!r} did not answer at {address}. It has left, or a firewall blocks the connection."""


class NoAnswerOverUdp(PeerUnreachable):
    """{name!r} did not answer over UDP at {address}. It has left, or a firewall blocks UDP. Try `--via auto`."""


class NoSessionThere(Unreachable):
    """The program at {address} accepts no sessions: {reason}. {name!r} has moved, or is an older version."""


class SessionLost(Unreachable):
    """The session with {name!r} broke: {reason}"""


class SessionPostponed(Unreachable):
    """{name!r} accepts no session at the moment: {reason}. Try again in {retry_after} s."""


class AcceptanceAwaited(SessionPostponed):
    """{name!r} must accept your key first. Ask for `p2pshare peers accept` with your name there, and try again."""


class SessionRefused(Refused):
    """{name!r} refused the session: {reason}"""


class VersionRefused(P2pshareError):
    """{name!r} and this program have no version of the session protocol in common. Update p2pshare on both sides."""


class PeerNotFound(Unreachable):
    """{name!r} is not at {address}, where it was last seen {seen}, and the registry {registry} cannot tell its new
    address: {reason}. Try again when the registry is back, or set --at IP:PORT.
    """


class PeerOffline(Unreachable):
    """{name!r} is offline, last seen {seen}{tried}. Run `p2pshare users --online` to see who is online."""


class PeerSharesNothing(Unreachable):
    """{name!r} only fetches from others, and runs no peer that shares files."""


class PeerNotReachable(Unreachable):
    """{name!r} has registered no address at which this machine can reach it, and cannot be called."""


class PeerAddressRefused(PeerNotReachable):
    """The address {address} of {name!r} {reason}. Ask its owner to set another one with --address."""


class LinkGivenUp(Unreachable):
    """The connection to {name!r} broke ({reason}), and could not be restored within {patience} s. Verified data is
    kept: run the same command again to continue.
    """


class LinkClosed(Unreachable):
    """The connection to {name!r} was closed on this side."""


class SignalOutOfTime(RemoteProtocolError):
    """A signal is not of this time: {reason}"""
