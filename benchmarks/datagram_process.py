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
from typing import Any

from twisted.internet import reactor as twisted_reactor

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
from p2pshare.core.ranges import RangeSet
from p2pshare.net.datagrams.welcome_port import WelcomePort
from p2pshare.net.session.tls import SessionTls
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.keys import SigningKey

HOST = "127.0.0.1"
SERVER, CLIENT = (SigningKey(bytes([number]) * 32) for number in (1, 2))
TRANSFER = 1
reactor: Any = twisted_reactor


class Server:
    """Sends a file of repeated blocks over each connection."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._block = memoryview(os.urandom(BLOCK_SIZE))
        self._sent: dict[DatagramConnection, int] = {}
        endpoint = DatagramEndpoint(
            EndpointSettings(), os.urandom, lambda _: SessionTls(SERVER).accept()
        )
        self._port = WelcomePort(reactor, endpoint, self._on_event)

    def listen(self) -> int:
        """Open a port, and return its number."""
        return self._port.listen(0, HOST)

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
        self._port = WelcomePort(reactor, self._endpoint, self._on_event)

    def fetch(self, port: int) -> None:
        """Open a connection."""
        self._port.listen(0, HOST)
        tls = SessionTls(CLIENT).connect(SERVER.public)
        self._endpoint.open((HOST, port), tls, reactor.seconds())
        self._port.pump()

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
                    self._report()
            case Closed():
                reactor.callLater(0.1, reactor.stop)

    def _report(self) -> None:
        seconds = time.perf_counter() - self._started
        print(json.dumps({"seconds": seconds}), flush=True)


def main(what: str, word: str, *path: str) -> None:
    """Run the command line."""
    if what == "serve":
        print(Server(int(word)).listen(), flush=True)
    else:
        Client(*path).fetch(int(word))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
