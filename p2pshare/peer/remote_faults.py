"""Why something does not come from a peer, as an error that a user reads."""

from __future__ import annotations

from p2pshare.errors import (
    P2pshareError,
    RemoteBusy,
    RemoteIsFile,
    RemoteIsFolder,
    RemoteNotFound,
    RemoteProtocolError,
    RemoteUnreadable,
    SourceChanged,
)
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import Fault

_ERRORS: dict[Fault, type[P2pshareError]] = {
    Fault.NOT_FOUND: RemoteNotFound,
    Fault.IS_FOLDER: RemoteIsFolder,
    Fault.IS_FILE: RemoteIsFile,
    Fault.CHANGED: SourceChanged,
    Fault.UNREADABLE: RemoteUnreadable,
    Fault.BUSY: RemoteBusy,
}


def error_of(why: Fault, name: str, path: RemotePath) -> P2pshareError:
    """What to tell the user of `path` of the peer `name`."""
    if why is Fault.IS_FILE and not path:
        reason = f"{name!r} says that the list of its shares is a file"
        return RemoteProtocolError(reason=reason, name=name, path="")
    return _ERRORS[why](name=name, path=format_path(path))
