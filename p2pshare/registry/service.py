"""The registry as a service: it takes the folder and the ports, and starts what serves there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError, Refused, RegistryNotRunning, ServiceDoesNotEnd
from p2pshare.registry.assembly import KEY_NAME, Registry
from p2pshare.registry.listening import Ports
from p2pshare.registry.workers.supervisor import Workers
from p2pshare.storage.locks import UNKNOWN, FolderLock, is_process

PID_NAME = "registry.pid"
LOG_NAME = "registry.log"
STOP_MAX = 5.0  # seconds that `stop` waits: the registry promises to end within 2
EXIT_MAX = 1.0  # seconds more for a process that has released its folder


def remove_stale_pid_file(folder: Path) -> None:
    """Remove the pid file of a killed registry: another process may have that pid now, and must not be stopped.

    Raises:
        FolderInUse: the registry runs.
        FolderUnusable: the folder cannot be made or locked, or the file cannot be removed.
    """
    lock = FolderLock.take(folder)
    try:
        lock.remove(PID_NAME)
    finally:
        lock.release()


def stop(folder: Path) -> str:
    """Stop the registry that runs on a data folder, and return its pid when it is gone; blocks.

    The holder of the folder's lock is that registry, however stale the pid file is.

    Raises:
        RegistryNotRunning: no registry runs there.
        Refused: it is another user's, or runs in a container.
        ServiceDoesNotEnd: it still runs after `STOP_MAX`.
        FolderUnusable: the lock cannot be examined.
    """
    until = time.monotonic() + STOP_MAX
    stopped = None
    while (pid := FolderLock.holder(folder)) is not None and (folder / KEY_NAME).exists():
        if stopped is None and pid != UNKNOWN:
            _terminate(int(pid))
            stopped = pid
        if stopped is not None and pid not in (stopped, UNKNOWN):
            break  # another one has started
        if time.monotonic() > until:
            if stopped is not None:
                raise ServiceDoesNotEnd(pid=stopped, seconds=f"{STOP_MAX:g}")
            where = "in a container or on another machine"
            raise Refused(reason=f"The registry on {folder} runs {where}: stop it there.")
        time.sleep(0.02)
    if stopped is None:
        raise RegistryNotRunning(path=folder)
    until = time.monotonic() + EXIT_MAX
    while is_process(int(stopped)) and time.monotonic() < until:
        time.sleep(0.02)
    return stopped


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        reason = f"The registry (process {pid}) is another user's: stop it as that user."
        raise Refused(reason=reason) from error


class RegistryService(MultiService):
    """A registry; the Redis of its store may be a child service.

    An error that keeps it from starting is not raised: see `ready` and `lost`.
    """

    def __init__(self, ports: Ports, front: Registry | Workers, folder: Path | None) -> None:
        """Prepare it.

        Args:
            ports: where it listens.
            front: answers requests.
            folder: to lock; None for a worker, whose parent has locked it.
        """
        super().__init__()
        self._ports = ports
        self._front = front
        self._folder = folder
        self._lock: FolderLock | None = None
        self._has_taken = False
        self.ready: Deferred[str] = Deferred()
        """Fires with its URLs, for people, when it serves for the first time."""
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that keeps it from starting, or from going on."""

    def privilegedStartService(self) -> None:
        """Take the folder and the ports."""
        self._take_folder_and_ports()
        super().privilegedStartService()

    def startService(self) -> None:
        """Start serving, if the folder and the ports could be taken."""
        if not self._has_taken:  # `twist` has no privileged start
            self._take_folder_and_ports()
        if not self.lost.called:
            super().startService()
            urls = self._ports.urls()
            starting = self._front.start(self._ports)
            starting.addCallbacks(lambda _: self.ready.callback(urls), self.fail)

    def stopService(self) -> Deferred[None]:
        """Close the ports, end the children, and release the folder."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._ports.close()
        try:
            await self._front.stop()
        finally:
            await super().stopService()
            if self._lock is not None:
                self._lock.release()

    def _take_folder_and_ports(self) -> None:
        self._has_taken = True
        try:
            if self._folder is not None:
                self._lock = FolderLock.take(self._folder)
            self._ports.open(self._front.site, self._front.metrics_site)
        except P2pshareError:
            self.lost.errback(Failure())

    def fail(self, failure: Failure) -> None:
        """An errback for a `P2pshareError` that keeps a part of it from working."""
        if self.running and not self.lost.called:
            self.lost.errback(failure)
