"""How verbs talk to the running peer: a socket in its data folder, which its user alone can open.

Requests and replies are lines of JSON::

    {"do": "status"}
    {"ok": true, "name": "bob", ...}
    {"ok": false, "error": "NameTaken", "message": "The name ...", "exit_code": 3}
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from p2pshare.errors import (
    ControlRefused,
    FolderUnusable,
    LocalProtocolError,
    P2pshareError,
    PeerNotAnswering,
    RemoteProtocolError,
)
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.strict_json import integer, parse_object, text

SOCKET_NAME = "peer.sock"
SOCKET_PATH_MAX = 103  # bytes in the address of a Unix socket: 107 on Linux, 103 on macOS
LINE_MAX = 64 * 1024  # bytes of a request or reply
CONNECTIONS_MAX = 16
REQUEST_TIMEOUT = 10.0  # seconds that a connection may stay without a request
ANSWER_TIMEOUT = 40.0  # seconds that a request may take: it may have to ask a registry that is slow

Fields = Mapping[str, Any]
Deed = Callable[[Fields], Awaitable[Fields]]
"""Does what a request wants, and returns the fields of the reply; it may raise a `P2pshareError`."""


class ControlServer:
    """Listens in a data folder for as long as its peer runs, and does what verbs ask for."""

    def __init__(self, reactor: Any, folder: Path, deeds: Mapping[str, Deed]) -> None:
        """Serve `deeds`, by what a request calls them in `do`."""
        self._reactor = reactor
        self._path = folder / SOCKET_NAME
        self._factory = _ServerFactory(reactor, deeds)
        self._port: Any = None

    def listen(self) -> None:
        """Begin to listen. The caller holds the folder's lock, so a socket that is there is a killed peer's.

        Raises:
            FolderUnusable: no socket can be made there.
        """
        with socket.socket(socket.AF_UNIX) as listening:
            try:
                self._path.unlink(missing_ok=True)
                with _reachable(self._path) as address:
                    mask = os.umask(0o177)
                    try:
                        listening.bind(address)
                    finally:
                        os.umask(mask)
                listening.listen(CONNECTIONS_MAX)
                listening.setblocking(False)
                self._port = self._reactor.adoptStreamPort(
                    listening.fileno(), socket.AF_UNIX, self._factory
                )
            except OSError as error:
                reason = f"it takes no socket: {plain_reason(error)}"
                raise FolderUnusable(path=self._path.parent, reason=reason) from error

    async def stop(self) -> None:
        """Stop listening, end all connections, and remove the socket. May be called again, or without `listen`."""
        if self._port is None:
            return
        port, self._port = self._port, None
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._factory.end_all()
        await port.stopListening()


class ControlClient:
    """A verb's end of the socket; `close` it in the end."""

    def __init__(self, clock: IReactorTime, folder: Path) -> None:
        self._clock = clock
        self._folder = folder
        self._protocol: _ClientProtocol | None = None

    async def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Have the peer do something, and return what it replies.

        Raises:
            P2pshareError: the peer could not; the sentence and the exit code are those of its own error.
            PeerNotAnswering: it ended meanwhile, or takes longer than `ANSWER_TIMEOUT`.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the connection. May be called again."""
        raise NotImplementedError


async def running_peer(reactor: Any, folder: Path) -> ControlClient | None:
    """The peer that runs on a data folder; None if none does.

    Raises:
        PeerNotAnswering: one seems to run, but cannot be connected to.
    """
    raise NotImplementedError


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A path to a socket that fits into an address: if need be, by a link that is there as long as the context."""
    if len(os.fsencode(path.absolute())) <= SOCKET_PATH_MAX:
        yield str(path.absolute())
        return
    with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
        link = Path(folder, "d")
        link.symlink_to(path.parent.absolute())
        yield str(link / path.name)
