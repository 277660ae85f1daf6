"""Errors for files and folders that a peer does not send or list."""

from __future__ import annotations

from collections.abc import Iterator

from p2pshare.errors import (
    P2pshareError,
    RemoteBusy,
    RemoteGone,
    RemoteIsFile,
    RemoteIsFolder,
    RemoteLeftOut,
    RemoteLinkLoop,
    RemoteLinkNotFollowed,
    RemoteNameUnusable,
    RemoteNoPreview,
    RemoteNotFound,
    RemoteProtocolError,
    RemoteSpecial,
    RemoteTooDeep,
    RemoteTooLarge,
    RemoteUnreadable,
    RemoteWithdrawn,
    SourceChanged,
)
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import Fault, Listing, Omission, Omitted

_ERRORS: dict[Fault, type[P2pshareError]] = {
    Fault.NOT_FOUND: RemoteNotFound,
    Fault.IS_FOLDER: RemoteIsFolder,
    Fault.IS_FILE: RemoteIsFile,
    Fault.CHANGED: SourceChanged,
    Fault.UNREADABLE: RemoteUnreadable,
    Fault.BUSY: RemoteBusy,
    Fault.NO_PREVIEW: RemoteNoPreview,
}

_OMISSIONS: dict[Omitted, type[P2pshareError]] = {
    Omitted.UNREADABLE: RemoteUnreadable,
    Omitted.GONE: RemoteGone,
    Omitted.LINK: RemoteLinkNotFollowed,
    Omitted.LINK_LOOP: RemoteLinkLoop,
    Omitted.NAME: RemoteNameUnusable,
    Omitted.TOO_DEEP: RemoteTooDeep,
    Omitted.SPECIAL: RemoteSpecial,
    Omitted.TOO_LARGE: RemoteTooLarge,
}


def error_of(why: Fault, name: str, path: RemotePath) -> P2pshareError:
    """Return the error for a fault at `path` of the peer `name`."""
    if why is Fault.IS_FILE and not path:
        reason = f"{name!r} says that the list of its shares is a file"
        return RemoteProtocolError(reason=reason, name=name, path="")
    if why is Fault.WITHDRAWN:  # not this file alone
        return RemoteWithdrawn(name=name, path=format_path(path[:1]))
    return _ERRORS[why](name=name, path=format_path(path))


def omission_error(name: str, above: RemotePath, omission: Omission) -> P2pshareError:
    """Return the error for an entry that the peer `name` left out of a listing of `above`."""
    return _OMISSIONS[omission.why](name=name, path=format_path(above + omission.path))


def omission_errors(
    name: str, above: RemotePath, listing: Listing
) -> Iterator[tuple[RemotePath, P2pshareError]]:
    """Yield the paths that the peer `name` left out of a page of the folder `above`, with their errors."""
    for each in listing.omitted:
        yield above + each.path, omission_error(name, above, each)
    if listing.unnamed:
        error = RemoteLeftOut(name=name, path=format_path(above), count=listing.unnamed)
        yield above, error
