"""Tests of calls, both ends together, behind NATs in memory."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import random
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram_core import Address
from p2pshare.core.reach.checks import CHECKS_MAX
from p2pshare.core.session_interface import Session, SessionUser
from p2pshare.errors import (
    P2pshareError,
    PeerUnreachable,
    RegistryChanged,
    RegistryUnreachable,
    SessionRefused,
    SignalNotAccepted,
)
from p2pshare.net.datagrams import welcome_port
from p2pshare.net.reach.interfaces import InterfaceAddress, NetworkState
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.peer.find.target import Target
from p2pshare.peer.reach import calling
from p2pshare.peer.reach.answering import Doors
from p2pshare.peer.reach.calling import PeerCaller
from p2pshare.peer.reach.calls import REFUSED_RETRY, RETRY, CallLimits, CallListener
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.peer.reach.signalling import OwnEnd
from p2pshare.peer.reach.vantage import Vantage, look_around
from p2pshare.peer.share.acceptor import SessionAcceptor
from p2pshare.peer.share.admission import NotAdmitted
from p2pshare.storage.settings import Via
from p2pshare.testing.nat import NatKind
from p2pshare.testing.sessions import RecordingUser
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.reach.candidates import Candidate, CandidateKind, Mapping
from p2pshare.wire.reach.connect_back import preamble_of
from p2pshare.wire.reach.signals import Signal, Step, seal, seal_of, unseal
from p2pshare.wire.session_messages import Refusal
from tests import examples
from tests.net.session_pairs import ALICE, BOB, EVE
from tests.peer.reach.nat_machines import (
    REGISTRY_IP,
    START,
    STUN_PORTS,
    URL,
    MemoryRegistry,
    NatNetwork,
)
from tests.wire.reach.strategies import signals

ALICE_ROUTER, ALICE_HOST = "198.51.100.1", "192.168.1.7"
BOB_ROUTER, BOB_HOST = "198.51.100.2", "192.168.2.9"
PORT = 50_000
DELAY = 0.02  # seconds from each machine to each other one, and to the registry
LIMITS = CallLimits()
DEADLINE = 1.5  # seconds until a session must be open, from the dial on


class CallsTestCase(SynchronousTestCase):
    """Bob calls alice, each from the home of a test."""

    def setUp(self) -> None:
        self.network = NatNetwork(DELAY)
        self.registry = MemoryRegistry(self.network, DELAY)
        self.patch(welcome_port, "listen_trains", self.network.listen_trains)
        self.patch(calling, "interfaces_for", lambda _: ("0.0.0.0",))
        self.users: list[RecordingUser] = []
        self.sessions: list[Session] = []
        self.verdict: str | NotAdmitted = "bob"
        self.admitted: list[PublicKey] = []
        self.cleanups: list[Any] = []

    async def admit(self, key: PublicKey, said: str = "", _purpose: object = None) -> str:
        self.admitted.append(key)
        if isinstance(self.verdict, NotAdmitted):
            raise self.verdict
        return self.verdict

    def serve(self, session: Session) -> SessionUser:
        self.sessions.append(session)
        return RecordingUser(session)

    def state_of(self, ip: str) -> NetworkState:
        network = ipaddress.IPv4Network(f"{ip}/24", strict=False)
        return NetworkState((InterfaceAddress(ip, network, "eth0"),), (ip,))

    def alice(self, kind: NatKind, *, private: bool = False, limits: CallLimits = LIMITS) -> Target:
        """Let alice listen for calls, and return what her record says."""
        machine: Any = self.network.home(kind, ALICE_ROUTER, ALICE_HOST)
        acceptor = self.acceptor = SessionAcceptor(machine, lambda: ALICE, self.admit, self.serve)
        datagrams = self.datagrams = DatagramSessions(machine, os.urandom, acceptor)
        datagrams.port.listen(PORT, "0.0.0.0")
        self.result(acceptor.listen(PORT, machine.ip))
        servers = [PeerAddress(REGISTRY_IP, port) for port in STUN_PORTS]
        seen: Vantage = self.result(
            look_around(
                machine,
                datagrams.port,
                PORT,
                servers,
                self.state_of(machine.ip),
                random.Random(3).randbytes,
            )
        )
        self.place = SimpleNamespace(
            candidates=seen.candidates,
            mapping=seen.mapping,
            networks=seen.networks,
            is_private=private,
        )
        rendezvous = self.heard = self.registry.end(machine, ALICE, "alice")
        self.listener = CallListener(
            machine,
            rendezvous,
            cast("Any", self.place),
            Doors(self.admit, acceptor.accept_stream, datagrams.port),
            limits=limits,
        )
        self.listener.start()
        self.network.run(lambda: self.listener.is_listening)
        self.addCleanup(self.listener.stop)
        told = () if private else seen.candidates
        return Target("alice", ALICE.public, told, seal_of(ALICE), seen.mapping, True)

    def bob(self, kind: NatKind, via: Via = Via.AUTO) -> Dialler:
        machine: Any = self.network.home(kind, BOB_ROUTER, BOB_HOST)
        carriers = self.carriers = Carriers(machine, via)
        self.rendezvous = self.registry.end(machine, BOB, "bob")
        caller = PeerCaller(
            machine, self.rendezvous, carriers, network=lambda: self.state_of(machine.ip)
        )
        return Dialler(machine, lambda: BOB, carriers, caller=lambda: caller)

    def result(self, running: Any, within: float = 60.0) -> Any:
        ended = running if isinstance(running, Deferred) else Deferred.fromCoroutine(running)
        self.network.run(lambda: ended.called, within)
        return self.successResultOf(ended)

    def failure(self, running: Any, kind: type[P2pshareError], within: float = 60.0) -> Any:
        ended = Deferred.fromCoroutine(running)
        self.network.run(lambda: ended.called, within)
        return self.failureResultOf(ended, kind).value

    def opened(self, dialler: Dialler, target: Target, within: float = DEADLINE) -> Session:
        """Open a session, and check that it works."""
        began = self.network.clock.seconds()
        session: Session = self.result(dialler.open(target, credit=1), within)
        self.took = self.network.clock.seconds() - began
        user = RecordingUser(session)
        session.begin(user)
        self.network.run(lambda: bool(self.sessions))
        self.assertEqual(self.sessions[-1].key, BOB.public)
        return session


class MatrixTests(CallsTestCase):
    """Which pairs of NATs connect, and how."""

    def path(self, bob: NatKind, alice: NatKind) -> str:
        target = self.alice(alice)
        session = self.opened(self.bob(bob), target)
        return session.path.carrier

    def test_cones(self) -> None:
        """Two homes with usual routers connect directly, over UDP."""
        for one, other in (
            (NatKind.PORT_RESTRICTED, NatKind.PORT_RESTRICTED),
            (NatKind.STOCK, NatKind.STOCK),
            (NatKind.STOCK, NatKind.PORT_RESTRICTED),
            (NatKind.PORT_RESTRICTED, NatKind.STOCK),
            (NatKind.FULL_CONE, NatKind.PORT_RESTRICTED),
        ):
            self.setUp()
            self.assertEqual(self.path(one, other), "udp", (one, other))

    def test_relay(self) -> None:
        """Where NATs leave no path, the relay is used."""
        for one, other in (
            (NatKind.SYMMETRIC, NatKind.SYMMETRIC),
            (NatKind.SYMMETRIC, NatKind.PORT_RESTRICTED),
            (NatKind.PORT_RESTRICTED, NatKind.SYMMETRIC),
            (NatKind.UDP_BLOCKED, NatKind.PORT_RESTRICTED),
            (NatKind.PORT_RESTRICTED, NatKind.UDP_BLOCKED),
        ):
            self.setUp()
            self.assertEqual(self.path(one, other), "relay", (one, other))

    def test_open_opener(self) -> None:
        """A peer behind any NAT is reached by an opener with a public address: it connects back, or is punched to."""
        for kind in (NatKind.SYMMETRIC, NatKind.UDP_BLOCKED, NatKind.PORT_RESTRICTED):
            self.setUp()
            self.assertIn(self.path(NatKind.OPEN, kind), ("tcp", "udp"), kind)

    def test_open_peer(self) -> None:
        """A peer with a public address is dialled, and not called."""
        self.assertEqual(self.path(NatKind.SYMMETRIC, NatKind.OPEN), "tcp")
        self.assertEqual(self.registry.sent, [])


class PathTests(CallsTestCase):
    """What a call does on the way."""

    def test_fast_enough(self) -> None:
        """A punched path and the relay are there within a second."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        session = self.opened(self.bob(NatKind.PORT_RESTRICTED), target)
        self.assertEqual(session.path.address.ip, ALICE_ROUTER)
        self.assertLess(self.took, 0.7)
        self.setUp()
        target = self.alice(NatKind.SYMMETRIC)
        self.opened(self.bob(NatKind.SYMMETRIC), target)
        self.assertLess(self.took, 1.0)

    def test_report(self) -> None:
        """The report of a dial has the attempts that the call has led to."""
        dialler, target = self.bob(NatKind.PORT_RESTRICTED), self.alice(NatKind.PORT_RESTRICTED)
        self.opened(dialler, target)
        used = [(each.carrier, each.address) for each in dialler.report if each.outcome == "used"]
        self.assertEqual(used, [("udp", f"{ALICE_ROUTER}:{PORT}")])

    def test_nothing_left(self) -> None:
        """Threat 54: an open session leaves no inbox of the call, no socket but its own, and no timer."""
        dialler, target = self.bob(NatKind.PORT_RESTRICTED), self.alice(NatKind.PORT_RESTRICTED)
        session = self.opened(dialler, target)
        self.network.wait(20.0)
        self.assertEqual(list(self.registry.inboxes), [("alice", "main")])
        self.assertEqual(self.listener.attempts, 0)
        ports = [number for ip, number in self.network.udp_ports if ip == BOB_HOST]
        self.assertEqual(len(ports), 2)  # that of the direct attempts, and that of the call
        session.close()
        self.network.wait(5.0)
        self.result(self.carriers.close())
        self.assertEqual([ip for ip, _ in self.network.udp_ports], [ALICE_HOST])

    def test_relay_first(self) -> None:
        """Threat 52: a user who wants the relay alone names no address, sends nothing, and is there quickly."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        self.network.datagrams.clear()
        session = self.opened(self.bob(NatKind.PORT_RESTRICTED, Via.RELAY), target)
        self.assertEqual(session.path.carrier, "relay")
        self.assertEqual(self.network.datagrams, [])
        self.assertLess(self.took, 0.4)

    def test_private_peer(self) -> None:
        """Threat 52: a private peer tells nobody its address, and sends nothing from it."""
        target = self.alice(NatKind.OPEN, private=True)
        self.network.datagrams.clear()
        session = self.opened(self.bob(NatKind.OPEN), target)
        self.assertEqual(session.path.carrier, "relay")
        self.assertEqual(
            {sender for _, sender, _ in self.network.datagrams}, {BOB_ROUTER, REGISTRY_IP}
        )
        self.assertEqual({to for to, _, _ in self.network.connections}, set())

    def test_no_relay(self) -> None:
        """Without a relay, the error says what was tried."""
        self.registry.has_relay = False
        target = self.alice(NatKind.SYMMETRIC)
        self.failure(self.bob(NatKind.SYMMETRIC).open(target, credit=1), PeerUnreachable)

    def test_answer_lost(self) -> None:
        """Threat 46: if the answer is lost, the relay connects the two nevertheless."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        self.registry.drops = lambda sender, to: sender == "alice"
        session = self.opened(self.bob(NatKind.PORT_RESTRICTED), target, within=3.0)
        self.assertEqual(session.path.carrier, "relay")

    def test_listens_again(self) -> None:
        """A peer whose stream of signals is away for a moment is called again."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        inbox = self.registry.inboxes.pop(("alice", "main"))
        self.network.clock.callLater(
            0.5, self.registry.inboxes.__setitem__, ("alice", "main"), inbox
        )
        self.opened(self.bob(NatKind.PORT_RESTRICTED), target, within=4.0)

    def test_call_lost(self) -> None:
        """A call that the registry sends into a dead connection is repeated, and so is the word about the relay."""
        target = self.alice(NatKind.SYMMETRIC)
        until = self.network.clock.seconds() + 2.0
        self.registry.drops = lambda _, to: to == "alice" and self.network.clock.seconds() < until
        session = self.opened(self.bob(NatKind.PORT_RESTRICTED), target, within=5.0)
        self.assertEqual(session.path.carrier, "relay")

    def test_long_away(self) -> None:
        """While direct attempts run, a peer that is back after some seconds is still called."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        inbox = self.registry.inboxes.pop(("alice", "main"))
        self.network.clock.callLater(
            5.0, self.registry.inboxes.__setitem__, ("alice", "main"), inbox
        )
        self.opened(self.bob(NatKind.PORT_RESTRICTED), target, within=9.0)

    def test_registry_starts_again(self) -> None:
        """A call during which the registry is started again goes on afterwards, also to the relay."""
        target = self.alice(NatKind.SYMMETRIC)
        dialler = self.bob(NatKind.SYMMETRIC)
        began = self.network.clock.seconds()
        away = self.registry.is_away = lambda: 0.3 <= self.network.clock.seconds() - began < 1.9
        self.registry.drops = lambda _sender, _to: away()
        sent = self.rendezvous.send

        async def lost(*signal: Any) -> None:
            """Lose the first call, and nothing else."""
            self.rendezvous.send = sent  # type: ignore[method-assign]

        self.rendezvous.send = lost  # type: ignore[method-assign, assignment]
        session = self.opened(dialler, target, within=6.0)
        self.assertEqual(session.path.carrier, "relay")
        self.assertGreater(self.took, 1.9)

    def test_clock_is_set(self) -> None:
        """A peer whose clock is set while it runs, as on a machine that starts without the time, is reached anyway."""
        target = self.alice(NatKind.SYMMETRIC)
        self.heard.ahead = 86_400
        self.opened(self.bob(NatKind.SYMMETRIC), target, within=4.0)
        self.heard.ahead = -86_400
        ignored = self.listener.ignored
        self.network.wait(10.0)
        for _ in range(5):
            self.registry.inboxes["alice", "main"](self.registry.sent[0][2])
        self.assertEqual(self.listener.ignored, ignored + 5)
        self.assertEqual(self.heard.times_asked, 1)

    def test_another_registry_for_a_while(self) -> None:
        """A peer whose registry was another one, as behind the portal of a hotel, takes calls again afterwards."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        changed = RegistryChanged(registry=URL, known="a", now="b")
        self.heard.errors += [RegistryUnreachable(registry=URL, reason="no"), changed, changed]
        self.listener.start()
        self.network.wait(RETRY + 1.0)
        self.assertFalse(self.listener.is_listening)
        self.listener.nudge()
        self.network.wait(REFUSED_RETRY - 1.0)
        self.assertFalse(self.listener.is_listening)
        self.network.wait(2.0)
        self.assertTrue(self.listener.is_listening)
        self.opened(self.bob(NatKind.PORT_RESTRICTED), target)

    def test_refused(self) -> None:
        """A caller who is not admitted hears why, and learns no address."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        self.verdict = NotAdmitted(Refusal.STRANGER)
        self.failure(self.bob(NatKind.PORT_RESTRICTED).open(target, credit=1), SessionRefused)
        self.assertEqual(self.admitted, [BOB.public])

    def test_fresh_port(self) -> None:
        """Without a relay, checks that fail are repeated once, from a fresh port."""
        self.registry.has_relay = False
        target = self.alice(NatKind.PORT_RESTRICTED)
        ports: dict[int, None] = {}

        def loses(source: Address, to: Address) -> bool:
            if source[0] == BOB_HOST and to[0] == REGISTRY_IP:  # that of a call, which asks STUN
                ports[source[1]] = None
            return to[0] == ALICE_ROUTER and source[1] == next(iter(ports), 0)

        self.network.loses = loses
        session = self.opened(self.bob(NatKind.PORT_RESTRICTED), target, within=15.0)
        self.assertEqual((session.path.carrier, len(ports)), ("udp", 2))

    def test_not_accepted(self) -> None:
        """A caller whom the registry does not pass on hears that, and not only that nobody has answered."""
        target = self.alice(NatKind.STOCK)
        self.registry.accepted["alice", "main"] = ("carol",)
        gone = Candidate(CandidateKind.HOST, PeerAddress(BOB_ROUTER, 9))  # nobody is there
        opening = self.bob(NatKind.OPEN, Via.TCP).open(
            replace(target, candidates=(gone,)), credit=1
        )
        self.failure(opening, SignalNotAccepted)


class HostileCase(CallsTestCase):
    """Bob sends what he wants."""

    def call(self, **changes: Any) -> Signal:
        """Return a call of bob's."""
        own: OwnEnd = self.result(self.rendezvous.own())
        fields = {
            "attempt": own.draw(),
            "step": Step.CALL,
            "name": "bob",
            "key": BOB.public,
            "to": ALICE.public,
            "aud": own.aud,
            "iat": own.now(),
            "inbox": own.draw(),
            "seal": seal_of(BOB),
            "candidates": (),
            "mapping": Mapping.UNKNOWN,
            "secret": "",
            "room": "",
            "back": (),
            "why": "",
        }
        return Signal(**cast("Any", {**fields, **changes}))

    def deliver(self, signal: Signal, key: Any = BOB) -> None:
        """Let a signal arrive at alice's; its sender listens for the answer."""
        self.registry.inboxes[signal.name, signal.inbox] = lambda _: None
        own: OwnEnd = self.result(self.rendezvous.own())
        sealed = seal(signal.sign(key), seal_of(ALICE), ALICE.public, own.aud)
        self.registry.inboxes["alice", "main"](sealed)

    def listen(self, **options: Any) -> None:
        self.alice(NatKind.OPEN, **options)
        self.bob(NatKind.OPEN)
        self.network.datagrams.clear()
        self.network.connections.clear()


class HostileTests(HostileCase):
    """Callers and peers that lie, flood or fall silent."""

    def test_addresses(self) -> None:
        """Threat 13: a call makes nobody check or connect to an address that no record may have."""
        self.listen()
        secret = self.result(self.rendezvous.own()).draw(32)
        hostile = ["127.0.0.1:6379", "169.254.169.254:80", "0.0.0.0:80", "224.0.0.1:53"]
        addresses = [PeerAddress(*_split(each)) for each in hostile]
        candidates = tuple(Candidate(CandidateKind.HOST, each) for each in addresses)
        for legal in ((addresses[:1], candidates[:1]), (addresses, candidates)):
            with contextlib.suppress(Exception):  # the wire rejects most of them
                back, named = legal
                self.deliver(self.call(back=tuple(back), candidates=named, secret=secret))
        self.network.wait(20.0)
        self.assertEqual(self.network.datagrams, [])
        self.assertEqual(self.network.connections, [])

    def test_victim(self) -> None:
        """Threat 13: what a call can send to a victim is bounded, in datagrams and in connections."""
        self.listen()
        victim, secret = "203.0.113.77", self.result(self.rendezvous.own()).draw(32)
        candidates = tuple(
            Candidate(CandidateKind.HOST, PeerAddress(victim, 50_000 + n)) for n in range(8)
        )
        back = tuple(PeerAddress(victim, port) for port in (22, 443, 50_000, 50_001))
        self.deliver(self.call(back=back, candidates=candidates, secret=secret))
        self.network.wait(20.0)
        self.assertEqual({port for _, _, port in self.network.connections}, {50_000, 50_001})
        to_victim = [data for data, _, to in self.network.datagrams if to[0] == victim]
        self.assertLessEqual(len(to_victim), 8 * (CHECKS_MAX + 3))
        self.assertLess(max(map(len, to_victim)), 150)
        self.assertEqual(self.listener.attempts, 0)

    def test_flood(self) -> None:
        """Threat 47: calls at once are bounded per key and in total, and so are signals that are opened."""
        self.listen(limits=CallLimits(total=5, per_key=3, signals_per_s=10.0, burst=20))
        for _ in range(10):
            self.deliver(self.call())
        self.assertEqual(self.listener.attempts, 3)
        for number in range(30):
            key = SigningKey(bytes([number]) * 32)
            self.deliver(self.call(key=key.public), key)
        self.assertEqual(self.listener.attempts, 5)
        self.assertEqual(self.listener.ignored, 7 + 8 + 20)
        self.network.wait(20.0)
        self.assertEqual(self.listener.attempts, 0)

    def test_many_commands(self) -> None:
        """A user who is served runs into no bound; one that is too many is told to come again."""
        self.listen(limits=CallLimits(per_key=2))
        for _ in range(5):
            self.deliver(self.call())
            self.listener.session_opened(BOB.public)
        self.assertEqual(self.listener.attempts, 2)
        self.registry.sent.clear()
        for _ in range(3):
            self.deliver(self.call())
        self.assertEqual(self.refusals(), ["busy"])
        self.assertEqual(self.listener.attempts, 2)

    def test_another_way(self) -> None:
        """A session that has come in another way does not end the attempt of another command."""
        self.listen()
        room = self.result(self.rendezvous.own()).draw()
        call = self.call(room=room, back=(PeerAddress(BOB_ROUTER, 9),))
        self.deliver(call)
        self.listener.session_opened(BOB.public)
        self.deliver(replace(call, step=Step.RELAY))
        self.network.wait(1.0)
        self.assertEqual(self.registry.joined, [(room, "alice")])

    def test_refusals_are_bounded(self) -> None:
        """Threat 47: strangers do not use up what the peer may send: few of them are told that they are refused."""
        self.verdict = NotAdmitted(Refusal.STRANGER)
        self.listen(limits=CallLimits(refusals_per_s=1.0, refusals_burst=3))
        for _ in range(10):
            self.deliver(self.call())
        self.assertEqual(self.refusals(), ["stranger"] * 3)
        self.network.wait(2.0)
        self.deliver(self.call())
        self.assertEqual(self.refusals(), ["stranger"] * 4)

    def refusals(self) -> list[str]:
        """Return why bob was refused."""
        self.network.wait(0.1)
        own: OwnEnd = self.result(self.rendezvous.own())
        sent = [unseal(sealed, BOB, own.aud) for _, to, sealed in self.registry.sent if to == "bob"]
        return [each.why for each in sent if each.step is Step.REFUSED]

    def test_replay(self) -> None:
        """Threat 47: a call is answered once, and not at all if it is old, damaged or for others."""
        self.listen(limits=CallLimits(remembered=3))
        call = self.call()
        for _ in range(5):
            self.deliver(call)
        self.assertEqual(self.listener.ignored, 4)
        self.deliver(self.call(iat=START - 10_000))
        self.deliver(self.call(key=ALICE.public))
        self.deliver(self.call(aud=BOB.public))
        self.registry.inboxes["alice", "main"](b"nonsense")
        self.assertEqual(self.listener.ignored, 8)
        for _ in range(9):
            self.deliver(self.call())
        self.assertEqual(len(self.listener._seen), 3)
        self.network.wait(20.0)
        self.assertEqual(self.registry.sent and self.registry.sent[0][1], "bob")

    def test_steps_of_others(self) -> None:
        """Threat 47: nobody but the caller moves an attempt on, and only into its own room."""
        self.listen()
        room = self.result(self.rendezvous.own()).draw()
        call = self.call(room=room, back=(PeerAddress(BOB_ROUTER, 9),))
        self.deliver(call)
        eve = replace(call, step=Step.RELAY, key=EVE.public, name="eve")
        self.deliver(eve, EVE)
        self.deliver(replace(call, step=Step.RELAY, room=f"{room}x"))
        self.deliver(self.call(step=Step.RELAY, room=room))
        self.network.wait(1.0)
        self.assertEqual(self.registry.joined, [])
        self.deliver(replace(call, step=Step.RELAY))
        self.network.wait(1.0)
        self.assertEqual(self.registry.joined, [(room, "alice")])

    def test_other_name(self) -> None:
        """Threat 16: a caller is known by its key, not by the name that it says."""
        self.listen()
        self.deliver(self.call(name="carol", back=(PeerAddress(BOB_ROUTER, 5000),)))
        self.network.wait(5.0)
        self.assertEqual(self.network.connections, [])

    def test_lying_peer(self) -> None:
        """Threat 13: an answer makes the opener check no address that may not be connected to, and of others a few."""
        self.alice(NatKind.PORT_RESTRICTED)
        target = Target("alice", ALICE.public, (), seal_of(ALICE), Mapping.INDEPENDENT, True)
        victim = PeerAddress("203.0.113.77", 80)
        self.place.candidates = (
            Candidate(CandidateKind.HOST, PeerAddress("127.0.0.1", 6379)),
            Candidate(CandidateKind.MAPPED, victim),
        )
        self.network.datagrams.clear()
        self.opened(self.bob(NatKind.PORT_RESTRICTED), target, within=3.0)
        self.network.wait(10.0)
        targets = {to[0] for _, sender, to in self.network.datagrams if sender == BOB_HOST}
        self.assertLessEqual(targets, {REGISTRY_IP, victim.ip, ALICE_ROUTER})
        sent = [to for _, sender, to in self.network.datagrams if to[0] == victim.ip]
        self.assertLessEqual(len(sent), CHECKS_MAX + 3)

    def test_silent_peer(self) -> None:
        """Threat 54: a peer that takes calls and never answers costs some seconds, and leaves nothing behind."""
        self.registry.has_relay = False
        target = self.alice(NatKind.PORT_RESTRICTED)
        self.registry.drops = lambda sender, to: sender == "alice"
        began = self.network.clock.seconds()
        self.failure(self.bob(NatKind.UDP_BLOCKED).open(target, credit=1), PeerUnreachable)
        self.assertLess(self.network.clock.seconds() - began, 40.0)
        self.assertEqual(list(self.registry.inboxes), [("alice", "main")])

    def test_many_connections_back(self) -> None:
        """Threat 54: a peer that connects back many times has as many attempts as it was told addresses."""
        self.alice(NatKind.UDP_BLOCKED)
        self.listener.stop()
        calls: list[bytes] = []
        self.registry.inboxes["alice", "main"] = calls.append
        target = Target("alice", ALICE.public, (), seal_of(ALICE), Mapping.BLOCKED, True)
        dialler = self.bob(NatKind.OPEN)
        opening = Deferred.fromCoroutine(dialler.open(target, credit=1))
        self.network.run(lambda: bool(calls))
        own: OwnEnd = self.result(self.heard.own())
        call = unseal(calls[0], ALICE, own.aud)
        answer = replace(call, step=Step.ANSWER, name="alice", key=ALICE.public, to=BOB.public)
        sealed = seal(answer.sign(ALICE), seal_of(BOB), BOB.public, own.aud)
        self.registry.inboxes["bob", call.inbox](sealed)
        stranger: Any = self.network.machine("203.0.113.99")
        for _ in range(20):
            says = ClientFactory.forProtocol(partial(Says, preamble_of(call.attempt)))
            stranger.connectTCP(BOB_ROUTER, call.back[0].port, says)
        self.network.wait(0.5)
        tried = [each.carrier for each in dialler.report]
        self.assertEqual(tried.count("back"), len(call.back))
        opening.addErrback(lambda _: None).cancel()

    def test_early_refusal(self) -> None:
        """A refusal that comes before the call is known to be passed on is no defect if the user gives up then."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        self.verdict = NotAdmitted(Refusal.STRANGER)
        dialler = self.bob(NatKind.PORT_RESTRICTED)
        send = self.rendezvous.send

        async def slow(*signal: Any) -> None:
            await send(*signal)
            await Deferred()

        self.rendezvous.send = slow  # type: ignore[method-assign, assignment]
        opening = Deferred.fromCoroutine(dialler.open(target, credit=1))
        self.network.wait(0.5)
        opening.addErrback(lambda _: None).cancel()
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_slow_names(self) -> None:
        """A call does not wait for long for the names of STUN servers."""
        target = self.alice(NatKind.PORT_RESTRICTED)
        dialler = self.bob(NatKind.PORT_RESTRICTED)

        async def never() -> Any:
            await Deferred()

        self.rendezvous.stun_servers = never  # type: ignore[method-assign]
        self.opened(dialler, target, within=4.0)

    def test_back_fails(self) -> None:
        """A connection back that breaks at once does not end the attempt over the relay, however slow that is."""
        accept = SessionAcceptor.accept_stream

        def accept_relayed(acceptor: SessionAcceptor, host: str) -> Any:
            return accept(acceptor, host) if host == URL else None

        self.patch(SessionAcceptor, "accept_stream", accept_relayed)
        self.alice(NatKind.UDP_BLOCKED)
        target = Target("alice", ALICE.public, (), seal_of(ALICE), Mapping.BLOCKED, True)
        dialler = self.bob(NatKind.OPEN)
        join = self.rendezvous.join

        async def slow(*args: Any) -> None:
            await deferLater(cast("Any", self.network.clock), 2.0)
            await join(*args)

        self.rendezvous.join = slow  # type: ignore[method-assign, assignment]
        session = self.opened(dialler, target, within=5.0)
        self.assertEqual(session.path.carrier, "relay")
        self.assertIn("back", [each.carrier for each in dialler.report])

    def test_strangers_connect(self) -> None:
        """Threat 54: strangers that find the port for connections back get no further, and do not keep the peer out."""
        self.alice(NatKind.UDP_BLOCKED)
        target = Target("alice", ALICE.public, (), seal_of(ALICE), Mapping.BLOCKED, True)
        dialler = self.bob(NatKind.OPEN)
        opening = Deferred.fromCoroutine(dialler.open(target, credit=1))
        self.network.run(lambda: any(ip == BOB_ROUTER for ip, _ in self.network.ports))
        (port,) = [port for ip, port in self.network.ports if ip == BOB_ROUTER]
        stranger: Any = self.network.machine("203.0.113.99")
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"p2pshare-back/1 " + b"x" * 22 + b"\n", b""):
            stranger.connectTCP(
                BOB_ROUTER, port, ClientFactory.forProtocol(partial(Says, greeting))
            )
        session = self.result(opening)
        self.assertEqual((session.path.carrier, session.path.address.ip), ("tcp", ALICE_HOST))


class AnySignalsTests(HostileCase):
    """Whatever the other end says."""

    def setUp(self) -> None:
        super().setUp()
        self.alice(NatKind.OPEN)
        self.dialler = self.bob(NatKind.PORT_RESTRICTED)

    @settings(max_examples=examples(40), phases=[Phase.generate])
    @given(st.data())
    def test_any_signals(self, data: st.DataObject) -> None:
        """Threats 13 and 54: any signals of a caller end with nothing left, no defect, and bounded traffic."""
        self.network.clock.rightNow += 1000.0  # earlier examples are over
        own: OwnEnd = self.result(self.rendezvous.own())
        told = data.draw(st.lists(signals(BOB, ALICE.public, own.aud), max_size=5))
        attempt = own.draw()
        self.network.datagrams.clear()
        for number, each in enumerate(told):
            step = Step.CALL if not number else each.step
            self.deliver(replace(each, attempt=attempt, step=step, iat=own.now(), name="bob"))
        self.network.wait(30.0)
        self.assertEqual(self.listener.attempts, 0)
        self.assertLessEqual(len(self.network.datagrams), 10 * (CHECKS_MAX + 3))
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(max_examples=examples(40), phases=[Phase.generate])
    @given(st.data())
    def test_any_answers(self, data: st.DataObject) -> None:
        """Threats 13 and 54: any answers of a peer end the call in time, with nothing left and no defect."""
        self.registry.has_relay = data.draw(st.booleans())
        target = Target("alice", ALICE.public, (), seal_of(ALICE), Mapping.UNKNOWN, True)
        self.listener.stop()
        own: OwnEnd = self.result(
            self.registry.end(cast("Any", self.network.machine(ALICE_ROUTER)), ALICE, "alice").own()
        )
        told = data.draw(st.lists(signals(ALICE, BOB.public, own.aud), max_size=5))
        calls: list[bytes] = []
        self.registry.inboxes["alice", "main"] = calls.append
        opening = Deferred.fromCoroutine(self.dialler.open(target, credit=1))
        self.network.run(lambda: bool(calls))
        call = unseal(calls[0], ALICE, own.aud)
        for each in told:
            answer = replace(each, attempt=call.attempt, iat=own.now())
            sealed = seal(answer.sign(ALICE), seal_of(BOB), BOB.public, own.aud)
            inbox = self.registry.inboxes.get(("bob", call.inbox))  # gone after a refusal
            if inbox is not None:
                inbox(sealed)
        self.network.run(lambda: opening.called, 60.0)
        self.assertIsInstance(self.failureResultOf(opening).value, P2pshareError)
        self.assertEqual(list(self.registry.inboxes), [("alice", "main")])
        self.assertEqual(self.flushLoggedErrors(), [])


class Says(Protocol):
    """Says something, and waits."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.greeting)


def _split(text: str) -> tuple[str, int]:
    ip, _, port = text.rpartition(":")
    return ip, int(port)
