"""STUN: answers that nobody can abuse, from the address that was asked, at two ports."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import sys
import unittest
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2pshare.errors import CannotStart
from p2pshare.net.sockets import takes_both_families
from p2pshare.registry import stun as stun_module
from p2pshare.registry.stun import (
    ALL_ANSWERS_BURST,
    ALL_ANSWERS_PER_S,
    ANSWERS_BURST,
    ANSWERS_PER_S,
    TRIES,
    StunPlace,
    StunPorts,
    StunResponder,
)
from p2pshare.web.listening import ListeningReactor, Place
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.stun import Binding, BindingKind, padded_request, parse

reactor: Any = global_reactor
TRANSACTION = b"t" * 12
REQUEST = padded_request(TRANSACTION)


class ResponderTests(SynchronousTestCase):
    """`StunResponder`."""

    def setUp(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.responder = StunResponder(0.0, count=lambda each: self.outcomes.update([each]))

    def ask(self, host: str, now: float = 0.0, data: bytes = REQUEST) -> bytes | None:
        return self.responder.answer(data, host, 40000, now)

    def test_answered(self) -> None:
        """The answer has the address of the request, an IPv4 address also where a socket shows it as IPv6."""
        for host, ip in (
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("fe80::1%eth0", "fe80::1"),
        ):
            answer = self.ask(host)
            assert answer is not None
            expected = Binding(BindingKind.SUCCESS, TRANSACTION, mapped=PeerAddress(ip, 40000))
            self.assertEqual(parse(answer), expected)
        self.assertEqual(self.outcomes, {"answered": 4})

    @settings(max_examples=50)
    @given(st.data())
    def test_never_longer(self, data: st.DataObject) -> None:
        """No input is answered by more bytes than it has (threat 11: reflection by forged sources)."""
        kind = data.draw(st.sampled_from(BindingKind))
        padding = data.draw(st.integers(0, 12)) * 4
        message = Binding(kind, TRANSACTION, padding=padding).serialize()
        sent = data.draw(
            st.one_of(
                st.binary(max_size=100),
                st.just(message),
                st.integers(0, len(message)).map(lambda size: message[:size]),
                st.binary(max_size=20).map(lambda more: message + more),
            )
        )
        for host in ("192.0.2.7", "2001:db8::7"):
            answer = StunResponder(0.0).answer(sent, host, 40000, 0.0)
            self.assertLessEqual(len(answer or b""), len(sent))

    def test_no_echo(self) -> None:
        """An answer is not answered, so two registries cannot be made to answer each other (threat 11)."""
        answer = self.ask("192.0.2.7")
        assert answer is not None
        self.assertIsNone(self.ask("192.0.2.8", data=answer))
        error = Binding(BindingKind.ERROR, TRANSACTION, error=400, padding=40).serialize()
        self.assertIsNone(self.ask("192.0.2.8", data=error))
        self.assertIsNone(self.responder.answer(REQUEST, "192.0.2.8", 0, 0.0))
        self.assertIsNone(self.responder.answer(REQUEST, "nonsense", 1, 0.0))

    def test_network(self) -> None:
        """A network gets a bounded number of answers, whichever of its addresses are forged (threat 11)."""
        for hosts in (
            [f"192.0.2.{number}" for number in range(250)],
            [f"2001:db8:0:{number:x}::1" for number in range(250)],
        ):
            answers = sum(self.ask(random.Random(1).choice(hosts)) is not None for _ in range(500))
            self.assertEqual(answers, ANSWERS_BURST)
        self.assertIsNotNone(self.ask("198.51.100.1"))
        self.assertIsNone(self.ask("192.0.2.1"))
        later = [self.ask("192.0.2.1", 1.0) for _ in range(100)]
        self.assertEqual(sum(each is not None for each in later), ANSWERS_PER_S)

    def test_in_all(self) -> None:
        """All networks together get a bounded number of answers, and cost a bounded memory (threat 11)."""
        responder = StunResponder(0.0, networks_max=10)
        count = 0
        for number in range(ALL_ANSWERS_BURST + 500):
            host = f"10.{number >> 8}.{number & 255}.1"
            count += responder.answer(REQUEST, host, 1, 0.0) is not None
        self.assertEqual((count, len(responder)), (ALL_ANSWERS_BURST, 10))
        self.assertIsNotNone(responder.answer(REQUEST, "192.0.2.1", 1, 2 / ALL_ANSWERS_PER_S))


class PortTests(TestCase):
    """`StunPorts`, on real sockets of this machine."""

    def ports(self, *listen: str, **options: Any) -> StunPorts:
        """Return open STUN ports beside TCP ports."""
        stun = StunPorts(reactor, **options)
        self.addCleanup(stun.close)
        tcp = [Place.of(ListeningReactor(reactor), each).listen(Factory()) for each in listen]
        for port in tcp:
            self.addCleanup(port.stopListening)
        stun.open(tcp)
        return stun

    async def ask(self, host: str, number: int, data: bytes = REQUEST) -> Binding | None:
        """Ask from a connected socket, which takes an answer from the asked address only; None without one."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.connect((host, number))
            client.setblocking(False)
            client.send(data)
            for _ in range(30):
                await deferLater(reactor, 0.01)
                try:
                    answer = parse(client.recv(1000))
                except BlockingIOError:
                    continue
                assert answer is not None and answer.mapped is not None
                self.assertEqual(answer.mapped.port, client.getsockname()[1])
                return answer
        return None

    async def test_beside(self) -> None:
        """By default STUN is answered at the number of the TCP port, and at one more, over both families."""
        stun = self.ports("tcp:0")
        first, second = (place.number for place in stun.places)
        self.assertEqual(stun.told, (str(first), str(second)))
        self.assertTrue(first < second < first + TRIES)
        hosts = ["127.0.0.1", *(["::1"] if takes_both_families() else [])]
        for host in hosts:
            for number in (first, second):
                answer = await self.ask(host, number)
                assert answer is not None and answer.mapped is not None
                self.assertEqual(answer.mapped.ip, host)

    @unittest.skipUnless(sys.platform == "linux", "all of 127.0.0.0/8 are this machine's on Linux")
    async def test_source(self) -> None:
        """The answer comes from the address that was asked, though another one is nearer."""
        for interface in ("", ":interface=0.0.0.0"):
            stun = self.ports(f"tcp:0{interface}")
            answer = await self.ask("127.0.0.2", stun.places[0].number)
            assert answer is not None
            stun.close()

    @unittest.skipUnless(sys.platform == "linux", "all of 127.0.0.0/8 are this machine's on Linux")
    def test_several_addresses(self) -> None:
        """Each address of the registry has both ports, and peers are told each number once."""
        number = self.ports("tcp:0:interface=127.0.0.1").places[0].number
        hosts = ("127.0.0.2", "127.0.0.3")
        stun = self.ports(*(f"tcp:{number}:interface={host}" for host in hosts))
        self.assertEqual([place.host for place in stun.places], sorted(hosts * 2))
        self.assertEqual((stun.told[0], len(stun.told)), (str(number), 2))

    async def test_noise(self) -> None:
        """Whatever arrives, the port goes on, and answers nothing but requests (threat 6)."""
        stun = self.ports("tcp:0:interface=127.0.0.1")
        number = stun.places[0].number
        for data in (b"", b"\0" * 20, REQUEST[:-4], b"x" * 2000, bytes(65000)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                for _ in range(100):
                    client.sendto(data, ("127.0.0.1", number))
            await deferLater(reactor, 0.05)
        self.assertIsNotNone(await self.ask("127.0.0.1", number))

    def test_proxy(self) -> None:
        """Behind a proxy, peers are not told ports that only the proxy can reach."""
        stun = self.ports("tcp:0:interface=127.0.0.1", is_behind_proxy=True)
        self.assertEqual((stun.told, len(stun.places)), ((), 2))
        self.assertEqual(len(self.ports("tcp:0", is_behind_proxy=True).told), 2)

    def test_wanted(self) -> None:
        """Ports that are wanted are opened, and told as they were given; with none, nothing is."""
        number = free_udp_port()
        stun = self.ports("tcp:0:interface=127.0.0.1", wanted=[f"stun.example:{number}"])
        self.assertEqual([each.number for each in stun.places], [number])
        self.assertEqual(stun.told, (f"stun.example:{number}",))
        with self.assertRaises(CannotStart) as caught:
            self.ports(wanted=[str(number)])
        self.assertIn(f"UDP port {number}: Address already in use", str(caught.exception))
        stun = self.ports("tcp:0:interface=127.0.0.1", wanted=[])
        self.assertEqual((stun.told, stun.places), ((), ()))

    def test_taken(self) -> None:
        """If another program has a number, a later one is used; if it has all, the registry starts without STUN."""
        number = quiet_number()
        self.ports(f"tcp:{number}:interface=127.0.0.1")
        second = self.ports(f"tcp:{number + 1}:interface=127.0.0.1")
        self.assertEqual(len(second.told), 2)
        self.assertNotIn(str(number + 1), second.told)

        def in_use(*_arguments: object, **_options: object) -> None:
            raise OSError(errno.EADDRINUSE, "Address already in use")

        self.patch(stun_module, "StunPort", in_use)
        third = self.ports("tcp:0:interface=127.0.0.1")
        self.assertEqual((third.told, third.places), ((), ()))

    @unittest.skipUnless(hasattr(socket, "SO_REUSEPORT"), "the system cannot share ports")
    async def test_shared(self) -> None:
        """Workers share the ports of a process that has closed them; another process cannot join them."""
        first = self.ports("tcp:0:interface=127.0.0.1")
        places, told = first.places, first.told
        with self.assertRaises(CannotStart):
            self.ports(places=places)
        first.close()
        workers = [self.ports(places=places) for _ in range(2)]
        self.assertEqual([each.told for each in workers], [told] * 2)
        self.assertEqual([each.places for each in workers], [places] * 2)
        for _ in range(5):
            self.assertIsNotNone(await self.ask("127.0.0.1", places[0].number))
        with self.assertRaises(CannotStart):
            self.ports(wanted=[str(places[0].number)])
        self.assertEqual(places[0], StunPlace("127.0.0.1", places[0].number))


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def quiet_number() -> int:
    """Return the first of three free numbers that no system gives to a socket by itself."""
    while True:
        number = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for each in range(number, number + 3):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    probe = probes.enter_context(socket.socket(socket.AF_INET, kind))
                    probe.bind(("127.0.0.1", each))
            return number
