"""The actions `local_folders` and `local_folder_make`: a browser cannot list folders of this machine for a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import AFTER_MAX, Action, Fields
from p2pshare.peer.running import RunningPeer
from p2pshare.storage.identity.data_folder import inbox_folder
from p2pshare.storage.local_folders import (
    PATH_MAX,
    LocalEntry,
    list_local,
    make_local,
    read_local_path,
)
from p2pshare.web.exchange import Route
from p2pshare.wire.strict_json import boolean, text


class LocalFolders:
    """Lists and makes folders of this machine."""

    def __init__(self, peer: RunningPeer) -> None:
        """Begin at the home folder of the user of a peer."""
        self._peer = peer
        self._reactor = peer.reactor
        self._home = Path.home()

    @property
    def actions(self) -> Mapping[str, Action]:
        """What clients may ask for."""
        return {"local_folders": self._list, "local_folder_make": self._make}

    def table(self) -> Mapping[bytes, Route]:
        """Return no routes."""
        return {}

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def _list(self, request: Fields) -> Fields:
        """Return a part of a folder."""
        given = {key: value for key, value in request.items() if value is not None}
        fields = {"path": "", "after": "", "hidden": False, "files": False, **given}
        path = read_local_path(text(fields, "path", PATH_MAX), self._home)
        after = text(fields, "after", AFTER_MAX)
        hidden, files = boolean(fields, "hidden"), boolean(fields, "files")
        found = await run_in_thread(
            self._reactor, lambda: list_local(path, hidden=hidden, files=files, after=after)
        )
        return {
            "path": str(found.path),
            "parent": None if found.parent is None else str(found.parent),
            "home": str(self._home),
            "inbox": str(inbox_folder(self._peer.settings)),
            "entries": [_shown(each) for each in found.entries],
            "more": found.more,
            "left_out": found.left_out,
            "cut": found.is_cut,
            "writable": found.can_write,
        }

    async def _make(self, request: Fields) -> Fields:
        """Make a folder."""
        path = read_local_path(text({**request}, "path", PATH_MAX), self._home)
        await run_in_thread(self._reactor, make_local, path)
        return {"path": str(path)}


def _shown(entry: LocalEntry) -> Fields:
    kind = "folder" if entry.is_folder else "file"
    return {"name": entry.name, "kind": kind, "link": entry.is_link, "bytes": entry.bytes}
