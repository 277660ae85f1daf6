"""Tests of `p2pshare.net.dns`."""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net import dns
from p2pshare.net.dns import (
    FRESH_FOR,
    KNOWN_MAX,
    LEFT_MAX,
    LOOK_UP_MAX,
    LookedUpEndpoint,
    LookUpError,
    NameResolver,
    connect_reason,
    forget_names,
    resolver_of,
)
from p2pshare.testing.network import ThreadlessReactor


class FakeDns:
    """A `getaddrinfo` that knows some names, and records the questions."""

    def __init__(self, **names: str | Exception) -> None:
        self.names = names
        self.asked: list[str] = []

    def __call__(self, host: str, *_: object) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        found = self.names.get(host.partition(".")[0], socket.gaierror(socket.EAI_NONAME, "no"))
        if isinstance(found, Exception):
            raise found
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, 0))
            for each in found.split()
        ]


def install_dns(reactor: Any, **names: str | Exception) -> FakeDns:
    """Let a reactor know some names."""
    dns = FakeDns(**names)
    reactor.nameResolver = NameResolver(reactor, dns)
    return dns


class LookUpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ThreadlessReactor()
        self.dns = install_dns(
            self.reactor,
            nas="2001:db8::7 192.0.2.7 192.0.2.8",
            six="2001:db8::7",
            silent=socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
            odd=UnicodeError("label too long"),
        )

    def look_up(self, host: str) -> Deferred[list[str]]:
        return resolver_of(self.reactor).look_up(host).addCallback(list)

    def reason(self, host: str) -> str:
        error = self.failureResultOf(self.look_up(host), LookUpError).value
        assert isinstance(error, LookUpError)
        self.assertEqual(str(error), error.reason)
        return error.reason

    def test_answers(self) -> None:
        """All addresses come in the system's order; an address stands for itself."""
        self.assertEqual(
            self.successResultOf(self.look_up("nas.lan")), ["2001:db8::7", "192.0.2.7", "192.0.2.8"]
        )
        for literal in ("127.0.0.1", "::1"):
            self.assertEqual(self.successResultOf(self.look_up(literal)), [literal])
        self.assertEqual(self.dns.asked, ["nas.lan"])

    def test_reasons(self) -> None:
        """An unknown name and a silent DNS server have different reasons."""
        self.assertEqual(self.reason("other.lan"), "there is no machine of this name")
        self.assertEqual(self.reason("odd"), "there is no machine of this name")
        self.assertEqual(
            self.reason("silent.lan"),
            "the name silent.lan could not be looked up: DNS does not answer",
        )

    def test_another_network(self) -> None:
        """On another network names are looked up anew, also those whose look-up still waits for the old DNS server."""
        answers: list[Deferred[Any]] = []

        def in_thread(*_: object, **__: object) -> Deferred[Any]:
            answers.append(Deferred())
            return answers[-1]

        def found(ip: str) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, 1, 6, "", (ip, 0))]

        self.patch(dns, "run_in_thread", in_thread)
        old = self.look_up("nas.lan")
        forget_names(self.reactor)
        new, same = self.look_up("nas.lan"), self.look_up("nas.lan")
        self.assertEqual(len(answers), 2)
        answers[1].callback(found("192.0.2.9"))
        self.assertEqual(self.successResultOf(new), ["192.0.2.9"])
        self.assertEqual(self.successResultOf(same), ["192.0.2.9"])
        self.assertNoResult(old)
        answers[0].errback(socket.gaierror(socket.EAI_AGAIN, "no"))
        self.failureResultOf(old, LookUpError)
        self.assertEqual(self.successResultOf(self.look_up("nas.lan")), ["192.0.2.9"])
        forget_names(self.reactor)
        for _ in range(3 * LEFT_MAX):
            self.look_up("nas.lan").addErrback(lambda _: None)
            forget_names(self.reactor)
        self.assertEqual(len(answers), 2 + LEFT_MAX + 1)
        for each in answers[2:]:
            each.callback(found("192.0.2.7"))
        self.reactor.advance(LOOK_UP_MAX)

    def test_logged(self) -> None:
        """Each look-up is logged with its time and outcome, but an address is not."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        self.look_up("127.0.0.1")
        self.look_up("nas.lan")
        self.reason("silent.lan")
        told = [str(formatEvent(each)) for each in observer]
        self.assertEqual(
            told[0], "look-up done: host=nas.lan s=0.000 found=2001:db8::7,192.0.2.7,192.0.2.8"
        )
        self.assertRegex(
            told[1], r"^look-up failed: host=silent.lan s=0.000 why=.*DNS does not answer$"
        )

    def test_bound(self) -> None:
        """A look-up that hangs fails after `LOOK_UP_MAX`; all callers of a name share one thread."""
        let_go = self.reactor.hold_threads()
        first = self.look_up("nas.lan")
        self.reactor.advance(LOOK_UP_MAX / 2)
        second = self.look_up("nas.lan")
        self.reactor.advance(LOOK_UP_MAX / 2)
        error = self.failureResultOf(first, DNSLookupError).value
        self.assertEqual(
            str(error), "the name nas.lan could not be looked up within 6 s: DNS does not answer"
        )
        let_go()
        self.assertEqual(len(self.successResultOf(second)), 3)
        self.assertEqual(self.dns.asked, ["nas.lan"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_fresh(self) -> None:
        """An answer is reused for some seconds, a failure is not, and few answers are kept."""
        for _ in range(2):
            self.successResultOf(self.look_up("nas.lan"))
            self.reason("other.lan")
        self.assertEqual(self.dns.asked, ["nas.lan", "other.lan", "other.lan"])
        for number in range(KNOWN_MAX):
            self.successResultOf(self.look_up(f"nas.{number}"))
        self.successResultOf(self.look_up(f"nas.{KNOWN_MAX - 1}"))
        self.assertEqual(len(self.dns.asked), 3 + KNOWN_MAX)
        self.successResultOf(self.look_up("nas.lan"))
        self.reactor.advance(FRESH_FOR)
        self.successResultOf(self.look_up("nas.lan"))
        self.assertEqual(len(self.dns.asked), 5 + KNOWN_MAX)

    def test_endpoints(self) -> None:
        """Twisted's endpoints use the resolver, and `LookedUpEndpoint` gives the reason."""
        factory = Factory.forProtocol(Protocol)
        for endpoint in (
            HostnameEndpoint(self.reactor, "nas.lan", 80),
            LookedUpEndpoint(self.reactor, "nas.lan", 80, timeout=1),
        ):
            self.assertNoResult(cast("Deferred[object]", endpoint.connect(factory)))
            host, port, *_ = self.reactor.tcpClients.pop()
            self.assertEqual((host, port), ("2001:db8::7", 80))
        self.assertEqual(self.dns.asked, ["nas.lan"])
        for cls, kind in ((HostnameEndpoint, DNSLookupError), (LookedUpEndpoint, LookUpError)):
            failing = cast("Deferred[object]", cls(self.reactor, "silent", 80, 1).connect(factory))
            self.failureResultOf(failing, kind)

    def test_installed(self) -> None:
        """A reactor gets one resolver."""
        reactor = ThreadlessReactor()
        resolver = resolver_of(reactor)
        self.assertIs(resolver_of(reactor), resolver)
        self.assertIs(reactor.nameResolver, resolver)


class ConnectReasonTests(SynchronousTestCase):
    """Twisted's errors as words."""

    def test_reasons(self) -> None:
        """Errors have a reason with and without an errno."""
        for error, reason in (
            (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "nothing listens there"),
            (ConnectError(errno.ENOENT, "no such"), "there is no such file or folder"),
            (TimeoutError(), "it did not answer in time"),
            (DNSLookupError("DNS lookup failed"), "there is no machine of this name"),
        ):
            self.assertEqual(connect_reason(error), reason)
