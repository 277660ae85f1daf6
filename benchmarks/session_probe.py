"""Sessions to Alice's peer without a command around them, as a process of its own.

python -m benchmarks.session_probe list PATH DATA REGISTRY
    lists the first page of PATH repeatedly over one session; prints a JSON object with the seconds of the first
    listing and the median of the others
python -m benchmarks.session_probe idle COUNT DATA REGISTRY
    opens COUNT sessions, prints a line, and holds them until it is stopped
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from p2pshare.core.ranges import Range
from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.dialling import open_session
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.find.target import Target
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.registry.client import RegistryClient, pooled_agent
from p2pshare.storage.identity.identity import KEY_NAME
from p2pshare.storage.identity.key_file import load_or_make
from p2pshare.storage.settings import Via
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.paths import parse_path
from p2pshare.wire.session_messages import Message

LISTS = 20
reactor: Any = twisted_reactor


class Listener:
    """The user of an idle session."""

    def message_received(self, message: Message) -> None:
        """Ignore the message; an idle session receives none."""

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Ignore the data; an idle session receives none."""

    def size_received(self, transfer: int, size: int) -> None:
        """Ignore the size; an idle session receives no files."""

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """Miss nothing."""
        return ()

    def room_again(self) -> None:
        """Send nothing."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Report the end, which is a fault."""
        print(f"a session ended: {reason}", file=sys.stderr)


async def find_alice(registry: str) -> tuple[PeerAddress, PublicKey]:
    """Return Alice's address and key."""
    agent, _ = pooled_agent(reactor)
    view = await RegistryClient(agent, registry, reactor, wall=time.time).look_up_peer("alice")
    assert view.key is not None
    ip, _, port = view.addresses[0].rpartition(":")
    return PeerAddress(ip, int(port)), view.key


async def list_often(path: str, key: SigningKey, registry: str) -> None:
    """Print the duration of a listing."""

    async def find() -> Target:
        address, expected = await find_alice(registry)
        return Target.at("alice", expected, address)

    dialler = Dialler(reactor, lambda: key, Carriers(reactor, Via.TCP))
    remote = RemotePeer(reactor, random.Random(), "alice", find, dialler)
    seconds = []
    for _ in range(LISTS):
        started = time.perf_counter()
        page = await remote.list(parse_path(path))
        seconds.append(time.perf_counter() - started)
    first, *others = seconds
    report = {"first": first, "others": statistics.median(others), "entries": len(page.entries)}
    print(json.dumps(report))
    await remote.close()


async def idle(count: str, key: SigningKey, registry: str) -> None:
    """Hold idle sessions open."""
    address, expected = await find_alice(registry)
    sessions: list[Session] = []
    for _ in range(int(count)):
        session = await open_session(reactor, key, "alice", address, expected, credit=0)
        session.begin(Listener())
        sessions.append(session)
    print("open", flush=True)
    await Deferred()


def failed(failure: Failure) -> None:
    """Print the fault of a benchmark."""
    failure.printTraceback()


def main(what: str, word: str, data: str, registry: str) -> None:
    """Run the command line."""
    key = load_or_make(Path(data) / KEY_NAME)
    work = {"list": list_often, "idle": idle}[what]
    working: Deferred[None] = Deferred.fromCoroutine(work(word, key, registry))
    working.addErrback(failed)
    working.addBoth(lambda _: reactor.callWhenRunning(reactor.stop))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
