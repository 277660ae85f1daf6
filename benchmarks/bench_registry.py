"""The rate of look-ups of a registry, and its delay during a long list.

The registry and its Redis have one core, and the clients have another. One run measures two figures. The first is
look-ups per second, beside those of a bare `twisted.web` site that answers with a constant of the same length. The
second is the longest wait for a look-up while 100 000 names are listed.

Run it as `python benchmarks/bench_registry.py`; it takes about half a minute.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import tempfile
import time
from itertools import cycle

from benchmarks.filling import fill, registry_key
from benchmarks.load import Exchange, closed_loop
from benchmarks.reporting import print_table
from benchmarks.servers import cores, free_port, registry, running

CONNECTIONS = 64
SECONDS = 4.0  # of each measurement
NAMES = 100_000
LIST_KEPT = 1.5  # seconds until the registry certainly rebuilds the list
BARE_SITE = """
import sys
from twisted.internet import endpoints, reactor
from twisted.web import resource, server
class Constant(resource.Resource):
    isLeaf = True
    def render(self, request):
        return b'{"ip": "10.0.0.5", "port": 50000}'
endpoints.serverFromString(reactor, sys.argv[1]).listen(server.Site(Constant()))
reactor.run()
"""


def look_up(_connection: int) -> Exchange:
    """Yield names in a scattered order."""
    return next(_look_ups)


_look_ups = cycle(
    [
        (
            b"GET /user/peer-%07d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % (number * 7919 % NAMES),
            lambda reply: reply.startswith(b"HTTP/1.1 200") and reply.endswith(b"}"),
        )
        for number in range(NAMES)
    ]
)


def list_and_probe(port: int) -> tuple[float, int, float]:
    """List all names while asking `/healthz`, which waits for the event loop and nothing else.

    Returns:
        The list's seconds and bytes, and the longest wait for `/healthz`, in seconds.
    """
    selector = selectors.DefaultSelector()
    lister, prober = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
    selector.register(lister, selectors.EVENT_READ)
    selector.register(prober, selectors.EVENT_READ)
    start = asked = time.perf_counter()
    longest, size, end = 0.0, 0, None
    lister.sendall(b"GET list HTTP/1.1\r\nHost: x\r\n\r\n")
    prober.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    while end is None:
        for key, _ in selector.select():
            if key.fileobj is prober:
                prober.recv(4096)
                now = time.perf_counter()
                longest, asked = max(longest, now - asked), now
                prober.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            else:
                received = len(lister.recv(1 << 20))
                size += received
                if not received:
                    end = time.perf_counter()
    longest = max(longest, end - asked)
    lister.close()
    prober.close()
    return end - start, size, longest


def main() -> None:
    """Measure and print."""
    registry_core, client_core = cores()
    os.sched_setaffinity(0, client_core)
    port = free_port()
    listen = f"tcp:{port}:interface=127.0.0.1"
    with running([sys.executable, "-c", BARE_SITE, listen], port, registry_core):
        bare = closed_loop(port, look_up, SECONDS, CONNECTIONS)
    with (
        tempfile.TemporaryDirectory() as data,
        running(registry(port, data), port, registry_core),
    ):
        fill(f"{data}/redis.sock", NAMES, registry_key(port))
        ours = closed_loop(port, look_up, SECONDS, CONNECTIONS)
        runs = []
        for _ in range(3):
            time.sleep(LIST_KEPT)
            runs.append(list_and_probe(port))
    rows = []
    for what, load in (("a constant from a bare site", bare), ("a look-up in Redis", ours)):
        ratio = load.rate / bare.rate
        rows.append((what, f"{load.rate:,.0f}", f"{ratio:.2f}", f"{load.within(0.99):.1f}"))
    title = f"Look-ups over {CONNECTIONS} kept-alive connections, the registry and its Redis on one core"
    print_table(title, ("reply", "per second", "ratio", "99 % within, ms"), rows)
    listings = [
        (f"{seconds:.2f}", f"{size / 1e6:.1f}", f"{longest * 1000:.1f}")
        for seconds, size, longest in runs
    ]
    title = f"GET list of {NAMES:,} names"
    print_table(title, ("seconds", "MB", "longest hold of the event loop, ms"), listings)


if __name__ == "__main__":
    main()
