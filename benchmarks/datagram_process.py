"""One end of a transfer over p2pshare's datagram transport, without sessions around it, as a process of its own.

python -m benchmarks.datagram_process serve BYTES
    sends BYTES bytes over each connection; prints its port
python -m benchmarks.datagram_process fetch PORT FILE
    fetches into FILE, and prints a JSON object: the seconds from the connection to the last byte
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as twisted_reactor
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol

from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.endpoint import ConnectionEvent, DatagramEndpoint, EndpointSettings
from p2pshare.core.datagram.events import (
    Closed,
    FinReceived,
    HandshakeDone,
    PieceReceived,
    SizeReceived,
    Writable,
)
from p2pshare.core.datagram.trains import Address
from p2pshare.core.ranges import RangeSet
from p2pshare.net.datagrams.train_port import TrainPort, listen_trains
from p2pshare.net.session.tls import SessionTls
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.keys import SigningKey

HOST = "127.0.0.1"
SERVER, CLIENT = (SigningKey(bytes([number]) * 32) for number in (1, 2))
TRANSFER = 1
BUDGET = 512 * 1024  # bytes sent until others in the reactor get their turn
reactor: Any = twisted_reactor


class Driver(DatagramProtocol):
    """Drives an endpoint on a port of its own, with one timer."""

    noisy = False

    def __init__(
        self, endpoint: DatagramEndpoint, on_event: Callable[[ConnectionEvent], None]
    ) -> None:
        self._endpoint = endpoint
        self._on_event = on_event
        self._timer: IDelayedCall | None = None
        self._port: TrainPort = listen_trains(reactor, 0, self, HOST)
        self.number = int(self._port.getHost().port)

    def train_received(self, data: memoryview, segment: int, address: Address) -> None:
        """Take a train."""
        self._endpoint.receive_train(data, segment, address, reactor.seconds())
        self.pump()

    def datagram_refused(self, address: Address) -> None:
        """Tell the endpoint."""
        self._endpoint.datagram_refused(address)

    def port_writable(self) -> None:
        """Send what had to wait."""
        self.pump()

    def pump(self) -> None:
        """Pass events on, send what is due, and set the timer."""
        while (event := self._endpoint.next_event()) is not None:
            self._on_event(event)
        trains = (
            [] if self._port.is_full else self._endpoint.trains_to_send(reactor.seconds(), BUDGET)
        )
        for train in trains:
            self._port.send_train(train.data, train.segment, train.address)
        due = reactor.seconds() if trains else self._endpoint.get_timer()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if due is not None:
            self._timer = reactor.callLater(max(0.0, due - reactor.seconds()), self._time_passed)

    def _time_passed(self) -> None:
        self._endpoint.handle_timer(reactor.seconds())
        self.pump()


class Server:
    """Sends a file of repeated blocks over each connection."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._block = memoryview(os.urandom(BLOCK_SIZE))
        self._sent: dict[DatagramConnection, int] = {}
        endpoint = DatagramEndpoint(
            EndpointSettings(), os.urandom, lambda _: SessionTls(SERVER).accept()
        )
        self.port = Driver(endpoint, self._on_event).number

    def _on_event(self, happened: ConnectionEvent) -> None:
        connection = happened.connection
        match happened.event:
            case HandshakeDone():
                connection.begin(TRANSFER, self._size)
                self._sent[connection] = 0
                self._send_more(connection)
            case Writable():
                self._send_more(connection)
            case Closed():
                self._sent.pop(connection, None)

    def _send_more(self, connection: DatagramConnection) -> None:
        sent = self._sent[connection]
        while sent < self._size and not connection.is_full:
            piece = self._block[: self._size - sent]
            connection.send_piece(TRANSFER, sent, piece, reactor.seconds())
            sent += len(piece)
            if sent == self._size:
                connection.finish(TRANSFER)
        self._sent[connection] = sent


class Client:
    """Writes a file as it arrives."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._there = RangeSet()
        self._size = -1
        self._started = 0.0
        self._endpoint = DatagramEndpoint(EndpointSettings(), os.urandom, lambda _: None)
        self._driver = Driver(self._endpoint, self._on_event)

    def fetch(self, port: int) -> None:
        """Open a connection."""
        tls = SessionTls(CLIENT).connect(SERVER.public)
        self._endpoint.open((HOST, port), tls, reactor.seconds())
        self._driver.pump()

    def _on_event(self, happened: ConnectionEvent) -> None:
        match happened.event:
            case HandshakeDone():
                self._started = time.perf_counter()
            case SizeReceived():
                self._size = happened.event.size
            case PieceReceived():
                piece = happened.event
                os.pwrite(self._file, piece.data, piece.offset)
                self._there.add(piece.offset, piece.offset + len(piece.data))
            case FinReceived():
                missing = tuple(self._there.missing(0, self._size))
                happened.connection.answer_fin(TRANSFER, missing)
                if not missing:
                    happened.connection.close(0, "", reactor.seconds())
                    self._report(happened.connection)
            case Closed():
                reactor.callLater(0.1, reactor.stop)

    def _report(self, connection: DatagramConnection) -> None:
        seconds = time.perf_counter() - self._started
        print(json.dumps({"seconds": seconds, "segment": connection.path_mtu}), flush=True)


def main(what: str, word: str, *path: str) -> None:
    """Run the command line."""
    if what == "serve":
        print(Server(int(word)).port, flush=True)
    else:
        Client(*path).fetch(int(word))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
