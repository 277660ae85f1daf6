"""A relay on loopback, and ends that meet there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.web.client import BrowserLikePolicyForHTTPS

from p2pshare.net.session.interfaces import CarrierUser
from p2pshare.registry.configuration import RelayLimits
from p2pshare.registry.relay.relay import Relay
from p2pshare.registry.relay.rooms import Rooms
from p2pshare.registry.relay.routes import RelayRoutes
from p2pshare.registry.relay_client import RelayClient
from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.problems import RequestError, answer_to
from p2pshare.web.site import Site
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.reach.access import Access, Use
from tests.registry.certificates import write_certificate

REGISTRY = SigningKey(bytes(range(32)))
ROOM = "r" * 22


class SignedAccess:
    """Admits whoever has signed the statement; names, times and nonces are those of the real registry's tests."""

    async def admit(self, query: Query, use: Use, detail: str, name: str | None = None) -> Access:
        unverified = Access.parse_header(query.header(b"Authorization"))
        access = unverified.statement
        if (access.use, access.detail) != (use, detail) or not unverified.is_signed_by(access.key):
            raise RequestError("wrong-signature")
        return access


class RelayServer:
    """A server with the route of the relay alone."""

    def __init__(self, clock: Any, limits: RelayLimits | None = None) -> None:
        self.clock = clock
        self.refused: list[str] = []
        limits = limits or RelayLimits()
        self.relay = Relay(clock, limits)
        self.rooms = Rooms(self.relay, clock)
        self._access = SignedAccess()
        self.routes = RelayRoutes(
            self._access,
            self.rooms.enter,
            self.refused.append,
            origin=Origins().of,
            per_address_max=limits.pairs,
        )
        self._join = self.routes.table()[b"v1/relay"].methods[b"GET"]
        self.site = Site(self, clock)
        self.url = ""
        self._port: IListeningPort | None = None

    def answer(self, query: Query) -> Deferred[Reply]:
        """Answer everything as if it were for the relay."""

        def refuse(failure: Any) -> Reply:
            return answer_to(failure.value)[1]

        answer: Any = self._join(query)
        return Deferred.fromCoroutine(answer).addErrback(refuse)

    async def listen(self, patch: Callable[..., object] | None = None) -> None:
        """Listen on loopback; over TLS if there is a `patch`, by which clients come to trust the certificate."""
        endpoint: Any = TCP4ServerEndpoint(self.clock, 0, interface="127.0.0.1")
        if patch is not None:
            with tempfile.TemporaryDirectory() as folder:
                pem = write_certificate(Path(folder, "both.pem")).read_bytes()
            key: Any = load_pem_private_key(pem, None)
            certificate: Any = x509.load_pem_x509_certificate(pem)
            options = CertificateOptions(key, certificate)
            endpoint = SSL4ServerEndpoint(self.clock, 0, options, interface="127.0.0.1")
            trust = trustRootFromCertificates([Certificate.loadPEM(pem)])
            creator = optionsForClientTLS("127.0.0.1", trustRoot=trust)
            patch(BrowserLikePolicyForHTTPS, "creatorForNetloc", lambda *_: creator)
        self._port = await endpoint.listen(self.site)
        self.relay.start()
        scheme = "http" if patch is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._port.getHost().port}"  # type: ignore[union-attr]

    async def stop(self) -> None:
        """Close everything."""
        self.rooms.stop()
        self.relay.stop()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)

    def client(self, key: SigningKey) -> RelayClient:
        """Return a client with this key."""
        return RelayClient(self.clock, self.url, key, "somebody", wall=lambda: 0.0)

    async def join(
        self, one: tuple[SigningKey, CarrierUser], two: tuple[SigningKey, CarrierUser]
    ) -> None:
        """Let two ends meet."""
        joining = [
            Deferred.fromCoroutine(self.client(key).join(REGISTRY.public, ROOM, other.public, user))
            for (key, user), (other, _) in ((one, two), (two, one))
        ]
        await gatherResults(joining, consumeErrors=True)
