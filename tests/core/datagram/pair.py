"""Two endpoints on a network in memory, and users of their connections that remember what arrives."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.contents.packing import Payload
from p2pshare.core.datagram.endpoint import ConnectionEvent, DatagramEndpoint, EndpointSettings
from p2pshare.core.datagram.events import (
    Closed,
    ConnectionMade,
    ControlReceived,
    Event,
    FinReceived,
    PieceReceived,
    SizeReceived,
    Writable,
)
from p2pshare.core.datagram.trains import Address
from p2pshare.core.ranges import Range, RangeSet
from p2pshare.net.session.tls import SessionTls, TlsPump
from p2pshare.testing.links import Conditions
from p2pshare.testing.network import Rule, VirtualNetwork
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.datagrams.frames import Frame
from p2pshare.wire.keys import PublicKey, SigningKey

HERE: Address = ("10.0.0.1", 5001)
THERE: Address = ("10.0.0.2", 5002)
PIECE = 256 * 1024  # bytes that a user hands over at once

_TLS = {
    address: SessionTls(SigningKey(bytes([number]) * 32))
    for number, address in enumerate((HERE, THERE), 1)
}

KEYS: dict[Address, PublicKey] = {address: tls.key.public for address, tls in _TLS.items()}

T = TypeVar("T")


def _accept(at: Address, _opener: Address) -> TlsPump:
    return _TLS[at].accept()


@dataclass(slots=True)
class Arriving:
    """A file that arrives."""

    data: bytearray
    there: RangeSet = field(default_factory=RangeSet)

    @property
    def missing(self) -> Sequence[Range]:
        return tuple(self.there.missing(0, len(self.data)))


class User:
    """The user of one connection: it sends files while the connection is not full, and keeps all that arrives."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.piece = PIECE
        self.events: list[Event] = []
        self.control = bytearray()
        self.files: dict[int, Arriving] = {}
        self.done: dict[int, float] = {}
        self.errors: list[Exception | None] = []
        self.connection: DatagramConnection | None = None
        self.sending: dict[int, tuple[memoryview, int]] = {}

    @property
    def up(self) -> DatagramConnection:
        assert self.connection is not None
        return self.connection

    def send_file(self, transfer: int, data: bytes) -> None:
        self.send_files({transfer: data})

    def send_files(self, files: Mapping[int, bytes]) -> None:
        for transfer, data in files.items():
            self.up.begin(transfer, len(data))
            self.sending[transfer] = memoryview(data), 0
        self._send_more()

    def happened(self, kind: type[T]) -> list[T]:
        return [each for each in self.events if isinstance(each, kind)]

    def on_event(self, event: Event) -> None:
        match event:
            case ControlReceived():
                self.control += event.data
            case SizeReceived():
                self.files[event.transfer] = Arriving(bytearray(event.size))
            case PieceReceived():
                file = self.files[event.transfer]
                end = event.offset + len(event.data)
                assert event.offset // BLOCK_SIZE == (end - 1) // BLOCK_SIZE
                file.data[event.offset : end] = event.data
                file.there.add(event.offset, end)
                if not file.missing:
                    self.done.setdefault(event.transfer, self.pair.network.now)
                return
            case FinReceived():
                self.up.answer_fin(event.transfer, self.files[event.transfer].missing)
            case Writable():
                self._send_more()
            case Closed():
                self.errors.append(event.error)
        self.events.append(event)

    def _send_more(self) -> None:
        while self.sending and not self.up.is_full:
            transfer, (data, at) = next(iter(self.sending.items()))
            del self.sending[transfer]
            end = min(at + self.piece, at - at % BLOCK_SIZE + BLOCK_SIZE, len(data))
            if end > at:
                self.up.send_piece(transfer, at, data[at:end], self.pair.network.now)
            if end == len(data):
                self.up.finish(transfer)
            else:
                self.sending[transfer] = data, end


class Pair:
    """An opener at `HERE`, an acceptor at `THERE`, and the network between them."""

    def __init__(
        self,
        conditions: Conditions | None = None,
        *,
        seed: int = 1,
        rule: Rule | None = None,
        settings: EndpointSettings | None = None,
        expected: PublicKey | None = None,
        merging: float = 0.0,
    ) -> None:
        self.network = VirtualNetwork(random.Random(seed), conditions, rule, merging=merging)
        settings = settings or EndpointSettings()
        self.users: dict[DatagramConnection, User] = {}
        self.opener, self.acceptor = User(self), User(self)
        self.endpoints: dict[Address, DatagramEndpoint] = {}
        self.addresses = [HERE, THERE]
        for number, address in enumerate((HERE, THERE)):
            randoms = random.Random(seed * 2 + number)
            endpoint = DatagramEndpoint(settings, randoms.randbytes, partial(_accept, address))
            self.endpoints[address] = endpoint
            self.network.attach(address, endpoint, self.on_event)
        tls: TlsPump = _TLS[HERE].connect(expected or _TLS[THERE].key.public)
        self.opener.connection = self.endpoints[HERE].open(THERE, tls, 0.0)
        self.users[self.opener.up] = self.opener

    def rebind(self, new: Address) -> None:
        """Give the opener another address without its knowledge."""
        self.network.rebind(self.addresses[0], new)
        self.addresses[0] = new

    def detach(self) -> None:
        """Let the acceptor vanish."""
        self.network.detach(THERE)
        del self.addresses[1]

    def send_frames(self, user: User, *frames: Frame) -> None:
        """Let one end send frames that its state machines would not send."""
        packets = user.up._packets
        assert packets is not None
        payload = Payload(1000)
        for frame in frames:
            assert payload.add(frame)
        train = packets._send(payload, user.up.remote, self.network.now)
        source = HERE if user is self.opener else THERE
        self.network.send_at(self.network.now, bytes(train.data), source, train.address)

    def on_event(self, happened: ConnectionEvent) -> None:
        if isinstance(happened.event, ConnectionMade):
            self.acceptor.connection = happened.connection
            self.users[happened.connection] = self.acceptor
        self.users[happened.connection].on_event(happened.event)

    def run(self, seconds: float, stop: Callable[[], bool] = lambda: False) -> bool:
        """Pass time until `stop()`; whether it is true in the end."""
        for address in self.addresses:
            self.network.pump(address)
        self.network.run(self.network.now + seconds, stop)
        return stop()

    def open(self) -> Pair:
        """Wait until both ends are open."""
        assert self.run(10.0, lambda: self.is_open), "the handshake is not done"
        return self

    @property
    def connections(self) -> int:
        return sum(each.connections for each in self.endpoints.values())

    @property
    def is_open(self) -> bool:
        return all(
            each.connection is not None and not each.up.is_half_open
            for each in (self.opener, self.acceptor)
        )
