"""Names and remote paths for who completes a word: from the running peer, else from what was seen last."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.names import is_name
from p2pshare.storage.identity.control_socket import SOCKET_NAME, reachable
from p2pshare.storage.identity.data_folder import PeerPlace, is_place
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.storage.identity.private_file import read_private, replace_private
from p2pshare.storage.settings import DEFAULT_REGISTRY, Settings
from p2pshare.wire.paths import COMPONENT_MAX, RemotePath, format_path
from p2pshare.wire.strict_json import parse_object

ANSWER_TIMEOUT = 0.15  # seconds for all that is asked
ANSWER_MAX = 256 * 1024  # bytes of an answer
ENTRIES_MAX = 1000  # of an answer
FOLDERS_MAX = 32  # data folders that are looked at if nobody says which

KEPT_NAME = "completed.json"
KEPT_FOR = 5.0  # seconds that an answer is good
KEPT_MAX = 16  # answers that are kept
KEPT_BYTES_MAX = 256 * 1024  # bytes of all of them


class Lookup:
    """Looks things up for the user of one of several data folders."""

    def __init__(
        self,
        folders: Sequence[Path],
        wall: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        *,
        registry: str = DEFAULT_REGISTRY,
        registries: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """Ask the peer that runs on one of `folders`.

        Args:
            folders: data folders; if peers run on several, nobody is asked, for nobody says who is meant.
            wall: the Unix time in s.
            monotonic: any time in s.
            registry: the registry whose peers are meant.
            registries: tells the URLs of registries whose keys are known.
        """
        self._folders = folders
        self._wall = wall
        self._monotonic = monotonic
        self._registry = registry
        self._registries = registries

    @classmethod
    def by_settings(cls, settings: Settings, wall: Callable[[], float]) -> Self:
        """Look up for who the settings say, or for whoever has a data folder here."""
        place = PeerPlace.of(settings, settings.name or "name")
        if settings.data is not None or settings.name is not None:
            folders = [place.path]
        else:
            folders = []
            for above in place.neighbours():
                with suppress(OSError):
                    folders += [above / name for name in sorted(filter(is_name, os.listdir(above)))]
            folders = list(filter(is_place, folders))[:FOLDERS_MAX]
        return cls(folders, wall, registry=place.slot, registries=place.registries.all)

    def registries(self) -> list[str]:
        """URLs of registries whose keys are known."""
        return list(self._registries())

    def known(self) -> list[str]:
        """Names of peers whose keys are known."""
        from p2pshare.storage.identity.known_peers import KnownPeers  # it takes its time to import

        names: list[str] = []
        for folder in self._folders:
            with suppress(P2pshareError):
                names += KnownPeers(folder, self._registry).all()
        return names

    def names(self, prefix: str) -> list[str]:
        """Names of peers that begin so."""
        live = self._ask({"prefix": prefix})
        if live is not None:
            return live
        return [name for seen in self._seen() for name in seen.names() if name.startswith(prefix)]

    def entries(self, peer: str, path: RemotePath, prefix: str) -> list[str]:
        """What is in a folder of a peer and begins so; folders end with a slash."""
        live = self._ask({"peer": peer, "path": format_path(path), "prefix": prefix})
        if live is not None:
            return live
        return [
            f"{name}/" if is_folder else name
            for seen in self._seen()
            for name, is_folder in seen.entries(peer, path).items()
            if name.startswith(prefix)
        ]

    def _seen(self) -> list[Seen]:
        return [Seen(folder) for folder in self._folders]

    def _ask(self, question: Mapping[str, str]) -> list[str] | None:
        """The answer of the one running peer, which is good for a while; None if there is none in time."""
        deadline = self._monotonic() + ANSWER_TIMEOUT
        running = [(each, peer) for each in self._folders if (peer := _connected(each)) is not None]
        try:
            if len(running) != 1:
                return None
            (folder, connection) = running[0]
            kept = _Kept(folder / KEPT_NAME, self._wall())
            key = json.dumps(question, sort_keys=True)
            known = kept.answer(key)
            if known is not None:
                return known
            connection.sendall(json.dumps({"do": "complete", **question}).encode() + b"\n")
            reply = self._reply(connection, deadline)
            answer = None if reply is None else _entries_of(reply)
            if answer is not None:
                kept.keep(key, answer)
            return answer
        except OSError:
            return None
        finally:
            for _, each in running:
                each.close()

    def _reply(self, connection: socket.socket, deadline: float) -> bytes | None:
        """The line that comes, unless it comes too late or is too long."""
        reply = b""
        while not reply.endswith(b"\n"):
            left = deadline - self._monotonic()
            if left <= 0 or len(reply) > ANSWER_MAX:
                return None
            connection.settimeout(left)
            received = connection.recv(ANSWER_MAX)
            if not received:
                return None
            reply += received
        return reply


class _Kept:
    """The answers that were had a moment ago, in a file of the data folder."""

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        self._now = now
        self._answers: dict[str, Any] = {}
        with suppress(OSError, RemoteProtocolError):
            written = parse_object(read_private(path, KEPT_BYTES_MAX))
            self._answers = {key: kept for key, kept in written.items() if self._is_good(kept)}

    def answer(self, key: str) -> list[str] | None:
        """The answer to a question, if there is one."""
        kept = self._answers.get(key)
        return None if kept is None else _legal(kept[1])

    def keep(self, key: str, answer: list[str]) -> None:
        """Keep an answer, if there is room and it can be written."""
        self._answers.pop(key, None)
        latest = list(self._answers.items())[1 - KEPT_MAX :]
        self._answers = {**dict(latest), key: [self._now, answer]}
        text = json.dumps(self._answers).encode()
        if len(text) > KEPT_BYTES_MAX:
            text = json.dumps({key: [self._now, answer]}).encode()
        if len(text) <= KEPT_BYTES_MAX:
            with suppress(OSError):
                replace_private(self._path, text, durable=False)

    def _is_good(self, kept: object) -> bool:
        match kept:
            case [int() | float() as since, list()]:
                return 0 <= self._now - since < KEPT_FOR
        return False


def _connected(folder: Path) -> socket.socket | None:
    """A connection to the peer that runs on a data folder, if one does."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        with reachable(folder / SOCKET_NAME) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        return None
    connection.settimeout(ANSWER_TIMEOUT)
    return connection


def _entries_of(reply: bytes) -> list[str] | None:
    try:
        fields = parse_object(reply)
    except RemoteProtocolError:
        return None
    return _legal(fields.get("entries")) if fields.get("ok") is True else None


def _legal(entries: object) -> list[str] | None:
    """Names as a peer tells them: each one component of a path, with a slash if it is a folder."""
    if not isinstance(entries, list) or len(entries) > ENTRIES_MAX:
        return None
    names = [each for each in entries if isinstance(each, str)]
    return [each for each in names if 0 < len(each) <= COMPONENT_MAX + 1 and "/" not in each[:-1]]
