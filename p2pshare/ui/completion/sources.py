"""The sources of completion: the running peer, and what was seen last; see `complete.py` for the reasons."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.names import is_name
from p2pshare.storage.identity.data_folder import PeerPlace, is_place
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.storage.settings import Settings
from p2pshare.storage.socket_paths import CONTROL_NAME, socket_address
from p2pshare.wire.paths import COMPONENT_MAX, RemotePath, format_path
from p2pshare.wire.strict_json import parse_object

ANSWER_TIMEOUT = 0.15  # seconds for connecting and for the answer
ANSWER_MAX = 1024 * 1024  # bytes of an answer
ID_SHOWN = 6  # characters of an ID
ENTRIES_MAX = 1000  # of an answer
FOLDERS_MAX = 32  # data folders that are looked at if the user is not known


class Lookup:
    """Looks up words for the user of the settings, or else for all users with a data folder here.

    If peers run on several data folders, none is asked, since the user may be any of them.
    """

    def __init__(self, settings: Settings) -> None:
        place = self._place = PeerPlace.of(settings, settings.name or "name")
        self._folders = [place.path]
        if settings.data is None and settings.name is None:
            folders: list[Path] = []
            for above in place.neighbours():
                with suppress(OSError):
                    folders += [above / name for name in sorted(filter(is_name, os.listdir(above)))]
            self._folders = list(filter(is_place, folders))[:FOLDERS_MAX]

    def registries(self) -> list[str]:
        """Return the URLs of registries whose keys are known."""
        return list(self._place.registries.all())

    def known(self) -> list[str]:
        """Return the names of peers whose keys are known."""
        from p2pshare.storage.identity.known_peers import KnownPeers  # slow to import

        names: list[str] = []
        for folder in self._folders:
            with suppress(P2pshareError):
                names += KnownPeers(folder, self._place.slot).all()
        return names

    def names(self, prefix: str) -> list[str]:
        """Return the names of peers that begin with `prefix`."""
        live = self._complete({"prefix": prefix})
        if live is not None:
            return live
        seen = (name for folder in self._folders for name in Seen(folder).names())
        return [name for name in seen if name.startswith(prefix)]

    def entries(self, peer: str, path: RemotePath, prefix: str) -> list[str]:
        """Return the entries of a folder that begin with `prefix`; folders end with a slash."""
        live = self._complete({"peer": peer, "path": format_path(path), "prefix": prefix})
        if live is not None:
            return live
        return [
            f"{name}/" if is_folder else name
            for folder in self._folders
            for name, is_folder in Seen(folder).entries(peer, path).items()
            if name.startswith(prefix)
        ]

    def offers(self, do: str, *, is_open: bool) -> list[str]:
        """Return the short IDs of the offers that the action `do` of the running peer lists: open ones, or others."""
        return self._ask({"do": do}, lambda reply: _ids_of(reply, is_open)) or []

    def shares(self) -> list[str]:
        """Return the names of the shares of the running peer, or of those that are kept."""
        live = self._ask({"do": "shares"}, _shares_of)
        if live is not None:
            return live
        from p2pshare.storage.shares.kept import KeptShares  # slow to import

        names: list[str] = []
        for folder in self._folders:
            with suppress(P2pshareError):
                names += [each.shared.name for each in KeptShares(folder).read()]
        return names

    def _complete(self, question: Mapping[str, str]) -> list[str] | None:
        return self._ask({"do": "complete", **question}, _entries_of)

    def _ask(
        self, question: Mapping[str, str], read: Callable[[bytes], list[str] | None]
    ) -> list[str] | None:
        """Return the answer of the one running peer; None if there is none in time."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        running = [each for folder in self._folders if (each := _connected(folder)) is not None]
        try:
            if len(running) != 1:
                return None
            running[0].sendall(json.dumps(question).encode() + b"\n")
            return read(self._reply(running[0], deadline))
        except (OSError, RemoteProtocolError):
            return None
        finally:
            for each in running:
                each.close()

    def _reply(self, connection: socket.socket, deadline: float) -> bytes:
        """Return the line of the answer.

        Raises:
            OSError: it does not come in time.
            RemoteProtocolError: it is too long.
        """
        reply = b""
        while not reply.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            received = connection.recv(ANSWER_MAX)
            if not received or len(reply) + len(received) > ANSWER_MAX:
                raise RemoteProtocolError(reason="the answer is too long, or ends too early")
            reply += received
        return reply


def _connected(folder: Path) -> socket.socket | None:
    """Connect to the peer that runs on a data folder, if there is one."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        with socket_address(folder / CONTROL_NAME) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        return None
    connection.settimeout(ANSWER_TIMEOUT)
    return connection


def _ids_of(reply: bytes, is_open: bool) -> list[str] | None:
    """Return the short IDs of the open offers in a list or an inbox, or of the others; None if it is an error."""
    fields = parse_object(reply)
    rows = fields.get("offers", fields.get("items"))
    if fields.get("ok") is not True or not isinstance(rows, list):
        return None
    wanted = [each for each in rows if isinstance(each, dict) and _is_open(each) is is_open]
    return [str(each.get("id"))[:ID_SHOWN] for each in wanted]


def _shares_of(reply: bytes) -> list[str] | None:
    """Return the names in a list of shares; None if it is an error."""
    fields = parse_object(reply)
    rows = fields.get("shares")
    if fields.get("ok") is not True or not isinstance(rows, list):
        return None
    return [str(each.get("name")) for each in rows if isinstance(each, dict)]


def _is_open(row: Mapping[str, Any]) -> bool:
    people = row.get("to")
    states = (
        [each.get("state") for each in people] if isinstance(people, list) else [row.get("state")]
    )
    return any(each in ("waiting", "delivered", "accepted") for each in states)


def _entries_of(reply: bytes) -> list[str] | None:
    """Return the entries of an answer; None if it is an error. Only names that can be a component are kept."""
    fields = parse_object(reply)
    entries = fields.get("entries")
    if fields.get("ok") is not True or not isinstance(entries, list) or len(entries) > ENTRIES_MAX:
        return None
    names = [each for each in entries if isinstance(each, str)]
    return [each for each in names if 0 < len(each) <= COMPONENT_MAX + 1 and "/" not in each[:-1]]
