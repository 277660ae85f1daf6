"""TLS 1.3 between Ed25519 keys, between bytes and bytes.

A certificate carries a key, and nothing else in it counts: no name, date, chain or issuer. TLS proves that the other
end has the private half. An acceptor takes every sound key and then asks the registry whose it is; an opener takes one
key. There are no tickets and no resumption, because a resumed session skips the check of the certificate.

The key is checked twice. OpenSSL calls `_verify` in the handshake, so an impostor learns nothing. But a callback that
OpenSSL does not call checks nothing, so `TlsPump` asks the finished connection again, for its protocol (ALPN) as well.

Twisted's `TLSMemoryBIOProtocol` is not used: it cuts what is written into records one by one and gives each record to
the transport on its own. `TlsPump` encrypts a whole piece of a file, and the small messages before it, with one write
to the carrier. It has no socket, so tests can change, repeat and drop any of its bytes. Two details are easy to break:

* `ENABLE_PARTIAL_WRITE` must be off. Otherwise OpenSSL takes one record at a time and each costs a call.
* OpenSSL reports an error once. `read_into` returns the plaintext before the error first; the next call gets the error.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from p2pshare.core.datagram.protection.handshake import HandshakeFailed
from p2pshare.net.session.cipher_suites import suites_of_this_machine
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import ALPN

COMMON_NAME = "p2pshare"
VALID_FROM = datetime(2000, 1, 1, tzinfo=UTC)  # centuries, so that a wrong clock does no harm
VALID_UNTIL = datetime(2999, 12, 31, tzinfo=UTC)
CERTIFICATES_MAX = 4  # own certificates that are cached: one for each own key in use
RECORD_MAX = 16 * 1024  # bytes of plaintext (RFC 8446, section 5.1)
OVERHEAD = 64  # bytes, more than TLS 1.3 adds to a record of any size
SMALL = 16 * 1024  # bytes read from OpenSSL at once if their number is not known
ENABLE_PARTIAL_WRITE = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE of ssl.h, which pyOpenSSL does not name

_CODES = SSL.X509VerificationCodes
TOLERATED = frozenset(
    {
        _CODES.OK,
        _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
        _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        _CODES.ERR_CERT_HAS_EXPIRED,
        _CODES.ERR_CERT_NOT_YET_VALID,
    }
)
"""Faults of a certificate that do not matter, since it only carries a key."""


class TlsFailed(HandshakeFailed):
    """The handshake failed, or bytes came that the other end did not send; says why."""


class TlsClosed(Exception):  # noqa: N818 - named after the event
    """The other end closed the TLS connection in order: no plaintext follows."""


@dataclass(slots=True)
class KeyCheck:
    """Checks the key at the other end of one connection."""

    expected: PublicKey | None
    """None: any sound key."""
    shown: PublicKey | None = None
    """The Ed25519 key that the other end showed, acceptable or not."""

    def accepts(self, certificate: x509.Certificate) -> bool:
        """Whether this certificate carries an acceptable key."""
        key = certificate.public_key()
        if not isinstance(key, Ed25519PublicKey):
            return False
        shown = self.shown = PublicKey(key.public_bytes_raw())
        if shown.is_anybodys:
            return False
        return self.expected is None or hmac.compare_digest(shown.raw, self.expected.raw)

    def confirms(self, connection: SSL.Connection) -> bool:
        """Whether a connection whose handshake is done has the right protocol and an acceptable key."""
        if connection.get_alpn_proto_negotiated() != ALPN:
            return False
        certificate = connection.get_peer_certificate(as_cryptography=True)
        return certificate is not None and self.accepts(certificate)


class TlsPump:
    """One end of a TLS connection."""

    def __init__(self, connection: SSL.Connection, check: KeyCheck) -> None:
        """Use a connection without a socket, in which `set_connect_state` or `set_accept_state` was called."""
        self._connection = connection
        self._check = check
        self._is_closed = False
        self.is_ready = False
        """Whether the handshake is done and the other end has proved an acceptable key."""
        connection.set_app_data(check)  # and not the pump: a cycle would keep closed connections

    @property
    def shown_key(self) -> PublicKey | None:
        """The key that the other end showed, acceptable or not; None if it showed none."""
        return self._check.shown

    @property
    def description(self) -> str:
        """Version and cipher, for the debug log."""
        connection = self._connection
        return f"{connection.get_protocol_version_name()} {connection.get_cipher_name()}"

    @property
    def cipher(self) -> str:
        """The name of the cipher suite (RFC 8446, appendix B.4); empty before the handshake has chosen one."""
        return self._connection.get_cipher_name() or ""

    def receive_data(self, protected: bytes) -> None:
        """Take bytes that the carrier received."""
        self._connection.bio_write(protected)

    def shake_hands(self) -> None:
        """Continue the handshake as far as the received bytes allow; raises `TlsFailed`."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise TlsFailed(_reason(error)) from error
        if not self._check.confirms(self._connection):
            raise TlsFailed("it speaks another protocol")
        self.is_ready = True

    def export(self, label: bytes, size: int, context: bytes) -> bytes:
        """Return a secret that only both ends know (RFC 8446, section 7.5).

        Args:
            label: says what the secret is for.
            size: of the secret in bytes.
            context: other values give other secrets.

        Raises:
            TlsFailed: the handshake is not done, or the other end has not proved an acceptable key.
        """
        if not self.is_ready:
            raise TlsFailed("a secret is exported before the handshake is done")
        return self._connection.export_keying_material(label, size, context)

    def read_into(self, buffer: memoryview) -> int:
        """Put plaintext into a buffer and return its size, 0 if more bytes must come first.

        Raises:
            TlsFailed: the bytes are not what the other end sent.
            TlsClosed: all was read.
        """
        filled = 0
        try:
            while room := min(RECORD_MAX, len(buffer) - filled):
                filled += self._connection.recv_into(buffer[filled:], room)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            if not filled:  # otherwise the next call gets it again
                raise TlsClosed from None
        except SSL.Error as error:
            if not filled:
                raise TlsFailed(_reason(error)) from error
        return filled

    def write(self, *plaintext: bytes | bytearray | memoryview) -> bytes:
        """Return all of it encrypted, after what TLS itself has to send; raises `TlsFailed`."""
        size = 0
        try:
            for each in plaintext:
                view = memoryview(each)
                while len(view):
                    view = view[self._connection.send(view) :]
                size += len(each) + (len(each) // RECORD_MAX + 1) * OVERHEAD
        except SSL.Error as error:
            raise TlsFailed(_reason(error)) from error
        return self.data_to_send(size or SMALL)

    def data_to_send(self, size: int = SMALL) -> bytes:
        """Return what TLS itself has to send, such as the handshake; about `size` bytes are expected."""
        pieces = []
        try:
            while True:
                pieces.append(self._connection.bio_read(size))
                if len(pieces[-1]) < size:
                    break
        except SSL.WantReadError:
            pass
        return b"".join(pieces)

    def close(self) -> bytes:
        """Return what tells the other end that nothing follows."""
        if not self._is_closed:
            self._is_closed = True
            with suppress(SSL.Error):  # during the handshake, or after a failure
                self._connection.shutdown()
        return self.data_to_send()


class SessionTls:
    """Makes the TLS connections of one own key.

    The context is complete before its first connection: OpenSSL copies parts of it into each connection.
    """

    def __init__(self, key: SigningKey, suites: bytes | None = None) -> None:
        """Prove this key.

        Args:
            key: the own key.
            suites: the cipher suites for OpenSSL, the best one first; None: as this machine prefers them.
        """
        self.key = key
        self._context = _context(key, suites or suites_of_this_machine())

    def accept(self) -> TlsPump:
        """Return the acceptor's end of a connection with any sound key."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return TlsPump(connection, KeyCheck(None))

    def connect(self, expected: PublicKey) -> TlsPump:
        """Return the opener's end of a connection with the peer that has this key."""
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        return TlsPump(connection, KeyCheck(expected))


def certificate_of(key: SigningKey) -> x509.Certificate:
    """Return the certificate of a key, which is always the same."""
    return _certificate_of(key.seed)


@lru_cache(maxsize=CERTIFICATES_MAX)
def _certificate_of(seed: bytes) -> x509.Certificate:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .sign(key, None)
    )


def _context(key: SigningKey, suites: bytes) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(suites)
    context.use_certificate(certificate_of(key))
    context.use_privatekey(Ed25519PrivateKey.from_private_bytes(key.seed))
    context.check_privatekey()
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # idle sessions hold no buffers
    context.clear_mode(ENABLE_PARTIAL_WRITE)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(_select)
    return context


def _verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, _ok: int
) -> bool:
    """Whether OpenSSL may continue. Any exception in here means no."""
    try:
        if depth != 0 or error not in TOLERATED:
            return False
        check = connection.get_app_data()
        return isinstance(check, KeyCheck) and check.accepts(certificate.to_cryptography())
    except Exception:
        return False


def _select(
    _connection: SSL.Connection, offered: list[bytes]
) -> bytes | SSL._NoOverlappingProtocols:
    """Choose this protocol if it was offered; otherwise the connection is closed after the handshake."""
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _reason(error: SSL.Error) -> str:
    """Return OpenSSL's reason, for the log: a stranger can choose among these sentences, but not write one."""
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][-1][-1]) or type(error).__name__
    return type(error).__name__
