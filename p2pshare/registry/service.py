"""The registry as a service: its folder, its ports and what serves there, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError
from p2pshare.registry.assembly import Registry
from p2pshare.registry.listening import Place, port_number, shown_address
from p2pshare.registry.reports import Listen, Order
from p2pshare.registry.workers import Workers
from p2pshare.storage.locks import FolderLock

PID_NAME = "registry.pid"
METRICS_NAME = "metrics"
"""The folder in which several workers count."""


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


class _Nobody(Factory):
    """Takes no connection."""

    noisy = False


class _FolderService(MultiService):
    """What holds the folder and the ports; a child service may be the Redis of the store.

    What keeps it from starting is one sentence and the end of the process, before anything runs.
    """

    _log = Logger()

    def __init__(
        self,
        places: Sequence[Place],
        metrics: Sequence[Place],
        folder: Path,
        kept_in: str,
        *,
        foreground: bool = True,
    ) -> None:
        """Prepare it; `metrics` are the endpoints for the metrics alone."""
        super().__init__()
        self._places = places
        self._metrics = metrics
        self._folder = folder
        self._kept_in = kept_in
        self._foreground = foreground
        self._lock: FolderLock | None = None
        self._ports: list[IListeningPort] = []
        """Those of `places`, then those of `metrics`."""
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that shows only later that it cannot start."""

    def privilegedStartService(self) -> None:
        """Take the folder and the ports."""
        self._take_folder_and_ports()
        super().privilegedStartService()

    def startService(self) -> None:
        """Start the children."""
        if self._lock is None:  # `twist` knows no privileged start
            self._take_folder_and_ports()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Close the ports, end what runs, and give the folder free."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._close_ports()
        await self._leave()
        if self._lock is not None:
            self._lock.release()

    async def _leave(self) -> None:
        await super().stopService()

    def _site(self) -> Any:
        return _Nobody()

    def _metrics_site(self) -> Any:
        return _Nobody()

    def _addresses(self) -> str:
        return ", ".join(map(shown_address, self._ports[: len(self._places)]))

    async def _close_ports(self) -> None:
        ports, self._ports = self._ports, []
        await gatherResults([maybeDeferred(port.stopListening) for port in ports])

    def _take_folder_and_ports(self) -> None:
        try:
            self._lock = FolderLock.take(self._folder)
            for place in self._places:
                self._ports.append(place.listen(self._site()))
            for place in self._metrics:
                self._ports.append(place.listen(self._metrics_site()))
        except P2pshareError as error:
            self._log.critical("{error!s}", error=error)
            if self._foreground:
                raise SystemExit(f"p2pregistry: {error}") from error
            raise  # twistd hands it to its parent, which waits for a daemon's success or error

    def _failed(self, failure: Failure) -> None:
        if self.running and not self.lost.called:
            self.lost.errback(failure)


class RegistryService(_FolderService):
    """Serves in this process."""

    def __init__(
        self,
        places: Sequence[Place],
        metrics: Sequence[Place],
        registry: Registry,
        folder: Path,
        kept_in: str,
        *,
        foreground: bool = True,
    ) -> None:
        super().__init__(places, metrics, folder, kept_in, foreground=foreground)
        self._registry = registry

    def startService(self) -> None:
        """Start Redis if it is ours, and the store."""
        super().startService()
        self._registry.start().addCallbacks(self._announce, self._failed)

    async def _leave(self) -> None:
        leaving = Deferred.fromCoroutine(self._registry.stop())
        await super()._leave()  # its Redis has to end even if the store cannot leave it
        await leaving

    def _site(self) -> Any:
        return self._registry.site

    def _metrics_site(self) -> Any:
        return self._registry.metrics_site

    def _announce(self, _reached: None) -> None:
        self._log.info(
            "the registry is ready on {addresses}, its names are kept in {kept_in}",
            addresses=self._addresses(),
            kept_in=self._kept_in,
        )


class SupervisorService(_FolderService):
    """Serves by several processes, which share the ports.

    At first it listens itself, and shares with nobody: so another registry, which could share a port by accident, is
    noticed, and so is all that would keep every worker from starting.
    """

    def __init__(
        self,
        reactor: Any,
        places: Sequence[Place],
        metrics: Sequence[Place],
        orders: Callable[[Listen, Listen], Sequence[Order]],
        folder: Path,
        kept_in: str,
        *,
        foreground: bool = True,
    ) -> None:
        """Prepare them; `orders` makes the workers' orders of the endpoints and their ports' numbers."""
        super().__init__(places, metrics, folder, kept_in, foreground=foreground)
        self._make_orders = orders
        self._listen: Listen = ()
        self._shown = ""
        self._workers = Workers(reactor, self._orders, folder / METRICS_NAME)

    def startService(self) -> None:
        """Start Redis if it is ours, and the workers."""
        super().startService()
        places = [*self._places, *self._metrics]
        self._listen = tuple(
            (place.description, port_number(port))
            for place, port in zip(places, self._ports, strict=True)
        )
        self._shown = self._addresses()
        Deferred.fromCoroutine(self._start_workers())

    async def _start_workers(self) -> None:
        await self._close_ports()
        self._workers.lost.addErrback(self._failed)
        self._workers.ready.addCallback(self._announce)
        if self.running:
            self._workers.startService()

    async def _leave(self) -> None:
        if self._workers.running:
            await self._workers.stopService()
        await super()._leave()

    def _orders(self) -> Sequence[Order]:
        count = len(self._places)
        return self._make_orders(self._listen[:count], self._listen[count:])

    def _announce(self, _ready: None) -> None:
        self._log.info(
            "the registry is ready on {addresses}, its names are kept in {kept_in}, {workers} workers serve it",
            addresses=self._shown,
            kept_in=self._kept_in,
            workers=len(self._orders()),
        )
