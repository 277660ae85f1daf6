"""One end of a transfer, as a process of its own.

python -m benchmarks.peer_process share FOLDER
    serves FOLDER on a loopback port, which it prints, until it is ended
python -m benchmarks.peer_process fetch KIND PORT FOLDER TRIES
    fetches TRIES times into FOLDER, and prints a JSON object for each
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from benchmarks.peers import memory
from p2pshare.classic.datagrams import Kind
from p2pshare.classic.download import ClassicDownload, Order
from p2pshare.classic.server import ClassicServer
from p2pshare.classic.shared_files import ClassicShare
from p2pshare.errors import P2pshareError
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.wire.addresses import PeerAddress

HOST = "127.0.0.1"
reactor: Any = twisted_reactor


def share(folder: str) -> None:
    """Serve a folder and print the welcome port."""
    sharer = ClassicServer(reactor, ClassicShare([SharedPath("share", Path(folder).absolute())]))
    datagrams = DatagramSessions(reactor, os.urandom, None, sharer.protocol)
    print(datagrams.port.listen(0, HOST), flush=True)


async def fetch(kind: str, port: str, folder: str, tries: str) -> None:
    """Fetch repeatedly, and print the results."""
    idle = memory("self")["VmRSS"]
    for _ in range(int(tries)):
        order = Order(
            "alice", PeerAddress(HOST, int(port)), Kind(kind), Path(folder), f"{kind}.png", True
        )
        one = ClassicDownload(reactor, order)
        try:
            fetched = await one.run()
        except P2pshareError as error:
            print(json.dumps({"error": str(error)}), flush=True)
            continue
        grown = memory("self")["VmHWM"] - idle
        report = {"seconds": fetched.seconds, "bytes": fetched.size, "memory": grown}
        if one.rows is not None:
            report["transfer_seconds"] = one.rows.last_new_row - one.rows.started
        print(json.dumps(report), flush=True)


def failed(failure: Failure) -> None:
    """Print the fault of a benchmark."""
    failure.printTraceback()


def main(mode: str, *arguments: str) -> None:
    """Run the command line."""
    if mode == "share":
        share(*arguments)
    else:
        fetching = Deferred.fromCoroutine(fetch(*arguments))
        fetching.addErrback(failed)
        fetching.addBoth(lambda _: reactor.callWhenRunning(reactor.stop))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
