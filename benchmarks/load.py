"""A load of HTTP requests on persistent connections, at full speed or at a given rate."""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Exchange = tuple[bytes, Callable[[bytes], bool]]
"""A request, and a check of its reply."""
Requests = Callable[[int], Exchange]
"""The next request of a connection, by the connection's number."""


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a load."""

    seconds: float
    taken: list[float]
    """The duration of each reply in seconds; at a given rate, from the scheduled time of the request."""

    @property
    def rate(self) -> float:
        """The rate, in replies per second."""
        return len(self.taken) / self.seconds

    def within(self, share: float) -> float:
        """Return the time in ms within which this share of the replies arrived."""
        return sorted(self.taken)[min(len(self.taken) - 1, int(len(self.taken) * share))] * 1000


class _Connections:
    def __init__(self, port: int, number: int, requests: Requests) -> None:
        self.selector = selectors.DefaultSelector()
        self.idle: deque[int] = deque(range(number))
        self._requests = requests
        self._sockets = []
        self._due = [0.0] * number
        self._is_right: list[Callable[[bytes], bool]] = [lambda _: True] * number
        self._begun = [b""] * number
        for each in range(number):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(connection, selectors.EVENT_READ, each)
            self._sockets.append(connection)

    def ask(self, number: int, due: float) -> None:
        request, self._is_right[number] = self._requests(number)
        self._due[number] = due
        self._sockets[number].sendall(request)

    def hear(self, wait: float) -> list[float]:
        """Return the durations of the replies that arrived within `wait` seconds."""
        taken = []
        for key, _ in self.selector.select(wait):
            number: int = key.data
            reply = self._begun[number] + self._sockets[number].recv(65536)
            if not _is_whole(reply):
                self._begun[number] = reply
                continue
            self._begun[number] = b""
            if not self._is_right[number](reply):
                raise SystemExit(f"a request failed: {reply!r}")
            taken.append(time.perf_counter() - self._due[number])
            self.idle.append(number)
        return taken

    def close(self) -> None:
        for each in self._sockets:
            each.close()
        self.selector.close()


def _is_whole(reply: bytes) -> bool:
    head, end, body = reply.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(end) and len(body) >= int(length or 0)


def closed_loop(port: int, requests: Requests, seconds: float, connections: int) -> Load:
    """Load every connection without pause."""
    clients = _Connections(port, connections, requests)
    taken: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() < start + seconds:
        while clients.idle:
            clients.ask(clients.idle.popleft(), time.perf_counter())
        taken += clients.hear(0.1)
    took = time.perf_counter() - start
    clients.close()
    return Load(took, taken)


def open_loop(
    port: int, requests: Requests, seconds: float, connections: int, per_second: float
) -> Load:
    """Send requests at a steady rate on any free connection. Waiting for a connection counts as delay."""
    clients = _Connections(port, connections, requests)
    taken: list[float] = []
    start = due = time.perf_counter()
    while due < start + seconds:
        while clients.idle and due <= time.perf_counter():
            clients.ask(clients.idle.popleft(), due)
            due += 1 / per_second
        wait = due - time.perf_counter() if clients.idle else 0.1
        taken += clients.hear(max(0.0, min(wait, 0.1)))
    while len(clients.idle) < connections:
        taken += clients.hear(1.0)
    clients.close()
    return Load(seconds, taken)
