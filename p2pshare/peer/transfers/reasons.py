"""Codes that say why a download waits or has failed: for programs and translations, beside a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass

from p2pshare.errors import (
    AcceptanceAwaited,
    CannotSave,
    ClassicOnly,
    ClockWrong,
    DestinationGone,
    DiskFull,
    InUse,
    KeyChanged,
    KeyGone,
    KeyUnknown,
    LinkClosed,
    LinkGivenUp,
    NewerOnly,
    NobodyHere,
    NoSuchPeer,
    NotFound,
    OfferChanged,
    OtherKeyThere,
    P2pshareError,
    PeerNotFound,
    PeerOffline,
    PeerSharesNothing,
    Refused,
    RegistryBusy,
    RegistryUnavailable,
    RegistryUnreachable,
    RelayRefused,
    RemoteBusy,
    RemoteProtocolError,
    RemoteTooMany,
    RemoteUnreadable,
    RemoteWithdrawn,
    SessionLost,
    SessionPostponed,
    SharerLied,
    SourceChanged,
    TooManyOpenFiles,
    Unreachable,
    VersionRefused,
)

QUEUE, CONNECTING, RECONNECTING, ACCEPTANCE = "queue", "connecting", "reconnecting", "acceptance"
OFFLINE, SOME_FAILED, OTHER = "offline", "some_failed", "other"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a try has failed."""

    code: str
    is_final: bool
    """Whether another try would fail, too, unless somebody does something about it."""


_REASONS: tuple[tuple[tuple[type[P2pshareError], ...], Reason], ...] = (
    ((RemoteWithdrawn,), Reason("withdrawn", True)),
    ((DiskFull,), Reason("disk_full", False)),
    ((DestinationGone,), Reason("folder_gone", True)),
    ((TooManyOpenFiles,), Reason("open_files", False)),
    ((InUse,), Reason("in_use", True)),
    ((CannotSave,), Reason("folder", True)),
    ((KeyChanged, KeyGone), Reason("key_changed", False)),
    ((OtherKeyThere,), Reason("other_key", False)),
    ((AcceptanceAwaited,), Reason(ACCEPTANCE, False)),
    ((SessionPostponed, RemoteBusy), Reason("busy", False)),
    ((RelayRefused,), Reason("relay_busy", False)),
    ((PeerOffline, NobodyHere), Reason(OFFLINE, False)),
    ((NoSuchPeer,), Reason("unknown_name", True)),
    (
        (
            *(RegistryUnreachable, RegistryUnavailable, RegistryBusy, PeerNotFound, KeyUnknown),
            ClockWrong,  # which may be so for a moment, after the machine has started
        ),
        Reason("registry", False),
    ),
    ((PeerSharesNothing,), Reason("shares_nothing", False)),
    ((SessionLost, LinkGivenUp, LinkClosed), Reason("lost", False)),
    ((Unreachable,), Reason("unreachable", False)),
    ((ClassicOnly, NewerOnly, VersionRefused), Reason("version", True)),
    ((Refused,), Reason("refused", True)),
    ((NotFound,), Reason("not_found", True)),
    ((RemoteProtocolError,), Reason("protocol", True)),
    ((RemoteTooMany,), Reason("too_many", True)),
    ((RemoteUnreadable,), Reason("unreadable", True)),
    ((SourceChanged, OfferChanged), Reason("changed", True)),
    ((SharerLied,), Reason("corrupt", True)),
)
"""The first entry with a class of the error counts."""


def reason_of(error: P2pshareError) -> Reason:
    """Return what an error means for a download."""
    for kinds, reason in _REASONS:
        if isinstance(error, kinds):
            return reason
    return Reason(OTHER, True)
