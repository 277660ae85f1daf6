"""The speed and the fairness of a registry's relay on loopback, beside direct connections in the same run.

Four measurements: bytes through one relayed TCP connection beside a direct one, a session's channel (TLS, frames) over
both, PAIRS pairs at once, and as many whose receivers do not read. The registry is a process of its own, as with
`twistd p2pregistry`. All processes share the cores of this machine, so the CPU time of the registry for each byte tells
more than the rates.

Run it as `python -m benchmarks.bench_relay [SECONDS [PAIRS]]` (default: 4 s for each figure, 100 pairs).
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater

from benchmarks.reporting import print_table
from benchmarks.servers import answers, free_port, registry
from p2pshare.net.session.interfaces import Channel
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tcp import FILE_READ, MESSAGE_READ, TcpCarrier, TcpCarriers
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import client_endpoint
from p2pshare.registry.relay_client import RelayClient
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from tests.integration.relayed import RelayedPeer, meet

CHUNK = 256 * 1024  # bytes sent or received at once by the ends
NAMES = {"send": "alice", "receive": "bob"}
READ = 256 * 1024  # bytes that a channel reads at once
PIECE = memoryview(bytes(PIECE_MAX))
TICKS = os.sysconf("SC_CLK_TCK")
reactor: Any = twisted_reactor
LIMITS = ("access=off", "access-key=off", "requests=off", "claims=off", "names=off", "key=off")


def direct_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


class Meter:
    """What a process has used."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu(self) -> float:
        """Return the seconds of CPU time so far."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> int:
        """Return the resident bytes."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def flow(ends: tuple[socket.socket, socket.socket], seconds: float) -> float:
    """Send as fast as the other end receives; return bytes per second."""
    until = time.perf_counter() + seconds
    sender, receiver = ends

    def send() -> None:
        chunk = bytes(CHUNK)
        while time.perf_counter() < until:
            sender.sendall(chunk)
        sender.shutdown(socket.SHUT_WR)

    sending = Thread(target=send)
    sending.start()
    buffer, size, started = bytearray(CHUNK), 0, time.perf_counter()
    while received := receiver.recv_into(buffer):
        size += received
    took = time.perf_counter() - started
    sending.join()
    for end in ends:
        end.close()
    return size / took


class SendingEnd:
    """The user of a channel that sends pieces as fast as they go."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connected(self, channel: Channel) -> None:
        """Keep the channel."""
        self.channel = channel

    def secured(self, key: PublicKey) -> None:
        """Begin."""
        self.writable()

    def writable(self) -> None:
        """Send until the channel is full."""
        while not self.channel.is_full:
            self.channel.send_piece(1, 0, PIECE)

    def readable(self) -> None:
        """Read what TLS says."""
        self.channel.read(READ)

    def closed(self, reason: str | None) -> None:
        """Stop."""
        self.ended.callback(None)


class ReceivingEnd:
    """The user of a channel that counts the bytes of pieces, and closes after some seconds."""

    def __init__(self, seconds: float) -> None:
        self.ended: Deferred[None] = Deferred()
        self._seconds = seconds
        self._size = 0
        self._began = 0.0

    def connected(self, channel: Channel) -> None:
        """Keep the channel."""
        self.channel = channel

    def secured(self, key: PublicKey) -> None:
        """Begin to count."""
        self._began = time.perf_counter()
        reactor.callLater(self._seconds, self._finish)

    def readable(self) -> None:
        """Read everything."""
        while self.channel.read(READ):
            pass

    def piece_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Count."""
        self._size += len(data)

    def writable(self) -> None:
        """Send nothing."""

    def closed(self, reason: str | None) -> None:
        """Stop."""
        self.ended.callback(None)

    def _finish(self) -> None:
        print(self._size / (time.perf_counter() - self._began))
        self.channel.abort()


async def run_end(what: str, own: str, other: str, aud: str, port: str, word: str) -> None:
    """Run one end of a session in this process: `tcp` with a port, or `relay` with a room."""
    role, path = what.split("-")
    seed, seconds = own.split("/")
    key, partner = SigningKey(bytes.fromhex(seed)), PublicKey.parse(other)
    user: Any = SendingEnd() if role == "send" else ReceivingEnd(float(seconds))
    tls = SessionTls(key)
    pump = tls.connect(partner) if role == "receive" else tls.accept()
    channel = StreamChannel(reactor, pump, user)
    if path == "relay":
        client = RelayClient(reactor, f"http://127.0.0.1:{port}", key, NAMES[role], wall=time.time)
        size = FILE_READ if role == "receive" else MESSAGE_READ
        await client.join(PublicKey.parse(aud), word, partner, channel, read_size=size)
    elif role == "send":
        await TCP4ServerEndpoint(reactor, int(word), interface="127.0.0.1").listen(
            TcpCarriers(lambda _: channel)
        )
    else:
        while not user.ended.called:
            try:
                await connectProtocol(
                    client_endpoint(reactor, PeerAddress("127.0.0.1", int(word)), 5.0),
                    TcpCarrier(channel, FILE_READ),
                )
                break
            except ConnectError:
                await deferLater(reactor, 0.1)
    await user.ended


def session(kind: str, one: RelayedPeer, two: RelayedPeer, port: int, seconds: float) -> float:
    """Return the bytes per second of a session between two processes: over `tcp`, or `relay`."""
    word = str(free_port()) if kind == "tcp" else to_base64url(secrets.token_bytes(16))
    ends = []
    for role, own, other in (("send", one, two), ("receive", two, one)):
        words = [f"{role}-{kind}", f"{own.seed.hex()}/{seconds}", str(other.key.public)]
        command = [
            sys.executable,
            "-m",
            "benchmarks.bench_relay",
            "end",
            *words,
            str(own.registry),
            str(port),
            word,
        ]
        ends.append(subprocess.Popen(command, stdout=subprocess.PIPE))
    said = ends[1].communicate()[0]
    ends[0].communicate()
    return float(said)


def flow_all(all_ends: list[tuple[socket.socket, socket.socket]], seconds: float) -> list[int]:
    """Send on all pairs as fast as they take it; return the bytes that each has received."""
    selector = selectors.DefaultSelector()
    sizes = [0] * len(all_ends)
    chunk, buffer = bytes(CHUNK), bytearray(CHUNK)
    for number, (sender, receiver) in enumerate(all_ends):
        sender.setblocking(False)
        receiver.setblocking(False)
        selector.register(sender, selectors.EVENT_WRITE, None)
        selector.register(receiver, selectors.EVENT_READ, number)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for key, _ in selector.select(1.0):
            end: Any = key.fileobj
            if key.data is None:
                end.send(chunk)
            else:
                sizes[key.data] += end.recv_into(buffer)
    for ends in all_ends:
        for end in ends:
            end.close()
    return sizes


def stall(all_ends: list[tuple[socket.socket, socket.socket]], seconds: float) -> None:
    """Send on all pairs, and receive nothing."""
    chunk, until = bytes(CHUNK), time.perf_counter() + seconds
    for sender, _ in all_ends:
        sender.setblocking(False)
    while time.perf_counter() < until:
        for sender, _ in all_ends:
            with suppress(BlockingIOError):
                sender.send(chunk)
        time.sleep(0.01)


@contextmanager
def running_registry(*options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a registry without limits on requests; yield its process and its port."""
    port = free_port()
    limits = [word for limit in LIMITS for word in ("--limit", limit)]
    with tempfile.TemporaryDirectory() as data:
        command = registry(port, data, *limits, *options)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while not answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the registry did not start")
                time.sleep(0.1)
            yield process, port
        finally:
            process.terminate()
            process.wait(10)


def main(seconds: str = "4", count: str = "100") -> None:
    """Measure and print."""
    options = ("--relay-limit", "pairs-per-key=1000", "--relay-limit", "rate=off")
    with running_registry(*options, "--relay-limit", "rate-per-key=off") as (process, port):
        alice, bob = (RelayedPeer(port, name) for name in ("alice", "bob"))
        meter = Meter(process.pid)
        rows = []
        for _ in range(3):
            direct = flow(direct_pair(), float(seconds))
            used = meter.cpu()
            ends = meet(alice, bob)
            relayed = flow(ends, float(seconds))
            used = meter.cpu() - used
            rows.append(
                (
                    f"{direct / 1e6:,.0f}",
                    f"{relayed / 1e6:,.0f}",
                    f"{relayed / direct:.2f}",
                    f"{relayed * float(seconds) / used / 1e6:,.0f}",
                )
            )
        title = "Bytes of one connection: MB/s"
        print_table(
            title, ("direct", "relayed", "ratio", "MB per second of CPU of the registry"), rows
        )
        rates = []
        for _ in range(3):
            direct, relayed = (
                session(kind, alice, bob, port, float(seconds)) for kind in ("tcp", "relay")
            )
            rates.append(
                (f"{direct / 1e6:,.0f}", f"{relayed / 1e6:,.0f}", f"{relayed / direct:.2f}")
            )
        print_table("Bytes of one session: MB/s", ("direct", "relayed", "ratio"), rates)
        idle = meter.memory()
        sizes = flow_all([meet(alice, bob) for _ in range(int(count))], float(seconds))
        memory = meter.memory()
        stalled = [meet(alice, bob) for _ in range(int(count))]
        stall(stalled, float(seconds))
        full = meter.memory()
        for end in (end for ends in stalled for end in ends):
            end.close()
        mean = sum(sizes) / len(sizes)
        row = (
            count,
            f"{sum(sizes) / float(seconds) / 1e6:,.0f}",
            f"{min(sizes) / mean:.2f}",
            f"{max(sizes) / mean:.2f}",
            f"{(memory - idle) / 1e6:.0f}",
            f"{(full - idle) / 1e6:.0f}",
        )
        header = (
            "pairs",
            "MB/s in all",
            "min/mean",
            "max/mean",
            "memory of the registry, + MB",
            "the same if nobody reads",
        )
        print_table("Pairs at once", header, [row])


def run(words: list[str]) -> None:
    """Run an end in this process, and return when it is closed."""
    running = Deferred.fromCoroutine(run_end(*words))
    running.addErrback(lambda failure: failure.printTraceback())
    running.addBoth(lambda _: reactor.callWhenRunning(reactor.stop))
    reactor.run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["end"]:
        run(sys.argv[2:])
    else:
        main(*sys.argv[1:])
