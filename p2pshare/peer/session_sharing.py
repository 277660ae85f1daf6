"""All that a peer does for those who open sessions: it takes them, and serves its shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.rate import RateLimit
from p2pshare.core.session_interface import Session
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.admission import Admission
from p2pshare.peer.serving import LISTS_AT_ONCE, Serving
from p2pshare.peer.session_server import SessionServer
from p2pshare.peer.uploads import Uploads
from p2pshare.registry.client import RegistryClient
from p2pshare.storage import block_cache, folder_index
from p2pshare.storage.block_cache import BlockCache
from p2pshare.storage.folder_index import FolderIndex
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.storage.share_arguments import EVERYONE, SharedPath
from p2pshare.storage.share_tree import ShareTree
from p2pshare.wire.display import display
from p2pshare.wire.keys import SigningKey

STOP_TIMEOUT = 1.0  # seconds for the last words of sessions


class SessionSharer:
    """Takes sessions and serves shares."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        shares: Sequence[SharedPath],
        limit: float | None,
        data: Path,
        client: RegistryClient,
        wall: Callable[[], float],
        key: Callable[[], SigningKey],
    ) -> None:
        """Share, once this was opened and listens.

        Args:
            reactor: what it runs on.
            shares: what is shared, and with whom.
            limit: bytes per second that go out over all sessions together; None is as fast as it goes.
            data: the peer's data folder, which is there by the time of `open`.
            client: the registry, which knows who has which key.
            wall: the Unix time in s.
            key: the peer's key; it is asked for each session.
        """
        self._reactor = reactor
        self._shares = tuple(shares)
        self._data = data
        self._limit = RateLimit(limit, reactor.seconds())
        self._uploads = Uploads(reactor)
        self._listing = DeferredSemaphore(LISTS_AT_ONCE)
        self._admission = Admission(reactor, client, KnownPeers(data, client.url))
        self._server = SessionServer(reactor, key, self._admission.admit, self._serve)
        self._stores: tuple[BlockCache, FolderIndex] | None = None
        self._tree: ShareTree | None = None
        self._resolving: Deferred[None] | None = None

    async def open(self) -> None:
        """Make ready what remembers the shares, and say what is shared with whom."""
        self._stores = await run_in_thread(self._reactor, self._open_stores, abandoned=_close)
        self._tree = ShareTree(self._shares, *self._stores)
        self._log.info("{sharing}", sharing=sharing_text(self._shares))
        wanted = sorted({name for each in self._shares for name in each.allow or ()})
        if wanted:
            self._resolving = Deferred.fromCoroutine(self._admission.resolve(wanted))
            self._resolving.addErrback(self._not_resolved)

    def listen(self, port: int, interface: str) -> None:
        """Take sessions from now on.

        Raises:
            PortUnusable: the port is in use, or not ours to use.
        """
        self._server.listen(port, interface)

    def stop_listening(self) -> None:
        """Close the port again, which `listen` has opened just now."""
        self._server.stop_listening()

    async def stop(self) -> None:
        """Tell all sessions that this is the end, and close everything. May be called at any time."""
        if self._resolving is not None:
            self._resolving.cancel()
        stopping: Deferred[None] = Deferred.fromCoroutine(self._server.stop())
        stopping.addTimeout(STOP_TIMEOUT, self._reactor, lambda *_: None)
        try:
            await stopping
        finally:
            self._uploads.stop()
            stores, self._stores = self._stores, None
            if stores is not None:
                await run_in_thread(self._reactor, _close, stores)

    def status(self) -> dict[str, Any]:
        """What is shared, and who fetches: members of the status of a peer."""
        return {
            "sharing": [each.name for each in self._shares],
            "shares": [
                {
                    "name": each.name,
                    "path": str(each.path),
                    "allow": None if each.allow is None else sorted(each.allow),
                }
                for each in self._shares
            ],
            "uploads": self._uploads.status(),
            "sessions": self._uploads.sessions,
        }

    def _serve(self, session: Session) -> Serving:
        assert self._tree is not None, "nobody gets in before the shares are open"
        return Serving(
            self._reactor,
            session,
            self._tree,
            self._limit,
            self._uploads,
            listing=self._listing,
        )

    def _open_stores(self) -> tuple[BlockCache, FolderIndex]:
        cache = self._data / block_cache.FILE_NAME
        index = self._data / folder_index.FOLDER_NAME
        return (
            BlockCache(cache, on_trouble=partial(self._trouble, "shared files", cache)),
            FolderIndex(index, on_trouble=partial(self._trouble, "shared folders", index)),
        )

    def _trouble(self, what: str, path: Path, reason: str) -> None:
        """Called in whatever thread."""
        self._reactor.callFromThread(
            self._log.warn,
            "what is remembered of {what} ({path}): {reason}",
            what=what,
            path=display(str(path)),
            reason=reason,
        )

    def _not_resolved(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the names that may see a share were not looked up", failure)


def sharing_text(shares: Sequence[SharedPath]) -> str:
    """Who may fetch what, in a sentence."""
    if not shares:
        return "nothing is shared: there is no my_file.txt or my_file.jpg here, and no --share"
    told = []
    for each in shares:
        whom = EVERYONE if each.allow is None else ", ".join(sorted(each.allow)) or "nobody"
        told.append(f"{display(each.name)} ({display(str(each.path))}) with {whom}")
    return f"shared are {'; '.join(told)}"


def _close(stores: tuple[BlockCache, FolderIndex]) -> None:
    cache, _ = stores
    cache.close()
