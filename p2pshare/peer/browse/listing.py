"""The action `list`: a page of a folder of another peer, with what each file is.

Every page is asked of the sharer, which reads it from the name `after` on. So a folder of any size costs this peer a
page. Nothing is kept here: the sharer's folder may have changed, and asking again costs a round trip.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pshare.errors import IllegalName, RemoteProtocolError, WrongUsage
from p2pshare.names import NAME_MAX, read_name
from p2pshare.peer.browse.media_types import type_of
from p2pshare.peer.browse.sessions import RemoteSessions
from p2pshare.peer.control import Fields
from p2pshare.wire.paths import COMPONENT_MAX, PATH_MAX, format_path, parse_path
from p2pshare.wire.strict_json import integer, text
from p2pshare.wire.transfer_messages import (
    NANOSECONDS,
    PAGE_MAX,
    Entry,
    EntryKind,
    Listing,
)

ENTRIES_MAX = (
    400  # in one page: with 1000, writing it would hold the event loop of either peer for 50 ms
)


class Listings:
    """Lists folders of other peers for the user of a running peer."""

    def __init__(self, sessions: RemoteSessions) -> None:
        """Ask over `sessions`."""
        self._sessions = sessions
        self.on_look: Callable[[str, Listing], object] = lambda *_: None
        """Called with the name and the first page of the shares of a peer at which the user has looked."""

    async def list(self, request: Fields) -> Fields:
        """Perform the action `list`: return a page of the folder `path` of the peer `name`, from behind `after` on.

        Raises:
            WrongUsage: a field is not valid.
            P2pshareError: the peer cannot be found, reached or trusted, or does not list the folder.
        """
        fields = {"path": "", "after": "", "limit": PAGE_MAX, **request}
        try:
            limit = integer(fields, "limit", 1, PAGE_MAX)
            begin = text(fields, "after", COMPONENT_MAX)
            folder = text(fields, "path", PATH_MAX)
            name = read_name(text(fields, "name", NAME_MAX))
            path, after = parse_path(folder), parse_path(begin)
        except (RemoteProtocolError, IllegalName) as error:
            raise WrongUsage(reason=str(error)) from error
        async with self._sessions.use(name) as session:
            await session.listings.acquire()
            try:
                page = await session.remote.list(path, after, min(limit, ENTRIES_MAX))
            finally:
                session.listings.release()
        if not path and not after:
            self.on_look(name, page)
        return shown_page(page)


def shown_page(listing: Listing) -> Fields:
    """Return the fields of a page."""
    return {
        "entries": [_shown_entry(each) for each in listing.entries],
        "more": listing.more,
        "left_out": [
            {"name": format_path(each.path), "why": each.why.value} for each in listing.omitted
        ],
        "unnamed": listing.unnamed,
    }


def _shown_entry(entry: Entry) -> Fields:
    name, is_file = entry.path[-1], entry.kind is EntryKind.FILE
    return {
        "name": name,
        "kind": entry.kind.value,
        "bytes": entry.size if is_file else None,
        "modified": entry.mtime_ns // NANOSECONDS,
        "version": entry.version if is_file else None,
        "type": type_of(name).value if is_file else None,
    }
