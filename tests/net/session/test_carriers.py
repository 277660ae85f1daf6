"""Tests of opening sessions over UDP and TCP side by side, on the loopback interface."""

from __future__ import annotations

import os
import random
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol, Protocol, ServerFactory
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    NoAnswerOverUdp,
    NoSessionThere,
    OtherKeyThere,
    P2pshareError,
    PeerUnreachable,
    PortUnusable,
    SessionRefused,
)
from p2pshare.net.session import dialling
from p2pshare.net.session.carriers import CALL_SOCKETS_MAX, Carriers
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.net.session.dialling import (
    SessionDial,
    Tried,
    WantedSession,
    accept_session,
    open_session,
)
from p2pshare.net.session.driver import SessionDriver
from p2pshare.net.session.interfaces import CarrierUser, OwnedSession
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tcp import FILE_READ, TcpCarrier, TcpCarriers
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import client_endpoint
from p2pshare.storage.settings import Via
from p2pshare.testing.sessions import RecordingOwner, RecordingUser
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Refusal
from p2pshare.wire.transfer_messages import Get
from tests.net.session_pairs import ALICE, BOB, EVE

reactor: Any = global_reactor
HOST = "127.0.0.1"
QUIET_PORTS = range(20_000, 30_000)
"""Numbers that no system gives to a socket by itself, so that a test that opens one again finds it free."""
OVER_IP = Via.AUTO, Via.UDP, Via.TCP


class CarriersTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.owner = RecordingOwner()
        self.drivers: list[SessionDriver] = []

    @property
    def tls(self) -> SessionTls:
        """Of the acceptor."""
        return SessionTls(ALICE)

    def accept(self, host: str) -> SessionDriver:
        """Accept a session over UDP."""
        driver = accept_session(reactor, self.owner, silence=60.0, idle=600.0, greeting=10.0)
        self.drivers.append(driver)
        return driver

    def accept_stream(self, host: str) -> StreamChannel:
        return StreamChannel(reactor, self.tls.accept(), self.accept(host))

    async def listen(self, *, udp: bool = True, tcp: bool = True) -> PeerAddress:
        """Return an address with an acceptor on both ports, or on one of them."""
        for number in random.Random().sample(QUIET_PORTS, 50):
            datagrams = DatagramSessions(reactor, os.urandom, self)
            try:
                datagrams.port.listen(number, HOST)
                if tcp:
                    await self.listen_tcp(number)
            except (CannotListenError, PortUnusable):
                await datagrams.stop()
                continue
            if udp:
                self.stop_in_the_end(datagrams)
            else:
                await datagrams.stop()
            return PeerAddress(HOST, number)
        raise AssertionError("no number is free for both")

    def stop_in_the_end(self, datagrams: DatagramSessions) -> None:
        self.addCleanup(lambda: Deferred.fromCoroutine(datagrams.stop()))

    async def listen_tcp(self, number: int) -> IListeningPort:
        endpoint = TCP4ServerEndpoint(reactor, number, interface=HOST)
        port: IListeningPort = await endpoint.listen(TcpCarriers(self.accept_stream))
        self.addCleanup(port.stopListening)
        return port

    def open(
        self,
        address: PeerAddress,
        via: Via = Via.AUTO,
        expected: PublicKey = ALICE.public,
        **settings: Any,
    ) -> Deferred[Session]:
        carriers = Carriers(reactor, via)
        self.addCleanup(lambda: Deferred.fromCoroutine(carriers.close()))
        opening = open_session(
            reactor, BOB, "alice", address, expected, credit=1, carriers=carriers, **settings
        )
        return Deferred.fromCoroutine(opening)

    async def failed(self, kind: type[P2pshareError], *words: Any, **settings: Any) -> None:
        with self.assertRaises(kind):
            await self.open(*words, **settings)

    async def ended(self, session: Session) -> None:
        """Close a session, and wait until both ends are over."""
        user = RecordingUser(session)
        session.begin(user)
        session.close()
        while not user.ends or len(self.owner.ends) < len(self.drivers):
            await deferLater(reactor, 0.001)

    async def test_each(self) -> None:
        """The user may choose the carrier, and the session tells which one it has."""
        address = await self.listen()
        for via in (Via.UDP, Via.TCP):
            session = await self.open(address, via)
            self.assertEqual((session.path.carrier, session.path.address), (via.value, address))
            self.assertEqual(str(session.path), f"via {via.value}, {address}")
            await self.ended(session)
            self.assertEqual(len(self.drivers), 1)
            self.setUp()

    async def test_fast_tcp(self) -> None:
        """Where TCP is fast, UDP is not even tried."""
        self.patch(dialling, "TCP_HEAD_START", 5.0)  # a loaded machine may be slow
        address = await self.listen()
        session = await self.open(address)
        self.assertEqual(session.path.carrier, "tcp")
        await self.ended(session)
        self.assertEqual(len(self.drivers), 1)

    async def test_tcp_blocked(self) -> None:
        """Threat 46: if nothing accepts TCP, UDP is used."""
        session = await self.open(await self.listen(tcp=False))
        self.assertEqual(session.path.carrier, "udp")
        await self.ended(session)

    async def test_udp_blocked(self) -> None:
        """Threat 46: if nothing answers on UDP, TCP is used."""
        session = await self.open(await self.listen(udp=False))
        self.assertEqual(session.path.carrier, "tcp")
        await self.ended(session)

    async def test_silent_tcp(self) -> None:
        """Threat 46: if TCP is accepted and then silent, UDP is used; only one attempt brings early requests."""
        address = await self.listen(tcp=False)
        silent = reactor.listenTCP(address.port, ServerFactory.forProtocol(Silent), interface=HOST)
        self.addCleanup(silent.stopListening)
        session = await self.open(address, early=[Get(1, ("cat.jpg",))])
        self.assertEqual(session.path.carrier, "udp")
        (driver,) = self.drivers
        user = RecordingUser(driver)
        driver.begin(user)
        while not user.messages:
            await deferLater(reactor, 0.001)
        self.assertEqual(user.messages, [Get(1, ("cat.jpg",))])
        await self.ended(session)

    async def test_nobody(self) -> None:
        """A peer that is not there is reported soon, though UDP has no sign for that."""
        address = await self.listen(udp=False, tcp=False)
        began = reactor.seconds()
        await self.failed(PeerUnreachable, address)
        self.assertLess(reactor.seconds() - began, 5.0)
        await self.failed(NoAnswerOverUdp, address, Via.UDP, timeout=0.3)

    async def test_log(self) -> None:
        """The log of `--debug` has what became of each attempt."""
        address = await self.listen(udp=False, tcp=False)
        for via, timeout, logged in (
            (Via.AUTO, 9.0, {("connection failed", "tcp"), ("begun", "udp"), ("given up", "udp")}),
            (Via.UDP, 0.3, {("begun", "udp"), ("connection failed", "udp")}),
        ):
            with capturedLogs() as events:
                await self.failed(PeerUnreachable, address, via, timeout=timeout)
            steps = {(each["event"], each["carrier"]) for each in events if "carrier" in each}
            self.assertLessEqual(logged, steps)
            self.assertNotIn(("given up", "tcp"), steps)

    async def test_several_addresses(self) -> None:
        """Several addresses are tried side by side: the first welcome is used, and the rest is ended and reported."""
        there = await self.listen()
        gone = await self.listen(udp=False, tcp=False)
        tried: list[Tried] = []
        dial = SessionDial(reactor, BOB, WantedSession("alice", ALICE.public, 1), tried)
        dial.over_tcp(gone)
        dial.over_tcp(there, 5.0)  # begins as soon as the first has failed
        session = await dial.session()
        self.assertEqual(session.path.address, there)
        self.assertEqual([each.outcome for each in tried], ["no answer", "used"])
        self.assertIsNone(tried[0].answered_ms)
        self.assertGreater(tried[1].answered_ms or 0.0, 0.0)
        await self.ended(session)

    async def test_no_address(self) -> None:
        """If the peer answers nowhere, the error names the addresses."""
        gone = [await self.listen(udp=False, tcp=False) for _ in range(6)]
        for count, named in ((2, f"{gone[0]} and {gone[1]}"), (6, f"{gone[3]} and 2 more")):
            dial = SessionDial(reactor, BOB, WantedSession("alice", ALICE.public, 1))
            for address in gone[:count]:
                dial.over_tcp(address)
            with self.assertRaises(PeerUnreachable) as caught:
                await dial.session()
            self.assertIn(named, str(caught.exception))

    async def test_stream(self) -> None:
        """A connection that was made in another way joins the race, also later; without one, the error is told."""
        address = await self.listen(udp=False)
        dial = SessionDial(reactor, BOB, WantedSession("alice", ALICE.public, 1))
        others: Deferred[Session] = Deferred()
        dial.wait_for(others)
        opening = Deferred.fromCoroutine(dial.session())

        async def connect(user: CarrierUser) -> None:
            await connectProtocol(
                client_endpoint(reactor, address, 3.0), TcpCarrier(user, FILE_READ)
            )

        async def fail(user: CarrierUser) -> None:
            raise NoSessionThere(name="alice", address=address, reason="nobody came")

        dial.over_stream("relay", address, fail)
        dial.over_stream("relay", address, connect)
        session = await opening
        await self.ended(session)
        failing = SessionDial(reactor, BOB, WantedSession("alice", ALICE.public, 1))
        failing.over_stream("relay", address, fail)
        with self.assertRaises(NoSessionThere):
            await failing.session()

    async def test_socket_of_a_call(self) -> None:
        """A call gets a new socket, which is closed after the session over it; the number of them is bounded."""
        address = await self.listen()
        carriers = Carriers(reactor)
        new = await carriers.new_udp("0.0.0.0")
        assert new is not None
        dial = SessionDial(reactor, BOB, WantedSession("alice", ALICE.public, 1))
        dial.over_udp(address, lambda _: new)
        session = await dial.session()
        await carriers.release(new)
        await self.ended(session)
        others = [await carriers.new_udp("0.0.0.0") for _ in range(CALL_SOCKETS_MAX)]
        self.assertNotIn(None, others)
        self.assertIsNone(new.port.number)
        self.assertIsNone(await carriers.new_udp("0.0.0.0"))
        await carriers.close()
        self.assertIsNone(await carriers.new_udp("0.0.0.0"))

    async def test_sockets_of_calls_at_once(self) -> None:
        """Calls that begin at once close the sockets of former calls together."""
        address = await self.listen()
        carriers = Carriers(reactor)
        sockets = [await carriers.new_udp("0.0.0.0") for _ in range(2)]
        for new in sockets:
            assert new is not None
            dial = SessionDial(reactor, BOB, WantedSession("alice", ALICE.public, 1))
            dial.over_udp(address, lambda _, new=new: new)  # type: ignore[misc]
            session = await dial.session()
            await carriers.release(new)
            await self.ended(session)
        calls = [Deferred.fromCoroutine(carriers.new_udp("0.0.0.0")) for _ in range(2)]
        for call in calls:
            self.assertIsNotNone(await call)
        await carriers.close()

    async def test_other_key(self) -> None:
        """Threat 46: an impostor is found out on either carrier, and is told nothing."""
        address = await self.listen()
        for via in OVER_IP:
            await self.failed(OtherKeyThere, address, via, expected=EVE.public)
        self.assertEqual(self.owner.hellos, [])

    async def test_refused(self) -> None:
        """Threat 46: a refusal on one carrier is final."""

        def refuse(session: OwnedSession) -> None:
            session.refuse(Refusal.STRANGER)

        self.owner.on_greeted = refuse
        address = await self.listen()
        for via in OVER_IP:
            await self.failed(SessionRefused, address, via)
        self.assertEqual(len(self.owner.hellos), 3)

    async def test_port_of_the_peer(self) -> None:
        """A running peer dials over its own welcome port, if that reaches the address."""
        address = await self.listen()
        own = DatagramSessions(reactor, os.urandom)
        self.stop_in_the_end(own)
        number = own.port.listen(0, HOST)
        carriers = Carriers(reactor, Via.UDP, own)
        session = await open_session(
            reactor, BOB, "alice", address, ALICE.public, credit=1, carriers=carriers
        )
        self.assertEqual(self.drivers[0].path.address, PeerAddress(HOST, number))
        await self.ended(session)
        self.assertIs(carriers.udp_towards(PeerAddress(HOST, 1)), own)
        other = carriers.udp_towards(PeerAddress("192.0.2.7", 1))
        assert other is not None
        self.assertIsNot(other, own)
        await carriers.close()
        self.assertIsNone(carriers.udp_towards(PeerAddress("192.0.2.7", 1)))

    async def test_many_datagrams(self) -> None:
        """Any datagrams to the port of an opener are ignored."""
        address = await self.listen()
        session = await self.open(address, Via.UDP)
        stranger = DatagramProtocol()
        port = reactor.listenUDP(0, stranger, interface=HOST)
        self.addCleanup(port.stopListening)
        target = self.drivers[0].path.address
        for size in (1, 2, 16, 60, 1200):
            for first in (0xC0, 0xC1, 0xC2, 0xC3, 0xE0, 0xE1, 0xFF, 0, 65):
                port.write(bytes([first]) + os.urandom(size - 1), (target.ip, target.port))
        await deferLater(reactor, 0.05)
        self.assertEqual(self.owner.ends, [])
        await self.ended(session)


class Silent(Protocol):
    """A server that accepts a connection, and says nothing."""
