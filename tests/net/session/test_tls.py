"""Tests of `p2pshare.net.session.tls`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.session.cipher_suites import AES_FIRST, CHACHA20_FIRST
from p2pshare.net.session.tls import (
    RECORD_MAX,
    KeyCheck,
    SessionTls,
    TlsClosed,
    TlsFailed,
    TlsPump,
    certificate_of,
)
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import ALPN
from tests.net.session_pairs import ALICE, BOB, EVE


def certificate_for(
    key: Any,
    signer: Any = None,
    *,
    subject: str = "p2pshare",
    issuer: str = "p2pshare",
    days: int = 1,
    hash_: Any = None,
    extension: tuple[x509.ExtensionType, bool] | None = None,
) -> x509.Certificate:
    """Return a certificate that anyone could make."""
    now = datetime(2020, 1, 1, tzinfo=UTC)
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (subject, issuer)
    ]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1])
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=days))
    if extension is not None:
        builder = builder.add_extension(*extension)
    return builder.sign(signer or key, hash_)


def stranger(
    change: Callable[[SSL.Context], object] = lambda _: None, *, alpn: list[bytes] | None = None
) -> SSL.Context:
    """Return a context that accepts any peer, changed as a test wants."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    if alpn is None or alpn:
        context.set_alpn_protos(alpn or [ALPN])
    context.set_alpn_select_callback(lambda _, offered: offered[0])
    change(context)
    return context


def with_certificate(certificate: x509.Certificate, key: Any) -> Callable[[SSL.Context], object]:
    def use(context: SSL.Context) -> None:
        context.use_certificate(certificate)
        context.use_privatekey(key)

    return use


class AnyPeer(KeyCheck):
    """The check of a stranger, which accepts any key and any protocol."""

    def confirms(self, connection: SSL.Connection) -> bool:
        return True


def as_client(context: SSL.Context) -> TlsPump:
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    return TlsPump(connection, AnyPeer(None))


def as_server(context: SSL.Context) -> TlsPump:
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    return TlsPump(connection, AnyPeer(None))


def private(key: SigningKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key.seed)


def meet(client: TlsPump, server: TlsPump) -> tuple[bool, bool]:
    """Let two ends shake hands; return whether each accepts the other."""
    ends = client, server
    failed = [False, False]
    for _ in range(6):
        for number, pump in enumerate(ends):
            try:
                if not pump.is_ready:
                    pump.shake_hands()
                else:
                    pump.read_into(memoryview(bytearray(RECORD_MAX)))
            except (TlsFailed, TlsClosed):
                failed[number] = True
            if data := pump.data_to_send():
                ends[1 - number].receive_data(data)
    return client.is_ready and not failed[0], server.is_ready and not failed[1]


class KeyTests(SynchronousTestCase):
    def test_pair(self) -> None:
        """Two ends that expect each other are ready, and know each other's keys from TLS alone."""
        client, server = SessionTls(BOB).connect(ALICE.public), SessionTls(ALICE).accept()
        self.assertEqual(meet(client, server), (True, True))
        self.assertEqual((client.shown_key, server.shown_key), (ALICE.public, BOB.public))
        self.assertEqual(client.description.split()[0], "TLSv1.3")

    def test_impostor_server(self) -> None:
        """Threats 15 and 16: any key but the expected one ends the handshake, whatever the certificate says."""
        for certificate in (certificate_of(EVE), certificate_for(private(EVE), private(ALICE))):
            context = stranger(with_certificate(certificate, private(EVE)))
            client = SessionTls(BOB).connect(ALICE.public)
            self.assertEqual(meet(client, as_server(context))[0], False)
            self.assertEqual(client.shown_key, EVE.public)

    def test_stolen_certificate(self) -> None:
        """Threat 16: Alice's certificate cannot be used without her key."""
        context = stranger()
        context.use_certificate(certificate_of(ALICE))
        self.assertRaises(SSL.Error, context.use_privatekey, private(EVE))

    def test_client_without_certificate(self) -> None:
        """Threat 16: an opener without a certificate is rejected."""
        server = SessionTls(ALICE).accept()
        self.assertEqual(meet(as_client(stranger()), server)[1], False)
        self.assertIsNone(server.shown_key)

    def test_server_without_certificate(self) -> None:
        """Threat 15: an acceptor without a certificate is rejected."""
        client = SessionTls(BOB).connect(ALICE.public)
        self.assertEqual(meet(client, as_server(stranger()))[0], False)

    def test_other_kinds_of_keys(self) -> None:
        """Threat 18: only Ed25519 keys are accepted."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = certificate_for(key, hash_=hashes.SHA256())
        other = stranger(with_certificate(certificate, key))
        self.assertEqual(meet(as_client(other), SessionTls(ALICE).accept())[1], False)
        client = SessionTls(BOB).connect(ALICE.public)
        self.assertEqual(meet(client, as_server(other))[0], False)
        self.assertIsNone(client.shown_key)

    def test_extensions(self) -> None:
        """Extensions are ignored, but an unknown critical one is rejected."""
        alternative = x509.SubjectAlternativeName([x509.DNSName("alice.example")])
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
        for extension, is_taken in (
            ((alternative, False), True),
            ((unknown, False), True),
            ((unknown, True), False),
        ):
            certificate = certificate_for(private(BOB), extension=extension)
            context = stranger(with_certificate(certificate, private(BOB)))
            self.assertEqual(meet(as_client(context), SessionTls(ALICE).accept())[1], is_taken)
            client = SessionTls(ALICE).connect(BOB.public)
            self.assertEqual(meet(client, as_server(context))[0], is_taken)

    def test_issuer_comes_along(self) -> None:
        """Threat 18: a certificate that comes with its issuer's is rejected."""
        issuer = certificate_for(private(EVE))
        leaf = certificate_for(private(BOB), private(EVE), subject="bob")

        def chained(context: SSL.Context) -> None:
            with_certificate(leaf, private(BOB))(context)
            context.add_extra_chain_cert(issuer)

        context = stranger(chained)
        self.assertEqual(meet(as_client(context), SessionTls(ALICE).accept())[1], False)
        client = SessionTls(ALICE).connect(BOB.public)
        self.assertEqual(meet(client, as_server(context))[0], False)

    def test_chain(self) -> None:
        """Threat 18: a certificate that another one has signed counts by its own key."""
        issuer = certificate_for(private(EVE), issuer="authority")
        leaf = certificate_for(private(BOB), private(EVE), issuer="authority")

        def chained(context: SSL.Context) -> None:
            with_certificate(leaf, private(BOB))(context)
            context.add_extra_chain_cert(issuer)

        server = SessionTls(ALICE).accept()
        content = meet(as_client(stranger(chained)), server)[1]
        self.assertEqual((content, server.shown_key), (True, BOB.public))

    def test_anybodys_key(self) -> None:
        """Threat 16: a key of small order, with which anyone can sign, is rejected."""
        for raw in (bytes(32), b"\x01" + bytes(31)):
            self.assertTrue(PublicKey(raw).is_anybodys)
            key = mock.create_autospec(
                type(private(EVE).public_key()), instance=True, public_bytes_raw=lambda raw=raw: raw
            )
            certificate = mock.Mock(public_key=lambda key=key: key)
            with mock.patch("p2pshare.net.session.tls.Ed25519PublicKey", type(key)):
                self.assertFalse(KeyCheck(None).accepts(certificate))

    def test_wrong_clock(self) -> None:
        """The dates of a certificate are ignored, and those of this program span centuries."""
        old = stranger(with_certificate(certificate_for(private(BOB)), private(BOB)))
        self.assertEqual(meet(as_client(old), SessionTls(ALICE).accept()), (True, True))
        ours = certificate_of(ALICE)
        self.assertEqual(ours, certificate_of(SigningKey(ALICE.seed)))
        self.assertLess(ours.not_valid_before_utc.year, 2010)
        self.assertGreater(ours.not_valid_after_utc.year, 2500)
        self.assertNotIn(ALICE.public.raw.hex(), ours.subject.rfc4514_string())


class ContextTests(SynchronousTestCase):
    def test_alpn(self) -> None:
        """Another protocol, or none, is rejected."""
        for alpn in ([], [b"h2"], [b"http/1.1", b"p2pshare/2"]):
            context = stranger(with_certificate(certificate_of(BOB), private(BOB)), alpn=alpn)
            self.assertEqual(meet(as_client(context), SessionTls(ALICE).accept())[1], False)
        silent = stranger(with_certificate(certificate_of(ALICE), private(ALICE)), alpn=[])
        silent.set_alpn_select_callback(lambda *_: SSL.NO_OVERLAPPING_PROTOCOLS)
        client = SessionTls(BOB).connect(ALICE.public)
        self.assertEqual(meet(client, as_server(silent))[0], False)

    def test_old_tls(self) -> None:
        """Threat 36: anything older than TLS 1.3 is rejected."""

        def old(context: SSL.Context) -> None:
            with_certificate(certificate_of(BOB), private(BOB))(context)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)

        self.assertEqual(meet(as_client(stranger(old)), SessionTls(ALICE).accept())[1], False)
        client = SessionTls(BOB).connect(BOB.public)
        self.assertEqual(meet(client, as_server(stranger(old)))[0], False)

    def test_no_resumption(self) -> None:
        """Threat 18: an opener that offers an earlier session proves its key again."""
        tls, server_tls = SessionTls(BOB), SessionTls(ALICE)
        first = tls.connect(ALICE.public)
        self.assertEqual(meet(first, server_tls.accept()), (True, True))
        session = first._connection.get_session()
        for _ in range(2):
            again, server = tls.connect(ALICE.public), server_tls.accept()
            if session is not None:
                again._connection.set_session(session)
            with mock.patch.object(
                KeyCheck, "accepts", autospec=True, side_effect=KeyCheck.accepts
            ) as accepts:
                meet(again, server)
            checks = [call.args[0] for call in accepts.call_args_list]
            self.assertIn(server._check, checks)
            self.assertIn(again._check, checks)

    def test_callback_fails(self) -> None:
        """Threat 18: a verification that raises means no."""
        for broken in (ZeroDivisionError, MemoryError, AttributeError):
            with mock.patch.object(KeyCheck, "accepts", side_effect=broken):
                pumps = SessionTls(BOB).connect(ALICE.public), SessionTls(ALICE).accept()
                pumps[0].shake_hands()
                pumps[1].receive_data(pumps[0].data_to_send())
                pumps[1].shake_hands()
                pumps[0].receive_data(pumps[1].data_to_send())
                self.assertRaises(TlsFailed, pumps[0].shake_hands)
                self.assertFalse(pumps[0].is_ready)

    def test_no_judge(self) -> None:
        """Threat 18: a connection without a check is rejected."""
        client = SessionTls(BOB).connect(ALICE.public)
        client._connection.set_app_data(None)
        self.assertEqual(meet(client, SessionTls(ALICE).accept())[0], False)


class SuiteTests(SynchronousTestCase):
    def test_opener_prefers(self) -> None:
        """Both ends use the first cipher suite of the opener."""
        for first, second in ((AES_FIRST, CHACHA20_FIRST), (CHACHA20_FIRST, AES_FIRST)):
            client = SessionTls(BOB, first).connect(ALICE.public)
            server = SessionTls(ALICE, second).accept()
            self.assertEqual(client.cipher, "")
            self.assertEqual(meet(client, server), (True, True))
            self.assertEqual(client.cipher, first.decode().split(":")[0])
            self.assertEqual(server.cipher, client.cipher)

    def test_others(self) -> None:
        """An opener that offers other cipher suites only is rejected."""

        def other(context: SSL.Context) -> None:
            with_certificate(certificate_of(BOB), private(BOB))(context)
            context.set_tls13_ciphersuites(b"TLS_AES_256_GCM_SHA384")

        self.assertEqual(meet(as_client(stranger(other)), SessionTls(ALICE).accept())[1], False)
        client = SessionTls(BOB).connect(ALICE.public)
        self.assertEqual(meet(client, as_server(stranger(other)))[0], False)


class ExportTests(SynchronousTestCase):
    LABEL = b"EXPORTER-p2pshare-test"

    def test_export(self) -> None:
        """Both ends export the same secret for the same label and context, and for no other."""
        secrets = set()
        for _ in range(2):
            client, server = SessionTls(BOB).connect(ALICE.public), SessionTls(ALICE).accept()
            meet(client, server)
            for label in (self.LABEL, self.LABEL + b"2"):
                for context in (b"", b"ids"):
                    secret = client.export(label, 32, context)
                    self.assertEqual(server.export(label, 32, context), secret)
                    self.assertEqual(len(secret), 32)
                    secrets.add(secret)
        self.assertEqual(len(secrets), 8)

    def test_too_early(self) -> None:
        """Nothing is exported before the other end has proved an acceptable key."""
        client, server = SessionTls(BOB).connect(ALICE.public), SessionTls(ALICE).accept()
        client.shake_hands()
        server.receive_data(client.data_to_send())
        server.shake_hands()
        for pump in (client, server):
            self.assertRaises(TlsFailed, pump.export, self.LABEL, 32, b"")
        client.receive_data(server.data_to_send())
        client.shake_hands()
        self.assertEqual(len(client.export(self.LABEL, 32, b"")), 32)
        self.assertRaises(TlsFailed, server.export, self.LABEL, 32, b"")

    def test_impostor(self) -> None:
        """Nothing is exported from a handshake that the own check rejects."""
        client = SessionTls(BOB).connect(ALICE.public)
        meet(client, SessionTls(EVE).accept())
        self.assertRaises(TlsFailed, client.export, self.LABEL, 32, b"")


class PumpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = SessionTls(BOB).connect(ALICE.public)
        self.server = SessionTls(ALICE).accept()
        assert meet(self.client, self.server) == (True, True)
        self.buffer = memoryview(bytearray(64 * 1024))

    def read(self) -> bytes:
        """Return all that the acceptor can read now."""
        data = b""
        while size := self.server.read_into(self.buffer):
            data += self.buffer[:size]
        return data

    @given(st.lists(st.integers(0, 40_000), max_size=3), st.integers(500, 50_000))
    def test_cut_anywhere(self, sizes: list[int], cut: int) -> None:
        """Records that arrive in parts are read when they are complete, and nothing is lost."""
        sent = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
        ciphertext, received = self.client.write(*sent), b""
        for start in range(0, len(ciphertext), cut):
            self.server.receive_data(ciphertext[start : start + cut])
            received += self.read()
        self.assertEqual(received, b"".join(sent))
        self.assertEqual(self.client.data_to_send(), b"")

    def test_kinds_of_buffers(self) -> None:
        """Any kind of bytes can be sent, and no bytes make no record."""
        data = self.client.write(b"a", bytearray(b"b"), memoryview(b"xcx")[1:2])
        self.server.receive_data(data)
        self.assertEqual(self.read(), b"abc")
        self.assertEqual((self.client.write(), self.client.write(b"")), (b"", b""))

    def test_close(self) -> None:
        """All bytes are read before the close, which each further call reports."""
        self.server.receive_data(self.client.write(b"last words") + self.client.close())
        self.assertEqual(self.server.read_into(self.buffer), 10)
        for _ in range(2):
            self.assertRaises(TlsClosed, self.server.read_into, self.buffer)
        self.assertEqual(self.client.close(), b"")

    def test_changed(self) -> None:
        """Threat 35: changed, reordered or injected records are not read."""
        records = [self.client.write(bytes([n]) * 100) for n in range(3)]
        changed = bytearray(records[0])
        changed[50] ^= 1
        for wrong in (bytes(changed), records[1], b"GET / HTTP/1.1\r\n\r\n"):
            self.setUp()
            self.server.receive_data(wrong)
            self.assertRaises(TlsFailed, self.server.read_into, self.buffer)

    def test_repeated(self) -> None:
        """Threat 35: a replayed record is rejected."""
        record = self.client.write(b"pay")
        self.server.receive_data(record)
        self.assertEqual(self.read(), b"pay")
        self.server.receive_data(record)
        self.assertRaises(TlsFailed, self.read)

    @given(st.binary(min_size=1, max_size=300))
    def test_anything(self, data: bytes) -> None:
        """Threat 6: any bytes instead of a handshake are a beginning, or an error with a reason."""
        for pump in (SessionTls(ALICE).accept(), SessionTls(BOB).connect(ALICE.public)):
            pump.receive_data(data)
            try:
                pump.shake_hands()
            except TlsFailed as error:
                self.assertNotEqual(str(error), "")
            self.assertFalse(pump.is_ready)
