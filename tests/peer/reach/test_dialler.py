"""Tests of `p2pshare.peer.reach.dialler`, in virtual time."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.reach.dial_plan import ATTEMPTS_MAX, STAGGER
from p2pshare.core.session import GREETING
from p2pshare.core.session_interface import Session
from p2pshare.errors import OtherKeyThere, P2pshareError, PeerNotReachable, PeerUnreachable
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.dialling import SessionDial
from p2pshare.peer.find.target import Target, given
from p2pshare.peer.reach.dialler import ANSWERED_DELAY, CALL_DELAY, REMEMBERED_TIMEOUT, Dialler
from p2pshare.peer.share.acceptor import SessionAcceptor
from p2pshare.storage.settings import Via
from p2pshare.testing.sessions import RecordingUser
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from tests.net.session_pairs import ALICE, BOB, EVE
from tests.peer.delayed_network import DelayedNetwork

HERE, FAR = "192.0.2.9", "198.51.100.7"
PLACE = PeerAddress(FAR, 50_000)
ROUND_TRIP = 0.03125  # seconds, exact in binary


class FakeCaller:
    """Records calls, which end with `error`."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, bool]] = []
        self.error: P2pshareError | None = None
        self.is_cancelled = False
        self.clock: Any = None

    async def call(self, dial: SessionDial, target: Target, *, may_relay: bool) -> Session:
        self.calls.append((self.clock.seconds(), may_relay))
        if self.error is not None:
            raise self.error
        try:
            return await Deferred()
        finally:
            self.is_cancelled = True


class DiallerTests(SynchronousTestCase):
    """Bob dials alice."""

    def setUp(self) -> None:
        self.network = DelayedNetwork(ROUND_TRIP / 2)
        self.caller = FakeCaller()
        self.caller.clock = self.network.clock

    def listen(self, ip: str, port: int, key: Any = ALICE) -> None:
        async def admit(key: PublicKey, said: str, _purpose: object = None) -> str:
            return "bob"

        acceptor = SessionAcceptor(
            cast("Any", self.network.machine(ip)), lambda: key, admit, RecordingUser
        )
        self.successResultOf(Deferred.fromCoroutine(acceptor.listen(port, ip)))

    def dialler(self, via: Via = Via.TCP) -> Dialler:
        machine: Any = self.network.machine(HERE)
        return Dialler(machine, lambda: BOB, Carriers(machine, via), caller=lambda: self.caller)

    def dial(
        self, dialler: Dialler, *addresses: PeerAddress, within: float = 5.0, **options: Any
    ) -> Deferred[Session]:
        target = Target("alice", ALICE.public, given(addresses), **options)
        opening = Deferred.fromCoroutine(dialler.open(target, credit=1))
        self.network.run(lambda: opening.called, within)
        return opening

    def test_first_welcome(self) -> None:
        """Several addresses are tried side by side; the first welcome is used, and the peer is not called."""
        self.listen(FAR, 50_000)
        dialler = self.dialler()
        other = PeerAddress("203.0.113.5", 50_000)  # nobody is there
        session = self.successResultOf(self.dial(dialler, other, PLACE, takes_calls=True))
        self.assertEqual(session.path.address, PLACE)
        self.assertEqual([each.outcome for each in dialler.report], ["no answer", "used"])
        self.assertEqual(dialler.report[1].began_s, ROUND_TRIP)  # as soon as the first had failed
        self.assertEqual(dialler.report[1].answered_ms, 2000 * ROUND_TRIP)
        self.assertEqual(self.caller.calls, [])

    def test_impostor(self) -> None:
        """Threat 15: another key at the first address is passed over, and told nothing."""
        self.listen(FAR, 50_000, EVE)
        self.listen("203.0.113.5", 50_000)
        dialler = self.dialler()
        session = self.successResultOf(
            self.dial(dialler, PLACE, PeerAddress("203.0.113.5", 50_000))
        )
        self.assertEqual(session.path.address.ip, "203.0.113.5")
        alone = self.dial(dialler, PLACE)
        self.failureResultOf(alone, OtherKeyThere)

    def test_remembered(self) -> None:
        """Addresses at which the peer was once are given up soon: the registry is asked again after that."""
        silent: Any = self.network.machine(FAR)
        silent.listenTCP(50_000, ServerFactory.forProtocol(Protocol))
        for is_remembered, expected in ((False, GREETING), (True, REMEMBERED_TIMEOUT)):
            began = self.network.clock.seconds()
            opening = self.dial(self.dialler(), PLACE, within=60.0, is_remembered=is_remembered)
            self.failureResultOf(opening, P2pshareError)
            self.assertAlmostEqual(self.network.clock.seconds() - began, expected, delta=0.5)

    def test_called(self) -> None:
        """A peer that does not answer directly is called after a moment, and then the call decides."""
        silent = PeerAddress("203.0.113.5", 1)
        self.network.set_delay(HERE, silent.ip, 100.0)
        dialler = self.dialler()
        self.caller.error = PeerUnreachable(name="alice", address="the relay")
        self.failureResultOf(
            self.dial(dialler, silent, takes_calls=True, within=300.0), PeerUnreachable
        )
        self.assertEqual(self.caller.calls, [(CALL_DELAY, False)])

    def test_called_at_once(self) -> None:
        """A peer without addresses is called at once, and so is one whose addresses have all failed."""
        self.caller.error = PeerUnreachable(name="alice", address="the relay")
        self.failureResultOf(self.dial(self.dialler(), takes_calls=True), PeerUnreachable)
        self.failureResultOf(self.dial(self.dialler(), PLACE, takes_calls=True), PeerUnreachable)
        self.assertEqual([at for at, _ in self.caller.calls], [0.0, ROUND_TRIP])

    def test_far_away(self) -> None:
        """A peer that answers from far away is not called while its handshake is under way."""
        self.network.set_delay(HERE, FAR, 0.0625)
        self.listen(FAR, 50_000)
        self.successResultOf(self.dial(self.dialler(), PLACE, takes_calls=True))
        self.assertGreater(self.network.clock.seconds(), CALL_DELAY)
        self.assertEqual(self.caller.calls, [])

    def test_silent_server(self) -> None:
        """A server that accepts connections and says nothing delays the call by less than a second."""
        silent: Any = self.network.machine(FAR)
        silent.listenTCP(50_000, ServerFactory.forProtocol(Protocol))
        opening = Deferred.fromCoroutine(
            self.dialler().open(
                Target("alice", ALICE.public, given([PLACE]), "", takes_calls=True), credit=1
            )
        )
        self.network.run(lambda: bool(self.caller.calls))
        self.assertEqual(self.caller.calls[0][0], CALL_DELAY + ANSWERED_DELAY)
        opening.addErrback(lambda _: None)
        opening.cancel()

    def test_call_ends(self) -> None:
        """A call ends when a direct attempt succeeds after all."""
        self.network.set_delay(HERE, FAR, 0.25)
        self.listen(FAR, 50_000)
        self.successResultOf(self.dial(self.dialler(), PLACE, takes_calls=True))
        self.assertEqual(len(self.caller.calls), 1)
        self.assertTrue(self.caller.is_cancelled)

    def test_relay_only(self) -> None:
        """With `--via relay` nobody is connected to: the call has to lead to the relay."""
        self.caller.error = PeerUnreachable(name="alice", address="the relay")
        self.failureResultOf(
            self.dial(self.dialler(Via.RELAY), PLACE, takes_calls=True), PeerUnreachable
        )
        self.assertEqual(self.caller.calls, [(0.0, True)])
        self.assertEqual(self.network.connections, [])
        self.failureResultOf(self.dial(self.dialler(Via.RELAY), PLACE), PeerNotReachable)

    def test_bound(self) -> None:
        """Threat 13: a record makes an opener connect to a few addresses only, one after another."""
        many = [PeerAddress(f"203.0.113.{number}", 1) for number in range(1, 40)]
        for each in many:
            self.network.set_delay(HERE, each.ip, 100.0)
        target = Target.at("alice", ALICE.public, *many)
        opening = Deferred.fromCoroutine(self.dialler().open(target, credit=1))
        self.network.wait(STAGGER / 2)
        self.assertEqual(len(self.network.connections), 1)
        self.network.wait(60.0)
        self.assertEqual(len(self.network.connections), ATTEMPTS_MAX)
        opening.addErrback(lambda _: None)
        opening.cancel()
