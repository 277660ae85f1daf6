"""One end of many previews, as a process of its own: a whole peer.

python -m benchmarks.preview_process share REGISTRY FOLDER
    runs alice's peer, which shares FOLDER/pictures, until the end of its standard input. It prints a line when it is
    ready. For each line that it reads it prints the seconds for which its event loop was held at most since the line
    before, by the clock and in processor time of that thread
python -m benchmarks.preview_process view REGISTRY FOLDER EDGE
    fetches a preview of each picture that alice shares, many at a time; prints a JSON object with their number, their
    bytes and the seconds
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from p2pshare.peer.service import PeerService
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath

STEP = 0.001  # seconds between two looks at the clock
AT_ONCE = 16  # previews; a browser asks for 6 at a time
reactor: Any = twisted_reactor


def peer(name: str, registry: str, folder: Path, *shares: SharedPath) -> PeerService:
    """Return a peer."""
    settings = Settings(name=name, registry=registry, data=folder / f"data-{name}")
    return PeerService(reactor, random.Random(name), settings, shares, wall=time.time)


class LoopWatch:
    """Measures for how long the event loop is held: how late a call comes that is due each `STEP`.

    Other load on the machine delays the call, too. The processor time of the thread shows what the loop did itself.
    """

    def __init__(self) -> None:
        self.held_at_most = self.busy_at_most = 0.0
        """Seconds, by the clock and of the processor."""
        self._last, self._last_busy = time.perf_counter(), time.thread_time()
        self._looking = LoopingCall(self._look)
        self._looking.start(STEP, now=False)

    def begin(self) -> None:
        """Forget what was before."""
        self._last, self._last_busy = time.perf_counter(), time.thread_time()
        self.held_at_most = self.busy_at_most = 0.0

    def _look(self) -> None:
        now, busy = time.perf_counter(), time.thread_time()
        self.held_at_most = max(self.held_at_most, now - self._last - STEP)
        self.busy_at_most = max(self.busy_at_most, busy - self._last_busy)
        self._last, self._last_busy = now, busy


class UntilClosed(Protocol):
    """Reports for each line, and ends the process."""

    def __init__(self, watch: LoopWatch) -> None:
        self._watch = watch

    def dataReceived(self, data: bytes) -> None:
        """Report, and begin again."""
        print(self._watch.held_at_most, self._watch.busy_at_most, flush=True)
        self._watch.begin()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End."""
        reactor.stop()


async def share(registry: str, folder: str) -> None:
    """Run alice's peer."""
    alice = peer("alice", registry, Path(folder), SharedPath("pictures", Path(folder, "pictures")))
    alice.startService()
    reactor.addSystemEventTrigger("before", "shutdown", alice.stopService)
    await alice.ready
    StandardIO(UntilClosed(LoopWatch()))
    print("ready", flush=True)


async def view(registry: str, folder: str, edge: str) -> None:
    """Look at all pictures once."""
    bob = peer("bob", registry, Path(folder))
    bob.startService()
    reactor.addSystemEventTrigger("before", "shutdown", bob.stopService)
    await bob.ready
    browsing = bob._browsing
    assert browsing is not None
    page = await browsing.actions["list"]({"name": "alice", "path": "pictures"})
    names = [each["name"] for each in page["entries"]]
    began, size = time.perf_counter(), 0

    async def some() -> None:
        nonlocal size
        while names:
            path = ("pictures", names.pop())
            size += len((await browsing.pictures.preview("alice", path, int(edge))).data)

    count = len(names)
    await gatherResults([Deferred.fromCoroutine(some()) for _ in range(AT_ONCE)])
    seconds = time.perf_counter() - began
    print(json.dumps({"previews": count, "bytes": size, "seconds": seconds}), flush=True)
    reactor.stop()


def main() -> None:
    """Run what the command line says."""

    def failed(failure: Failure) -> None:
        failure.printTraceback(file=sys.stderr)
        reactor.stop()

    what, *arguments = sys.argv[1:]
    work = share(*arguments) if what == "share" else view(*arguments)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(work).addErrback(failed))
    reactor.run()


if __name__ == "__main__":
    main()
