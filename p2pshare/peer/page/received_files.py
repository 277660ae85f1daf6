"""The route of received files: the browser, which may run on another machine, saves what has arrived in the inbox.

`GET /api/v1/received/OFFER/INDEX` names no path. It gives the file that this peer itself saved for an offer that is
done, as the ledger has it, if it is still a file in the folder of that offer. It is always a download, never a document
in the page's origin.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads

from p2pshare.errors import CannotRead
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.browse.media_types import DOWNLOAD
from p2pshare.peer.control import Action
from p2pshare.peer.page.paths import segments_of
from p2pshare.peer.page.remote_files import POLICY, disposition
from p2pshare.peer.page.replies import PageError
from p2pshare.peer.running import RunningPeer
from p2pshare.storage.incoming.publishing import READ_FILE
from p2pshare.storage.os_errors import plain_reason
from p2pshare.web.exchange import Query, Reply, Route

RECEIVED = b"api/v1/received/"


class ReceivedFiles:
    """The files that have arrived, on the page; a part of the peer."""

    def __init__(self, peer: RunningPeer) -> None:
        """Give what is in the inbox of a peer."""
        self._reactor = peer.reactor
        self._inbox = peer.offers.inbox

    @property
    def actions(self) -> Mapping[str, Action]:
        """Return none."""
        return {}

    def table(self) -> Mapping[bytes, Route]:
        """Return the route."""
        return {RECEIVED: Route("received", {b"GET": self._file})}

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing: replies end with the connections of the page."""

    async def _file(self, query: Query) -> Reply:
        """Answer with a file, or a range of it."""
        offer_id, *rest = segments_of(query, RECEIVED) or ("",)
        path = self._inbox.saved_path(offer_id, rest[0]) if len(rest) == 1 else None
        if path is None:
            raise PageError("not-found", "No file of this number has arrived with this offer.")
        source = await run_in_thread(
            self._reactor, LocalSource.open, self._reactor, path, abandoned=LocalSource.close
        )
        headers = (
            (b"Content-Security-Policy", POLICY),
            (b"Cache-Control", b"no-store"),
            (b"Content-Disposition", disposition(path.name, is_shown=False)),
        )
        return Reply(HTTPStatus.OK, content_type=DOWNLOAD.encode(), headers=headers, source=source)


class LocalSource:
    """A `Source` of a file on this disk, which is read in threads."""

    can_seek = True

    def __init__(self, reactor: IReactorThreads, descriptor: int, length: int) -> None:
        """Own the descriptor of a file of `length` bytes."""
        self.length = length
        self._reactor = reactor
        self._descriptor = descriptor
        self._lock = threading.Lock()  # so that a descriptor which is closed is never read

    @classmethod
    def open(cls, reactor: IReactorThreads, path: Path) -> Self:
        """Open a file; blocks.

        Raises:
            CannotRead: it is gone, is no file, or cannot be read.
        """
        try:
            descriptor = os.open(path, READ_FILE)
        except OSError as error:
            raise CannotRead(path=path, reason=plain_reason(error)) from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise CannotRead(path=path, reason="it is not a file")
        return cls(reactor, descriptor, found.st_size)

    def select(self, part: range) -> None:
        """See `Source`."""

    def read(self, start: int, size: int) -> Deferred[bytes]:
        """See `Source`. Of a file that has become shorter, fewer bytes come, which ends the reply."""
        return run_in_thread(self._reactor, self._read, start, size)

    def close(self) -> None:
        """See `Source`."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _read(self, start: int, size: int) -> bytes:
        with self._lock:
            try:
                return b"" if self._descriptor < 0 else os.pread(self._descriptor, size, start)
            except OSError:  # a disk that fails ends the reply, too
                return b""
