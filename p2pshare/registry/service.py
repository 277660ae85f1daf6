"""The registry as a service: its folder, its Redis, its store and its ports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import CannotStart, P2pshareError
from p2pshare.registry.redis_store import RedisNameStore
from p2pshare.registry.site import RegistrySite
from p2pshare.storage.locks import FolderLock
from p2pshare.storage.reasons import plain_reason

PID_NAME = "registry.pid"


def remove_stale_pid_file(folder: Path) -> None:
    """Remove what a killed registry left, lest a process that has got its pid since stops the next one.

    Raises:
        FolderInUse: it is not stale.
        FolderUnusable: the folder cannot be made, or not be locked, or the file not be removed.
    """
    lock = FolderLock.take(folder)
    try:
        lock.remove(PID_NAME)
    finally:
        lock.release()


class RegistryService(MultiService):
    """Serves a site over the given endpoints; a child service may be the Redis of its store.

    What keeps it from starting is one sentence and the end of the process, before anything runs.
    """

    _log = Logger()

    def __init__(
        self,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        site: RegistrySite,
        store: RedisNameStore,
        folder: Path,
        kept_in: str,
        *,
        foreground: bool = True,
    ) -> None:
        super().__init__()
        self._endpoints = endpoints
        self._site = site
        self._store = store
        self._folder = folder
        self._kept_in = kept_in
        self._foreground = foreground
        self._lock: FolderLock | None = None
        self._ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """Take the folder and the ports."""
        self._take_folder_and_ports()
        super().privilegedStartService()

    def startService(self) -> None:
        """Start Redis if it is ours, and the store."""
        if self._lock is None:  # `twist` knows no privileged start
            self._take_folder_and_ports()
        super().startService()
        self._store.start().addCallback(self._announce)

    def stopService(self) -> Deferred[None]:
        """Close the ports, leave the store, end Redis, and give the folder free."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await gatherResults([maybeDeferred(port.stopListening) for port in self._ports])
        leaving = Deferred.fromCoroutine(self._store.stop())
        await super().stopService()  # its Redis has to end even if the store cannot leave it
        await leaving
        if self._lock is not None:
            self._lock.release()

    def _take_folder_and_ports(self) -> None:
        try:
            self._lock = FolderLock.take(self._folder)
            for description, endpoint in self._endpoints:
                self._listen(description, endpoint)
        except P2pshareError as error:
            self._log.critical("{error!s}", error=error)
            if self._foreground:
                raise SystemExit(f"p2pregistry: {error}") from error
            raise  # twistd hands it to its parent, which waits for a daemon's success or error

    def _listen(self, description: str, endpoint: IStreamServerEndpoint) -> None:
        failures: list[Failure] = []
        listening: Deferred[IListeningPort] = endpoint.listen(self._site)
        listening.addCallbacks(self._ports.append, failures.append)
        for failure in failures:
            failure.trap(CannotListenError, OverflowError)
            if isinstance(failure.value, CannotListenError):
                reason = plain_reason(failure.value.socketError)
            else:
                reason = "a port is a number up to 65535"
            raise CannotStart(
                what="The registry", reason=f"it cannot listen on {description}: {reason}"
            )

    def _announce(self, _reached: None) -> None:
        self._log.info(
            "the registry is ready on {addresses}, its names are kept in {kept_in}",
            addresses=", ".join(_shown(port.getHost()) for port in self._ports),
            kept_in=self._kept_in,
        )


def _shown(address: Any) -> str:
    host = getattr(address, "host", None)
    return str(address) if host is None else f"{host}:{address.port}"
