"""Targets for whole endpoints: what anybody can send to them, and what an authenticated peer can.

The keys are known here, because TLS is replaced by one byte in each direction. So any bytes can be sealed as the frames
of a packet that the endpoint opens.
"""

from __future__ import annotations

from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.endpoint import DatagramEndpoint, EndpointSettings
from p2pshare.core.datagram.events import FinReceived
from p2pshare.core.datagram.protection.keys import AES_128_GCM, KeyPair
from p2pshare.core.datagram.trains import Address, Train
from p2pshare.wire.datagrams.frames import Crypto, serialize
from p2pshare.wire.datagrams.packets import (
    UNKNOWN_CID,
    Cookie,
    HandshakeHeader,
    Open,
    ProtectedHeader,
    parse_packet,
)
from p2pshare.wire.keys import PublicKey, SigningKey

PEER: Address = ("192.0.2.7", 4007)
CID, RANDOM, SECRET = b"hostile", bytes(32), bytes(range(32))
TRANSFER = 7  # that the endpoint sends; the vectors of the document name it, too
FILE = bytes(100_000)
BUDGET = 2**20  # bytes to send at once
TIMES = (
    0.0,
    0.03,
    0.5,
    1.0,
    5.0,
    20.0,
    100.0,
)  # seconds after a packet at which the endpoint is asked


class OneByteTls:
    """An end of TLS that is done with the first byte."""

    is_ready = False
    cipher = "TLS_AES_128_GCM_SHA256"
    shown_key: PublicKey | None = SigningKey(bytes(32)).public

    def receive_data(self, protected: bytes) -> None:
        """See `TlsEnd`."""
        self.is_ready = True

    def shake_hands(self) -> None:
        """See `TlsEnd`."""

    def data_to_send(self) -> bytes:
        """See `TlsEnd`."""
        return b""

    def export(self, label: bytes, size: int, context: bytes) -> bytes:
        """See `TlsEnd`."""
        return SECRET


class Target:
    """An endpoint, and a peer that knows its keys."""

    def __init__(self) -> None:
        numbers = iter(range(1, 2**20))
        self.now = 100.0
        self.endpoint = DatagramEndpoint(
            EndpointSettings(),
            lambda size: next(numbers).to_bytes(size),
            lambda _address: OneByteTls(),
        )
        self.connection: DatagramConnection | None = None
        self._number = 0

    def receive(self, data: bytes, segment: int | None = None) -> list[Train]:
        """Deliver a train; return what the endpoint answers at once."""
        self.endpoint.receive_train(memoryview(data), segment or len(data), PEER, self.now)
        return self.endpoint.trains_to_send(self.now, BUDGET)

    def connect(self) -> None:
        """Open a connection, in which the endpoint sends a file."""
        (answer,) = self.receive(Open(CID, RANDOM).serialize())
        cookie = parse_packet(memoryview(answer.data))
        assert isinstance(cookie, Cookie)
        keys = KeyPair.for_handshake(RANDOM, CID, is_opener=True).sealing
        header = HandshakeHeader(True, CID, UNKNOWN_CID, 0, cookie.cookie + RANDOM).serialize()
        self.receive(header + keys.seal(0, serialize(Crypto(0, b"x")), header))
        happened = self.endpoint.next_event()
        assert happened is not None
        self.connection = happened.connection
        self.connection.begin(TRANSFER, len(FILE))
        self.connection.send_piece(TRANSFER, 0, memoryview(FILE), self.now)
        self.connection.finish(TRANSFER)
        self.use()

    def receive_frames(self, payload: bytes) -> None:
        """Deliver a packet with these frames, sealed as the peer seals them."""
        assert self.connection is not None
        keys = KeyPair.for_session(SECRET, AES_128_GCM, is_opener=True).sealing
        header = ProtectedHeader(self.connection.ids.acceptor_cid, self._number).serialize()
        self.receive(header + keys.seal(self._number, payload, header))
        self._number += 1

    def use(self) -> None:
        """Let time pass, and be the user of the connection."""
        begun = self.now
        for later in TIMES:
            self.now = begun + later
            self.endpoint.handle_timer(self.now)
            self.endpoint.trains_to_send(self.now, BUDGET)
            while happened := self.endpoint.next_event():
                if isinstance(happened.event, FinReceived):
                    happened.connection.answer_fin(happened.event.transfer, [(0, 2**50)])


def anybody(data: bytes) -> None:
    """A datagram of anybody makes no connection, changes none, and has no answer but one shorter COOKIE."""
    target = Target()
    target.connect()
    assert target.connection is not None
    state, address = target.connection.state, target.connection.remote
    cid = target.connection.ids.acceptor_cid
    for train in (data, b"\xe0" + cid + data, b"\xe1" + cid + data):
        if not train:
            continue
        answers = target.receive(train, 1 + len(train) // 2)
        assert target.endpoint.connections == 1
        assert all(parse_packet(memoryview(each.data)).__class__ is Cookie for each in answers)
        assert sum(len(each.data) for each in answers) <= len(train)
        assert target.endpoint.next_event() is None
    assert (target.connection.state, target.connection.remote) == (state, address)


def hostile_peer(data: bytes) -> None:
    """Any two packets of an authenticated peer are legal, or close the connection."""
    target = Target()
    target.connect()
    cut = data[0] % len(data) if data else 0
    for payload in (data[1 : 1 + cut], data[1 + cut :]):
        if payload:
            target.receive_frames(payload)
            target.use()
