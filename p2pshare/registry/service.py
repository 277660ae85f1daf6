"""The registry as a service: its folder, its ports and what serves there, in this process or in several."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError, Refused, RegistryNotRunning, ServiceDoesNotEnd
from p2pshare.registry.assembly import KEY_NAME, Registry
from p2pshare.registry.listening import Place, port_number, shown_urls
from p2pshare.registry.workers.reports import Listen, Order
from p2pshare.registry.workers.supervisor import Workers
from p2pshare.storage.locks import UNKNOWN, FolderLock, is_process

PID_NAME = "registry.pid"
LOG_NAME = "registry.log"
STOP_MAX = 5.0  # seconds that `stop` waits: the registry promises to end within 2
EXIT_MAX = 1.0  # seconds more for a process that has given its folder free
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


def stop(folder: Path) -> str:
    """Stop the registry that runs on a data folder, and return its pid when it is gone; blocks.

    The holder of the folder's lock is that registry, however stale a pid file is.

    Raises:
        RegistryNotRunning: there is none.
        Refused: it is another user's, or runs in a container.
        ServiceDoesNotEnd: it still runs after `STOP_MAX`.
        FolderUnusable: the folder cannot be looked at.
    """
    until = time.monotonic() + STOP_MAX
    told = None
    while (pid := FolderLock.holder(folder)) is not None and (folder / KEY_NAME).exists():
        if told is None and pid != UNKNOWN:
            _terminate(int(pid))
            told = pid
        if told is not None and pid not in (told, UNKNOWN):
            break  # another one has started
        if time.monotonic() > until:
            raise _not_stopped(folder, told)
        time.sleep(0.02)
    if told is None:
        raise RegistryNotRunning(path=folder)
    until = time.monotonic() + EXIT_MAX
    while is_process(int(told)) and time.monotonic() < until:
        time.sleep(0.02)
    return told


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        reason = f"The registry (process {pid}) is another user's: stop it as that user."
        raise Refused(reason=reason) from error


def _not_stopped(folder: Path, pid: str | None) -> P2pshareError:
    if pid is not None:
        return ServiceDoesNotEnd(pid=pid, seconds=f"{STOP_MAX:g}")
    where = "in a container or on another machine"
    return Refused(reason=f"The registry on {folder} runs {where}: stop it there.")


class _Nobody(Factory):
    """Takes no connection."""

    noisy = False


class _FolderService(MultiService):
    """What holds the folder and the ports; a child service may be the Redis of the store.

    Nothing that keeps it from starting is raised: look at `ready` and `lost`.
    """

    _log = Logger()

    def __init__(
        self,
        places: Sequence[Place],
        metrics: Sequence[Place],
        folder: Path,
        kept_in: str,
    ) -> None:
        """Prepare it; `metrics` are the endpoints for the metrics alone."""
        super().__init__()
        self._places = places
        self._metrics = metrics
        self._folder = folder
        self._kept_in = kept_in
        self._lock: FolderLock | None = None
        self._ports: list[IListeningPort] = []
        """Those of `places`, then those of `metrics`."""
        self.ready: Deferred[str] = Deferred()
        """Fires with where it listens, for people, as soon as it serves for the first time."""
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that keeps it from starting, or from going on."""

    def privilegedStartService(self) -> None:
        """Take the folder and the ports."""
        self._take_folder_and_ports()
        super().privilegedStartService()

    def startService(self) -> None:
        """Start the children, if it has the folder and the ports."""
        if self._lock is None and not self.lost.called:  # `twist` knows no privileged start
            self._take_folder_and_ports()
        if not self.lost.called:
            super().startService()
            self._start()

    def _start(self) -> None:
        """Begin to serve; the children run."""
        raise NotImplementedError

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

    def _urls(self) -> str:
        return shown_urls(list(zip(self._places, self._ports, strict=False)))

    def _announce(self, urls: str, **facts: object) -> None:
        told = "".join(f" {name}={{{name}}}" for name in facts)
        self._log.info(
            f"registry ready: urls={{urls}} names_in={{kept_in}}{told}",
            urls=urls,
            kept_in=self._kept_in,
            **facts,
        )
        self.ready.callback(urls)

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
        except P2pshareError:
            self.lost.errback(Failure())

    def fail(self, failure: Failure) -> None:
        """An errback for each `P2pshareError` that keeps a part of it from working."""
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
    ) -> None:
        super().__init__(places, metrics, folder, kept_in)
        self._registry = registry

    def _start(self) -> None:
        starting = self._registry.start()
        starting.addCallbacks(lambda _: self._announce(self._urls()), self.fail)

    async def _leave(self) -> None:
        leaving = Deferred.fromCoroutine(self._registry.stop())
        await super()._leave()  # its Redis has to end even if the store cannot leave it
        await leaving

    def _site(self) -> Any:
        return self._registry.site

    def _metrics_site(self) -> Any:
        return self._registry.metrics_site


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
    ) -> None:
        """Prepare them; `orders` makes the workers' orders of the endpoints and their ports' numbers."""
        super().__init__(places, metrics, folder, kept_in)
        self._make_orders = orders
        self._listen: Listen = ()
        self._shown_urls = ""
        self._workers = Workers(reactor, self._orders, folder / METRICS_NAME)

    def _start(self) -> None:
        places = [*self._places, *self._metrics]
        self._listen = tuple(
            (place.description, port_number(port))
            for place, port in zip(places, self._ports, strict=True)
        )
        self._shown_urls = self._urls()
        Deferred.fromCoroutine(self._start_workers())

    async def _start_workers(self) -> None:
        await self._close_ports()
        self._workers.lost.addErrback(self.fail)
        self._workers.ready.addCallback(
            lambda _: self._announce(self._shown_urls, workers=len(self._orders()))
        )
        if self.running:
            self._workers.startService()

    async def _leave(self) -> None:
        if self._workers.running:
            await self._workers.stopService()
        await super()._leave()

    def _orders(self) -> Sequence[Order]:
        count = len(self._places)
        return self._make_orders(self._listen[:count], self._listen[count:])
