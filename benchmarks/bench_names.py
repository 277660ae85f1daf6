"""Owned names: claims, heartbeats, look-ups, many names, and clients that send one byte a second.

The registry and its Redis have one core, and the clients have the other. Rates are those of 64 connections without
pauses; the claims are signed beforehand. Waits are measured at half the promised rate. Both are measured with the
default limits, which exempt this machine's own addresses, and with limits that apply to them but are never reached.
Then the registry's Redis is filled with live names, and a thousand clients send one byte a second.

Run it as `python benchmarks/bench_names.py`; it takes about two minutes.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

from benchmarks.filling import fill, registry_key, used_memory
from benchmarks.load import Exchange, Requests, closed_loop, open_loop
from benchmarks.reporting import print_table
from benchmarks.servers import cores, free_port, registry, running
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey, SigningKey, from_base64url
from p2pshare.wire.reach.candidates import Candidate
from p2pshare.wire.registry_answers import ClaimBody
from p2pshare.wire.statements import Location, Record, digest_of

CONNECTIONS = 64
SECONDS = 4.0  # of each measurement
CLAIMS = 12_000  # signed before
NAMES = 100_000
SLOW = 1000  # clients that drip
SLOW_ADDRESSES = 10  # of theirs: a registry takes 128 connections of one
DRIPPING = 20.0  # seconds
PROMISED = {"look-ups": 2000, "heartbeats": 2000, "signed claims": 800}  # per second
LIMITS = [
    word
    for kind in ("requests", "claims", "names", "key")
    for word in ("--limit", f"{kind}=1000000:1000000")
]


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def claim(number: int, registry: PublicKey) -> bytes:
    """A claim of a unique name by a unique key."""
    key = SigningKey(number.to_bytes(32))
    now = int(time.time())
    name = f"bench-{number}"
    location = Location("s" * 22, (Candidate.parse("host/10.0.0.5:50000"),)).to_text()
    digest, end = digest_of(location), now + 86400
    record = Record(name, key.public, now * 1000, now, end, registry, digest, ("classic",))
    body = ClaimBody(record.sign(key), location)
    return request("PUT", f"/v1/peers/{name}", body.to_json())


def is_done(reply: bytes) -> bool:
    """Whether a reply says 200 or 201."""
    return reply.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201"))


def claims(port: int) -> Requests:
    """Yield claims of new names."""
    registry = registry_key(port)
    signed = iter([claim(number, registry) for number in range(1, CLAIMS + 1)])
    return lambda _connection: (next(signed), is_done)


def heartbeats(port: int) -> Requests:
    """Yield heartbeats of as many peers as there are connections."""
    peers: list[Iterator[Exchange]] = []
    for number in range(CONNECTIONS):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(claim(10**6 + number, registry_key(port)))
            granted = json.loads(connection.recv(65536).partition(b"\r\n\r\n")[2])
        peers.append(beats(f"bench-{10**6 + number}", granted))
    return lambda connection: next(peers[connection])


def beats(name: str, granted: dict[str, str]) -> Iterator[Exchange]:
    """The heartbeats of one peer."""
    mac_key = from_base64url(granted["mac_key"])
    for beat in count(1):
        body = Heartbeat(name, granted["session"], beat, True).to_json(mac_key)
        yield request("POST", f"/v1/peers/{name}/presence", body), is_done


def look_ups(_port: int) -> Requests:
    """Yield look-ups of claimed names."""
    names = cycle(range(10**6, 10**6 + CONNECTIONS))
    return lambda _connection: (request("GET", f"/v1/peers/bench-{next(names)}"), is_done)


def measure_rates(*options: str) -> list[tuple[str, ...]]:
    """Measure each kind of request at full speed and at half the promised rate."""
    limits = "on" if options else "spared"
    rows: list[tuple[str, ...]] = []
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as data,
        running(registry(port, data, *options), port, cores()[0]),
    ):
        for what, requests in (
            ("heartbeats", heartbeats(port)),
            ("look-ups", look_ups(port)),
            ("signed claims", claims(port)),
        ):
            load = closed_loop(port, requests, SECONDS, CONNECTIONS)
            half = PROMISED[what] / 2
            calm = open_loop(port, requests, SECONDS, CONNECTIONS, half)
            rows.append(
                (what, limits, f"{load.rate:,.0f}", f"{PROMISED[what]:,}", f"{half:,.0f}",
                 f"{calm.within(0.5):.1f}", f"{calm.within(0.99):.1f}", f"{calm.within(1):.1f}")
            )  # fmt: skip
    return rows


def timed(port: int, path: str) -> tuple[float, bytes]:
    """Return the duration of a request in seconds, and the body of the reply."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        start = time.perf_counter()
        connection.sendall(request("GET", path))
        reply = b""
        while b"\r\n\r\n" not in reply or not reply.endswith((b"}", b"]")):
            reply += connection.recv(1 << 20)
        return time.perf_counter() - start, reply.partition(b"\r\n\r\n")[2]


def time_to_be_seen(port: int, number: int) -> float:
    """Return the seconds from a claim's reply until the first page of the list contains it."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(claim(number, registry_key(port)))
        connection.recv(65536)
    start = time.perf_counter()
    while f'"bench-{number}"'.encode() not in timed(port, f"/v1/peers?prefix=bench-{number}")[1]:
        time.sleep(0.01)
    return time.perf_counter() - start


def longest_hold(port: int, until: threading.Event) -> list[float]:
    """Repeatedly request `/healthz`, which waits for the event loop only. Return the durations in seconds."""
    taken = []
    while not until.is_set():
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for _ in range(100):
                start = time.perf_counter()
                connection.sendall(request("GET", "/healthz"))
                connection.recv(4096)
                taken.append(time.perf_counter() - start)
    return taken


def measure_many() -> list[tuple[str, str, str]]:
    """Measure the cost of many live names."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as data,
        running(registry(port, data, *LIMITS), port, cores()[0]),
    ):
        before = used_memory(f"{data}/redis.sock")
        fill(f"{data}/redis.sock", NAMES, registry_key(port))
        memory = used_memory(f"{data}/redis.sock") - before
        pages = ("/v1/peers?limit=100", "/v1/peers?limit=500&online=1")
        first, full = ([timed(port, path)[0] for _ in range(20)] for path in pages)
        over = threading.Event()
        holds: list[float] = []
        prober = threading.Thread(target=lambda: holds.extend(longest_hold(port, over)))
        prober.start()
        for _ in range(20):
            for path in pages:
                timed(port, path)
        seen = max(time_to_be_seen(port, 2 * 10**6 + number) for number in range(10))
        over.set()
        prober.join()
        return [
            ("memory of Redis, MB", f"{memory / 1e6:.0f}", "200"),
            ("first page of 100, slowest of 20, ms", f"{max(first) * 1000:.1f}", "50"),
            ("first page of 500 online, slowest of 20, ms", f"{max(full) * 1000:.1f}", "50"),
            ("longest wait for the event loop meanwhile, ms", f"{max(holds) * 1000:.1f}", "50"),
            ("from a claim to the list, slowest of 10, ms", f"{seen * 1000:.0f}", "1000"),
        ]


def memory_of(pid: int) -> float:
    """Return the resident memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def drip(port: int, until: threading.Event) -> None:
    """Hold connections that send one byte a second, and reopen those that are closed."""
    text = request("GET", "/v1/peers/" + "x" * 200)
    clients: list[tuple[socket.socket, int]] = []
    sources = cycle(f"127.0.1.{number}" for number in range(1, SLOW_ADDRESSES + 1))
    while not until.wait(1.0):
        while len(clients) < SLOW:
            source = (next(sources), 0)
            clients.append((socket.create_connection(("127.0.0.1", port), None, source), 0))
        kept = []
        for connection, sent in clients:
            try:
                connection.send(text[sent : sent + 1])
                kept.append((connection, sent + 1))
            except OSError:
                connection.close()
        clients = kept
    for connection, _ in clients:
        connection.close()


def measure_slow() -> list[tuple[str, str]]:
    """Measure honest look-ups, each on a new connection, beside clients that send one byte a second."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as data,
        running(registry(port, data, *LIMITS), port, cores()[0]) as process,
    ):
        requests = heartbeats(port)
        closed_loop(port, requests, SECONDS, CONNECTIONS)
        before = memory_of(process.pid)
        over = threading.Event()
        slow = threading.Thread(target=drip, args=(port, over))
        slow.start()
        time.sleep(2)
        taken = []
        end = time.perf_counter() + DRIPPING
        while time.perf_counter() < end:
            start = time.perf_counter()
            body = timed(port, f"/v1/peers/bench-{10**6}")[1]
            assert b"online" in body, body
            taken.append(time.perf_counter() - start)
            time.sleep(0.02)
        during = memory_of(process.pid)
        over.set()
        slow.join()
        time.sleep(3)
        after = memory_of(process.pid)
    taken.sort()
    return [
        ("honest look-ups, each on a new connection", f"{len(taken)}"),
        ("99 % within, ms", f"{taken[len(taken) * 99 // 100] * 1000:.1f}"),
        ("slowest, ms", f"{taken[-1] * 1000:.1f}"),
        ("memory of the registry before, during, after, MB", f"{before:.0f}, {during:.0f}, {after:.0f}"),
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, cores()[1])
    title = f"{CONNECTIONS} connections, the registry and its Redis on one core"
    rates = ("requests", "limits", "per second", "promised")
    waits = ("at", "median, ms", "99 % within", "slowest")
    print_table(title, rates + waits, measure_rates() + measure_rates(*LIMITS))
    print_table(f"{NAMES:,} live names", ("what", "measured", "promised"), measure_many())
    print_table(f"{SLOW:,} clients that drip a byte a second", ("what", "measured"), measure_slow())


if __name__ == "__main__":
    main()
