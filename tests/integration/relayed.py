"""Ends at the relay of a registry process: blocking sockets, and the names that they need."""

from __future__ import annotations

import secrets
import socket
import time
from urllib.request import Request, urlopen

from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.reach.access import RELAY_PROTOCOL, Access, Use, detail_of_room
from p2pshare.wire.reach.signals import seal_of
from p2pshare.wire.registry_answers import ClaimBody, RegistryInfo
from p2pshare.wire.statements import Record

PATIENCE = 20.0  # seconds for an answer


class RelayedPeer:
    """A peer with a name, which meets others at the relay."""

    def __init__(self, port: int, name: str) -> None:
        """Claim `name` at the registry on `port`."""
        self.seed = secrets.token_bytes(32)
        self.key = SigningKey(self.seed)
        self.name = name
        self._port = port
        with urlopen(f"http://127.0.0.1:{port}/v1/") as reply:
            self.registry = RegistryInfo.parse(reply.read()).key
        now = int(time.time())
        record = Record(
            name,
            self.key.public,
            now * 1000,
            now,
            now + 3600,
            self.registry,
            "",
            (),
            seal_of(self.key),
        )
        url = f"http://127.0.0.1:{port}/v1/peers/{name}"
        body = ClaimBody(record.sign(self.key)).to_json()
        with urlopen(Request(url, body, {"Content-Type": "application/json"}, method="PUT")):
            pass

    def request(self, room: str, other: PublicKey) -> bytes:
        """Return a request for a partner."""
        nonce = secrets.token_urlsafe(16)
        detail, now = detail_of_room(room, other), int(time.time())
        access = Access(
            self.name, self.key.public, self.registry, now, nonce, Use.RELAY, detail
        ).to_header(self.key)
        return (
            f"GET /v1/relay?room={room}&with={other} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            f"Upgrade: {RELAY_PROTOCOL}\r\nAuthorization: {access}\r\n\r\n"
        ).encode()

    def ask(self, room: str, other: PublicKey) -> socket.socket:
        """Ask for a partner; `reply_to` reads the reply."""
        source = (
            f"127.0.0.{2 + secrets.randbelow(200)}"  # a registry bounds the connections of each
        )
        connection = socket.create_connection(("127.0.0.1", self._port), PATIENCE, (source, 0))
        connection.sendall(self.request(room, other))
        return connection


def reply_to(connection: socket.socket) -> bytes:
    """Return the head of the reply, and leave unread what follows; b"" stands for a connection that was closed."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def meet(one: RelayedPeer, two: RelayedPeer) -> tuple[socket.socket, socket.socket]:
    """Return the connections of two peers that have met."""
    room = to_base64url(secrets.token_bytes(16))
    ends = one.ask(room, two.key.public), two.ask(room, one.key.public)
    for end in ends:
        head = reply_to(end)
        assert head.startswith(b"HTTP/1.1 101 "), head
    return ends
