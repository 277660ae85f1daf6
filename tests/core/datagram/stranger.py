"""An opener that was written from docs/protocol-datagrams.md alone: it imports nothing of p2pshare.

It shows that the document is enough, and that the code does what the document says. It recovers no losses, so it is for
paths that lose nothing.
"""

from __future__ import annotations

import hmac
import struct
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

OPEN, COOKIE, OF_OPENER, OF_ACCEPTOR, PROTECTED = 0xC0, 0xC1, 0xC2, 0xC3, 0xE0
ACK, SIZE, ACK_SIZE, MISSING, FIN, COMPLETE = 0x02, 0x05, 0x06, 0x07, 0x08, 0x09
CLOSE, CONTROL, CRYPTO, DATA = 0x0D, 0x0E, 0x0F, 0x10


def expand(secret: bytes, label: str, size: int = 32) -> bytes:
    info = b"p2pshare datagrams 1 " + label.encode()
    return hmac.digest(secret, info + b"\x01", "sha256")[:size]


class Keys:
    """The keys of one direction."""

    def __init__(self, secret: bytes, suite: str = "TLS_AES_128_GCM_SHA256") -> None:
        self.secret, self.suite = secret, suite
        self.iv = expand(secret, "iv", 12)
        self.aead: AESGCM | ChaCha20Poly1305
        if suite == "TLS_AES_128_GCM_SHA256":
            self.aead = AESGCM(expand(secret, "key", 16))
        else:
            self.aead = ChaCha20Poly1305(expand(secret, "key", 32))

    def nonce(self, number: int) -> bytes:
        return (int.from_bytes(self.iv) ^ number).to_bytes(12)

    def next(self) -> Keys:
        return Keys(expand(self.secret, "update"), self.suite)


@dataclass
class Space:
    """The numbers of one kind of packets."""

    next_number: int = 0
    received: set[int] = field(default_factory=set)

    def ack(self) -> bytes:
        """An ACK of the newest packets without a gap, as one range."""
        largest = first = max(self.received)
        while first - 1 in self.received:
            first -= 1
        return struct.pack(">BBQIIHII", ACK, 0, largest, 0, 0, 1, 0, largest - first + 1)


class Stranger:
    """One connection; `sent` has the datagrams to deliver."""

    def __init__(self, seed: bytes, suite: str) -> None:
        self.cid, self.random, self.acceptor_cid = b"strange", bytes(range(32)), bytes(7)
        self.tls = _tls(seed, suite)
        self.sent = deque[bytes]()
        self.cookie = b""
        secret = hmac.digest(b"p2pshare datagrams 1", self.random + self.cid, "sha256")
        self.early = [Keys(expand(secret, f"{who} handshake")) for who in ("opener", "acceptor")]
        self.keys: list[Keys] = []
        self.phase_out = self.phase_in = 0
        self.handshake, self.protected = Space(), Space()
        self.crypto_in, self.crypto_out = b"", 0
        self.control_in, self.control_out = b"", 0
        self.files: dict[int, bytearray] = {}
        self.answers: list[tuple[int, int, list[tuple[int, int]]]] = []
        self.completed = set[int]()
        self.closed: tuple[int, str] | None = None
        head = bytes([OPEN, 1]) + self.cid + self.random
        self.sent.append(head.ljust(1200, b"\0"))

    @property
    def shown_key(self) -> bytes:
        certificate = self.tls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        key = certificate.public_key()
        assert isinstance(key, Ed25519PublicKey)
        return key.public_bytes_raw()

    def receive(self, datagram: bytes) -> None:
        match datagram[0]:
            case 0xC1:
                assert datagram[2:41] == self.cid + self.random
                self.cookie = datagram[42 : 42 + datagram[41]]
                self.shake_hands()
            case 0xC3:
                self.receive_handshake(datagram)
            case 0xE0 | 0xE1:
                self.receive_protected(datagram)

    # The handshake

    def shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            pass
        else:
            context = self.cid + self.acceptor_cid
            secret = self.tls.export_keying_material(b"EXPORTER-p2pshare-datagrams-1", 32, context)
            suite = self.tls.get_cipher_name() or ""
            self.keys = [Keys(expand(secret, who), suite) for who in ("opener", "acceptor")]
        try:
            flight = self.tls.bio_read(65536)
        except SSL.WantReadError:
            return
        for at in range(0, len(flight), 1000):
            part = flight[at : at + 1000]
            self.send_handshake(struct.pack(">BIH", CRYPTO, self.crypto_out, len(part)) + part)
            self.crypto_out += len(part)

    def send_handshake(self, frames: bytes) -> None:
        token = b"" if any(self.acceptor_cid) else self.cookie + self.random
        number = self.handshake.next_number
        self.handshake.next_number += 1
        header = (
            bytes([OF_OPENER, 1]) + self.cid + self.acceptor_cid
            + struct.pack(">QB", number, len(token)) + token
        )  # fmt: skip
        keys = self.early[0]
        self.sent.append(header + keys.aead.encrypt(keys.nonce(number), frames, header))

    def receive_handshake(self, datagram: bytes) -> None:
        header, sealed = datagram[:25], datagram[25:]
        assert header[1:9] == b"\x01" + self.cid and not header[24]
        number = int.from_bytes(header[16:24])
        keys = self.early[1]
        frames = keys.aead.decrypt(keys.nonce(number), sealed, header)
        self.acceptor_cid = header[9:16]
        self.handshake.received.add(number)
        answer = False
        while frames and frames[0]:
            kind, frames = frames[0], frames[1:]
            if kind == ACK:
                frames = _after_ack(frames)
            elif kind == CRYPTO:
                offset, length = struct.unpack(">IH", frames[:6])
                assert offset == len(self.crypto_in)
                self.crypto_in += frames[6 : 6 + length]
                self.tls.bio_write(frames[6 : 6 + length])
                frames = frames[6 + length :]
                answer = True
            else:
                raise AssertionError(f"frame {kind} in a HANDSHAKE packet")
        if answer:
            self.send_handshake(self.handshake.ack())
            if not self.keys:
                self.shake_hands()

    # After the handshake

    def update_keys(self) -> None:
        self.keys[0] = self.keys[0].next()
        self.phase_out += 1

    def send(self, frames: bytes) -> None:
        number = self.protected.next_number
        self.protected.next_number += 1
        header = (
            bytes([PROTECTED | self.phase_out & 1]) + self.acceptor_cid + struct.pack(">Q", number)
        )
        keys = self.keys[0]
        self.sent.append(header + keys.aead.encrypt(keys.nonce(number), frames, header))

    def send_control(self, data: bytes) -> None:
        self.send(struct.pack(">BQH", CONTROL, self.control_out, len(data)) + data)
        self.control_out += len(data)

    def send_piece(self, transfer: int, size: int, offset: int, data: bytes) -> None:
        head = struct.pack(">BIQ", SIZE, transfer, size) + bytes([DATA]) + offset.to_bytes(7)
        self.send(head + struct.pack(">I", transfer) + data)

    def send_fin(self, transfer: int, sent: int) -> None:
        self.send(struct.pack(">BIQ", FIN, transfer, sent))

    def receive_protected(self, datagram: bytes) -> None:
        header, sealed = datagram[:16], datagram[16:]
        assert header[1:8] == self.cid
        number = int.from_bytes(header[8:])
        if header[0] & 1 != self.phase_in & 1:
            self.keys[1] = self.keys[1].next()
            self.phase_in += 1
        keys = self.keys[1]
        frames = keys.aead.decrypt(keys.nonce(number), sealed, header)
        self.protected.received.add(number)
        answers, is_eliciting = b"", False
        while frames and frames[0]:
            kind, frames = frames[0], frames[1:]
            is_eliciting |= kind not in (ACK, CLOSE)
            match kind:
                case 0x01:  # PING
                    pass
                case 0x02:  # ACK
                    frames = _after_ack(frames)
                case 0x05:  # SIZE
                    transfer, size = struct.unpack(">IQ", frames[:12])
                    frames = frames[12:]
                    self.files.setdefault(transfer, bytearray(size))
                    answers += struct.pack(">BI", ACK_SIZE, transfer)
                case 0x08:  # FIN
                    transfer, _ = struct.unpack(">IQ", frames[:12])
                    frames = frames[12:]
                    self.completed.add(transfer)
                    answers += struct.pack(">BI", COMPLETE, transfer)
                case 0x06 | 0x09:  # ACK_SIZE, COMPLETE
                    self.answers.append((kind, int.from_bytes(frames[:4]), []))
                    frames = frames[4:]
                case 0x07:  # MISSING
                    transfer, count = struct.unpack(">IH", frames[:6])
                    numbers = struct.unpack(f">{2 * count}Q", frames[6 : 6 + 16 * count])
                    frames = frames[6 + 16 * count :]
                    missing = list(zip(numbers[::2], numbers[1::2], strict=True))
                    self.answers.append((kind, transfer, missing))
                case 0x0A:  # CREDIT
                    frames = frames[8:]
                case 0x0D:  # CLOSE
                    code, length = struct.unpack(">HB", frames[:3])
                    self.closed = code, frames[3 : 3 + length].decode()
                    return
                case 0x0E:  # CONTROL
                    offset, length = struct.unpack(">QH", frames[:10])
                    assert offset == len(self.control_in)
                    self.control_in += frames[10 : 10 + length]
                    frames = frames[10 + length :]
                case 0x10:  # DATA
                    offset, transfer = int.from_bytes(frames[:7]), int.from_bytes(frames[7:11])
                    data, frames = frames[11:], b""
                    self.files[transfer][offset : offset + len(data)] = data
                case _:
                    raise AssertionError(f"frame {kind} in a PROTECTED packet")
        if is_eliciting:
            self.send(self.protected.ack() + answers)


def _after_ack(frames: bytes) -> bytes:
    """Return the frames behind an ACK."""
    kind, _, _, _, count = struct.unpack(">BQIIH", frames[:19])
    return frames[19 + (count if kind else 8 * count) :]


def _tls(seed: bytes, suite: str) -> SSL.Connection:
    """Return the client of a TLS connection with the key of `seed`, which accepts any key."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    day = datetime(2001, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(7)
    builder = builder.public_key(key.public_key()).not_valid_before(day).not_valid_after(day)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(suite.encode())
    context.use_certificate(builder.sign(key, None))
    context.use_privatekey(key)
    context.set_alpn_protos([b"p2pshare/1"])
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    return connection
