"""How many look-ups a registry answers, and whether a long list holds it up.

The registry, with a Redis of its own, has one core, and the clients have another. Both figures are of
one run: look-ups per second beside those of a bare `twisted.web` site that answers every request with a constant of the
same length, and the longest wait for a look-up while 100 000 names are being listed.

Run it as `python benchmarks/bench_registry.py`; it takes about half a minute.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

from benchmarks.reporting import print_table

CONNECTIONS = 64
SECONDS = 4.0  # of each measurement
NAMES = 100_000
LIST_KEPT = 1.5  # seconds after which the registry certainly builds the list anew
TWISTD = "from twisted.scripts.twistd import run; run()"
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


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cores() -> tuple[set[int], set[int]]:
    """A core for the server and one for the clients; the same one if there is no other."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[-1]}


@contextmanager
def running(command: list[str], port: int, core: set[int]) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, pinned, from its first answer on."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    try:
        deadline = time.monotonic() + 15
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[1]} did not start")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def answers(port: int) -> bool:
    """Whether a server is ready there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(12).endswith(b"200")
    except OSError:
        return False


def look_ups(port: int, seconds: float, connections: int = CONNECTIONS) -> list[float]:
    """Keep every connection busy with look-ups; return how long each took, in seconds."""
    selector = selectors.DefaultSelector()
    started: dict[int, float] = {}
    requests = cycle(
        [
            b"GET /user/peer-%07d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % (number * 7919 % NAMES)
            for number in range(NAMES)
        ]
    )
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, connection)
        started[connection.fileno()] = time.perf_counter()
        connection.sendall(next(requests))
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        for key, _ in selector.select(0.1):
            connection = key.data
            reply = connection.recv(4096)
            if not reply.startswith(b"HTTP/1.1 200") or not reply.endswith(b"}"):
                raise SystemExit(f"a look-up failed: {reply!r}")
            now = time.perf_counter()
            taken.append(now - started[key.fd])
            started[key.fd] = now
            connection.sendall(next(requests))
    for key in list(selector.get_map().values()):
        key.data.close()
    return taken


def fill(path: str, names: int) -> None:
    """Put names straight into the registry's Redis: its own routes would take a minute."""
    commands = []
    for number in range(names):
        name = f"peer-{number:07}"
        commands.append(f'SET p2p:{{{name}}}:classic "10.0.0.5 50000 -" EX 3600\r\n')
        commands.append(f"ZADD p2p:{{index}}:names 0 {name}\r\n")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        for start in range(0, len(commands), 1000):
            connection.sendall("".join(commands[start : start + 1000]).encode())
            replies = 0
            while replies < 1000:
                replies += connection.recv(65536).count(b"\n")


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
        bare = look_ups(port, SECONDS)
    with tempfile.TemporaryDirectory() as data:
        service = ["p2pregistry", "--listen", listen, "--data", data]
        command = [sys.executable, "-c", TWISTD, "-n", *service]
        with running(command, port, registry_core):
            fill(f"{data}/redis.sock", NAMES)
            ours = look_ups(port, SECONDS)
            runs = []
            for _ in range(3):
                time.sleep(LIST_KEPT)
                runs.append(list_and_probe(port))
    rows = []
    for what, taken in (("a constant from a bare site", bare), ("a look-up in Redis", ours)):
        rate = len(taken) / SECONDS
        ratio = len(taken) / len(bare)
        worst = sorted(taken)[len(taken) * 99 // 100] * 1000
        rows.append((what, f"{rate:,.0f}", f"{ratio:.2f}", f"{worst:.1f}"))
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
