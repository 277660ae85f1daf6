"""Who is at the other end of a connection: TLS 1.3 between Ed25519 keys.

A certificate carries a key, and nothing else in it counts: no name, no date, no chain, no issuer. TLS proves that the
other side has the secret half. A server takes every sound key, and asks afterwards whose it is; a client takes one key
only. There are no tickets and no resumption, by which a handshake would go around that.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import ALPN

COMMON_NAME = "p2pshare"
VALID_FROM = datetime(2000, 1, 1, tzinfo=UTC)  # so that a clock which is wrong does no harm
VALID_UNTIL = datetime(2999, 12, 31, tzinfo=UTC)
CERTIFICATES_MAX = 4  # own certificates that are kept: one for each own key in use

_CODES = SSL.X509VerificationCodes
ENABLE_PARTIAL_WRITE = (
    1  # SSL_MODE_ENABLE_PARTIAL_WRITE of OpenSSL's ssl.h, which pyOpenSSL sets without a name
)
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
"""What OpenSSL may find wrong with a certificate that is only the carrier of a key."""


@dataclass(slots=True)
class Judge:
    """Says whether the key at the other end is the one that is wanted."""

    expected: PublicKey | None
    """None: any sound key."""
    found: PublicKey | None = None
    """The key that was there, right or wrong; None if there was none."""

    def judge(self, certificate: x509.Certificate) -> bool:
        """Whether this certificate may be at the other end."""
        key = certificate.public_key()
        if not isinstance(key, Ed25519PublicKey):
            return False
        found = self.found = PublicKey(key.public_bytes_raw())
        if found.is_anybodys:
            return False
        return self.expected is None or hmac.compare_digest(found.raw, self.expected.raw)

    def is_content(self, connection: SSL.Connection) -> bool:
        """Whether, after the handshake, all is as it must be: asked of the connection once more."""
        if connection.get_alpn_proto_negotiated() != ALPN:
            return False
        certificate = connection.get_peer_certificate(as_cryptography=True)
        return certificate is not None and self.judge(certificate)


def certificate_of(key: SigningKey) -> x509.Certificate:
    """The certificate that follows from a key: always the same one."""
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


class SessionTls:
    """Makes the connections of one own key. The contexts are complete before the first of them."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self._context = _context(key)

    def accept(self) -> tuple[SSL.Connection, Judge]:
        """A connection that awaits a client with any sound key."""
        connection, judge = self._connection(None)
        connection.set_accept_state()
        return connection, judge

    def connect(self, expected: PublicKey) -> tuple[SSL.Connection, Judge]:
        """A connection that wants a server with this key."""
        connection, judge = self._connection(expected)
        connection.set_connect_state()
        return connection, judge

    def _connection(self, expected: PublicKey | None) -> tuple[SSL.Connection, Judge]:
        connection, judge = SSL.Connection(self._context, None), Judge(expected)
        connection.set_app_data(judge)
        return connection, judge


def _context(key: SigningKey) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.use_certificate(certificate_of(key))
    context.use_privatekey(Ed25519PrivateKey.from_private_bytes(key.seed))
    context.check_privatekey()
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # of sessions that rest
    context.clear_mode(ENABLE_PARTIAL_WRITE)  # so that a piece of a file is encrypted by one call
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(_select)
    return context


def _verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, _ok: int
) -> bool:
    """Whether OpenSSL may go on. Whatever goes wrong here means no."""
    try:
        if depth != 0 or error not in TOLERATED:
            return False
        judge = connection.get_app_data()
        return isinstance(judge, Judge) and judge.judge(certificate.to_cryptography())
    except Exception:
        return False


def _select(
    _connection: SSL.Connection, offered: list[bytes]
) -> bytes | SSL._NoOverlappingProtocols:
    """Our protocol, if it was offered; who offers others only is turned away after the handshake."""
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS
