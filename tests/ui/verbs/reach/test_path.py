"""Tests of `p2pshare.ui.verbs.reach.path` and of what it finds out about the network."""

from __future__ import annotations

import io
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.session_interface import SessionPath
from p2pshare.errors import (
    OtherKeyThere,
    P2pshareError,
    PeerOffline,
    PeerUnreachable,
    RegistryUnreachable,
    WrongUsage,
)
from p2pshare.net.reach.interfaces import InterfaceAddress, NetworkState
from p2pshare.net.reach.stun_client import StunAnswer
from p2pshare.net.session.dialling import Tried
from p2pshare.peer.find.own_identity import OwnIdentity
from p2pshare.peer.reach.report import facts as network_facts
from p2pshare.peer.reach.report.path import DIRECT_WAIT
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.reach import path as pathing
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import Presence, RegistryInfo
from tests.ui.registries import NOW, REGISTRY_KEY, URL, MemoryInvocation, MemoryRegistry, view_of
from tests.ui.screens import real_terminal

KEY = SigningKey(bytes(32))
ALICE = SigningKey(bytes([7]) * 32).public
SERVERS = PeerAddress("192.0.2.1", 8000), PeerAddress("192.0.2.1", 8001)
MAPPED = PeerAddress("203.0.113.7", 50001)
DIRECT = SessionPath("tcp", PeerAddress("192.0.2.7", 50000))
RELAYED = SessionPath("relay", PeerAddress("192.0.2.1", 8000))


class FakeSession:
    def __init__(self, path: SessionPath) -> None:
        self.path = path
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class FakeDialler:
    """Has a prepared outcome for the first dial, and one for a direct one."""

    def __init__(self) -> None:
        self.outcomes: list[SessionPath | P2pshareError | None] = [DIRECT]
        self.sessions: list[FakeSession] = []

    async def open(self, target: object, *, report: list[Tried], **_: object) -> FakeSession:
        outcome = self.outcomes.pop(0)
        report.append(Tried("tcp", "192.0.2.7:50000", 0.0, None, "no answer"))
        if outcome is None:
            await Deferred[None]()
        if isinstance(outcome, P2pshareError):
            raise outcome
        assert isinstance(outcome, SessionPath)
        report.append(Tried(outcome.carrier, str(outcome.address), 0.05, 33.25, "used"))
        self.sessions.append(FakeSession(outcome))
        return self.sessions[-1]

    open_direct = open


class FakeStun:
    """Answers for some servers."""

    answers: Sequence[PeerAddress | None] = (MAPPED, MAPPED)

    def __init__(self, clock: object, port: object, random: object) -> None:
        self.left = list(self.answers)

    def ask(self, server: PeerAddress) -> Deferred[StunAnswer | None]:
        mapped = self.left.pop(0)
        return succeed(None if mapped is None else StunAnswer(server, mapped, 0.0125))

    def stop(self) -> None:
        pass


class FakeCarriers:
    port = None

    def __init__(self, *_: object) -> None:
        pass

    async def new_udp(self, *_: str) -> FakeCarriers:
        return self

    async def release(self, _: object) -> None:
        pass

    async def close(self) -> None:
        pass


class PathTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.registry = MemoryRegistry(view_of("alice", ALICE))
        self.registry.infos = RegistryInfo("1", NOW, REGISTRY_KEY, (), False, None, ("8000",), True)
        self.dialler = FakeDialler()
        self.state = self.network("192.168.1.5/24")
        self.peer: dict[str, Any] | None = None
        self.folder = Path(self.mktemp()).absolute()
        FakeStun.answers = (MAPPED, MAPPED)

        async def servers(*_: object) -> Sequence[PeerAddress]:
            return SERVERS

        async def status(_: object) -> dict[str, Any] | None:
            return self.peer

        self.patch(network_facts, "stun_servers", servers)
        self.patch(network_facts, "StunClient", FakeStun)
        self.patch(network_facts, "Carriers", FakeCarriers)
        self.patch(network_facts, "read_network", lambda: self.state)
        self.patch(pathing, "_status", status)
        self.patch(pathing, "carriers_of", FakeCarriers)
        self.patch(pathing, "dialler_of", lambda *_: self.dialler)
        self.patch(pathing, "introduce", self.introduce)

    @staticmethod
    def network(*texts: str) -> NetworkState:
        addresses = [ipaddress.ip_interface(each) for each in texts]
        return NetworkState(
            tuple(InterfaceAddress(str(each.ip), each.network, "eth0") for each in addresses)
        )

    async def introduce(
        self, _: object, __: object, finder: Any, peer: str
    ) -> tuple[OwnIdentity, Deferred[Any]]:
        return OwnIdentity("bob", KEY), Deferred.fromCoroutine(finder.find(peer))

    def run_path(
        self, peer: str | None = None, terminal: Terminal | None = None, *, json: bool = False
    ) -> Deferred[int]:
        screen = terminal or Terminal.detect(self.stdout, {})
        output = Output(screen, Terminal.detect(self.stderr, {}), json=json)
        self.fake = MemoryInvocation(self.registry, output, self.folder)
        return Deferred.fromCoroutine(pathing.path(cast(Invocation, self.fake), peer))

    def events(self, peer: str | None = None) -> list[dict[str, Any]]:
        self.successResultOf(self.run_path(peer, json=True))
        return [json.loads(line) for line in self.stdout.getvalue().splitlines()]


class NetworkTests(PathTestCase):
    def test_event(self) -> None:
        """Programs get what was found out."""
        (event,) = self.events()
        self.assertGreater(len(event.pop("advice")), 0)
        self.assertEqual(
            event,
            {
                "event": "network",
                "registry": URL,
                "registry_ms": 0.0,
                "problem": None,
                "relay": True,
                "stun": [
                    {"server": str(each), "answered_ms": 12.5, "mapped": str(MAPPED)}
                    for each in SERVERS
                ],
                "mapping": "independent",
                "addresses": [{"ip": "192.168.1.5", "interface": "eth0"}],
                "ipv6": False,
                "running": False,
                "address": None,
                "candidates": [],
                "private": False,
            },
        )

    def test_mapping(self) -> None:
        """The kind of NAT follows from the answers of the STUN servers."""
        own = PeerAddress("192.168.1.5", 50001)
        other = PeerAddress("203.0.113.7", 50002)
        for answers, mapping in (
            ((own, own), "none"),
            ((MAPPED, other), "dependent"),
            ((MAPPED, None), "unknown"),
            ((None, None), "blocked"),
        ):
            FakeStun.answers = answers
            self.assertEqual(self.events()[-1]["mapping"], mapping)

    def test_families(self) -> None:
        """Servers of a family that this machine has not are not asked."""
        self.state = self.network("2001:db8::5/64")
        self.assertEqual(self.events()[-1]["stun"], [])

    def test_peer(self) -> None:
        """The running peer tells what it publishes."""
        candidates = ["host/192.168.1.5:50000"]
        self.peer = {"name": "bob", "address": "192.168.1.5:50000", "candidates": candidates}
        (event,) = self.events()
        self.assertEqual((event["running"], event["candidates"]), (True, candidates))

    def test_away(self) -> None:
        """Without an answer of the registry, the rest is shown, and the exit code is 5."""
        self.patch(self.registry, "info", self.fail_to_answer)
        self.assertEqual(self.successResultOf(self.run_path()), 5)
        self.assertIn(f"{URL} does not answer: refused", self.stdout.getvalue())
        self.assertIn("192.168.1.5", self.stdout.getvalue())

    async def fail_to_answer(self) -> None:
        raise RegistryUnreachable(registry=URL, reason="refused")

    def test_original(self) -> None:
        """An original registry has neither STUN nor a relay."""
        self.registry.infos = None
        self.assertEqual(self.successResultOf(self.run_path()), 0)
        self.assertIn("original", self.stdout.getvalue())

    def test_columns(self) -> None:
        """Lines fit into the terminal, also a narrow one."""
        self.state = self.network("192.168.1.5/24", "2001:db8:1111:2222:3333:4444:5555:6666/64")
        for columns in (80, 40):
            with real_terminal(columns) as real:
                terminal = Terminal.detect(real.stream, {})
                self.successResultOf(self.run_path(terminal=terminal))
                shown = real.show()
                self.assertFalse(real.screen.wrapped)
                self.assertTrue(shown[0].startswith("registry    http"))
                for label in ("IPv4", "IPv6", "UDP", "NAT", "peer"):
                    self.assertTrue(any(line.startswith(label) for line in shown), label)


class PeerTests(PathTestCase):
    def test_direct(self) -> None:
        """The path in use is shown, with everything that was tried."""
        network, event = self.events("alice")
        self.assertEqual(network["event"], "network")
        self.assertEqual(
            event,
            {
                "event": "path",
                "peer": "alice",
                "key": str(ALICE),
                "via": "tcp",
                "address": "192.0.2.7:50000",
                "direct": True,
                "began_on_relay": False,
                "ms": 0.0,
                "candidates": ["host/192.0.2.7:50000"],
                "mapping": "unknown",
                "takes_calls": False,
                "tried": [
                    {
                        "via": "tcp",
                        "address": "192.0.2.7:50000",
                        "began_ms": 0.0,
                        "answered_ms": None,
                        "outcome": "no answer",
                        "again": False,
                    },
                    {
                        "via": "tcp",
                        "address": "192.0.2.7:50000",
                        "began_ms": 50.0,
                        "answered_ms": 33.2,
                        "outcome": "used",
                        "again": False,
                    },
                ],
                "advice": [],
            },
        )
        self.assertTrue(self.dialler.sessions[0].is_closed)

    def test_sentence(self) -> None:
        """People read how the peer is reached first."""
        self.successResultOf(self.run_path("alice"))
        first, second, third, *_ = self.stdout.getvalue().splitlines()
        self.assertEqual(
            first, "alice is reached directly, by TCP, at 192.0.2.7:50000, after 0 ms."
        )
        self.assertEqual(second, "tried       tcp 192.0.2.7:50000: no answer (begun after 0 ms)")
        self.assertIn("answered in 33 ms, used (begun after 50 ms)", third)

    def test_relay(self) -> None:
        """A relayed path says what would make it direct; a direct path is tried again, but not for long."""
        for outcome in (None, PeerUnreachable(name="alice", address="192.0.2.7:50000")):
            self.stdout.truncate(0)
            self.stdout.seek(0)
            self.dialler.outcomes = [RELAYED, outcome]
            done = self.run_path("alice")
            self.fake.reactor.advance(DIRECT_WAIT)
            self.assertEqual(self.successResultOf(done), 0)
            said = self.stdout.getvalue()
            self.assertIn("through the relay, 192.0.2.1:8000", said)
            self.assertIn("makes the path direct", said)
            self.assertIn("tried again ", said)

    def test_moved(self) -> None:
        """A direct path that works after the relay is the path."""
        self.dialler.outcomes = [RELAYED, SessionPath("udp", DIRECT.address)]
        event = self.events("alice")[-1]
        self.assertEqual(
            (event["via"], event["direct"], event["began_on_relay"]), ("udp", True, True)
        )
        self.assertEqual([each["again"] for each in event["tried"]], [False, False, True, True])
        self.assertTrue(all(each.is_closed for each in self.dialler.sessions))

    def test_nothing_works(self) -> None:
        """If nothing works, all is shown, and the error follows with its exit code."""
        self.dialler.outcomes = [PeerUnreachable(name="alice", address="192.0.2.7:50000")]
        error = self.failureResultOf(self.run_path("alice"), PeerUnreachable).value
        self.assertEqual(error.exit_code, 5)
        self.assertIn("There is no path to alice.", self.stdout.getvalue())
        self.assertIn("no answer", self.stdout.getvalue())
        address = DIRECT.address
        self.dialler.outcomes = [OtherKeyThere(name="alice", address=address, known="a", there="b")]
        self.assertEqual(self.failureResultOf(self.run_path("alice")).value.exit_code, 3)

    def test_not_tried(self) -> None:
        """Yourself is wrong usage, and a peer that is offline is not tried without a known address."""
        self.failureResultOf(self.run_path("bob"), WrongUsage)
        self.registry.views = {"alice": view_of("alice", ALICE, Presence.OFFLINE)}
        self.failureResultOf(self.run_path("alice"), PeerOffline)
        self.assertEqual(self.stdout.getvalue(), "")
