"""Tests of `p2pshare.ui.verbs.whoami`."""

from __future__ import annotations

import io
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    AlreadyRunning,
    ClockWrong,
    NameTaken,
    NotFound,
    P2pshareError,
    Refused,
    RegistryUnavailable,
    RegistryUnreachable,
    WrongUsage,
)
from p2pshare.peer.ownership import Owner
from p2pshare.peer.registration import LOCAL_ONLY
from p2pshare.storage.identity.data_folder import DataFolder
from p2pshare.storage.identity.identity import Identity
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import whoami as owning
from p2pshare.wire.addresses import LAN
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.registry_answers import Presence
from tests.ui.registries import URL, MemoryInvocation, MemoryRegistry, view_of
from tests.ui.screens import real_terminal

OTHER = SigningKey(bytes(32)).public


class RunningPeer:
    """A running peer at the other end of the control socket."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_closed = False
        self.error: P2pshareError | None = None
        self.told: dict[str, Any] = {"name": "bob", "pid": 4711, "address": "192.0.2.2:50000"}

    async def ask(self, do: str) -> dict[str, Any]:
        self.asked.append(do)
        if self.error is not None:
            raise self.error
        return self.told

    def close(self) -> None:
        self.is_closed = True


class OwningTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout = io.StringIO()
        self.registry = MemoryRegistry()
        self.peer: RunningPeer | None = None
        self.begin(Terminal.detect(self.stdout, {}), json=True)
        self.data = self.fake.cwd / "data"

        async def running_peer(reactor: object, folder: Path) -> RunningPeer | None:
            self.assertEqual(folder, self.data)
            return self.peer

        self.patch(owning, "running_peer", running_peer)

    def begin(self, terminal: Terminal, *, json: bool) -> None:
        output = Output(terminal, terminal, json=json)
        self.fake = MemoryInvocation(self.registry, output, Path(self.mktemp()).absolute())
        self.invocation = cast(Invocation, self.fake)

    def make_key(self) -> PublicKey:
        with closing(DataFolder.open(self.data, "bob")) as data:
            return Identity.open(data, URL, "bob").key.public

    def event(self) -> dict[str, Any]:
        """Return the last event."""
        event: dict[str, Any] = json.loads(self.stdout.getvalue().splitlines()[-1])
        return event


class WhoamiTests(OwningTestCase):
    def state(self) -> str:
        done = Deferred.fromCoroutine(owning.whoami(self.invocation))
        self.assertEqual(self.successResultOf(done), 0)
        return str(self.event()["state"])

    def test_states(self) -> None:
        """Every answer of the registry, or none, is a state and not an error."""
        self.assertEqual(self.state(), "unclaimed")
        self.assertIsNone(self.event()["key"])
        self.registry.views = {"bob": view_of("bob", OTHER)}
        self.assertEqual(self.state(), "taken")
        key = self.make_key()
        self.assertEqual(self.state(), "taken")
        for presence in (Presence.ONLINE, Presence.OFFLINE):
            self.registry.views = {"bob": view_of("bob", key, presence)}
            self.assertEqual(self.state(), presence.value)
        self.assertEqual(self.event()["key"], str(key))
        self.registry.views = {"bob": view_of("bob", None)}
        self.assertEqual(self.state(), "classic")
        for error in (
            RegistryUnreachable(registry=URL, reason="nothing listens there"),
            RegistryUnavailable(registry=URL, status=503),
        ):
            self.registry.error = lambda _, error=error: error
            self.assertEqual(self.state(), "unknown")
        self.registry.error = lambda _: ClockWrong(registry=URL, time=7, difference="2 days behind")
        self.assertEqual(self.state(), "clock_wrong")
        self.registry.infos = None
        self.assertEqual(self.state(), "unowned")

    def test_without_registry(self) -> None:
        """Without a registry only the own peer tells whether others see the user."""
        self.fake.settings = replace(self.fake.settings, registry=LAN)
        self.registry.error = lambda what: self.fail(f"asked: {what}")
        self.assertEqual(self.state(), "offline")
        self.peer = RunningPeer()
        self.peer.told["registered"] = True
        self.assertEqual(self.state(), "online")

    def test_registry_hangs(self) -> None:
        """The data folder is shown before the registry is asked, and the wait for the registry is short."""
        self.begin(Terminal.detect(self.stdout, {}), json=False)
        self.data = self.fake.cwd / "data"
        self.patch(self.registry, "info", Deferred)
        done = Deferred.fromCoroutine(owning.whoami(self.invocation))
        self.assertNoResult(done)
        self.assertIn("peer      is not running", self.stdout.getvalue())
        self.assertNotIn("state", self.stdout.getvalue())
        self.fake.reactor.advance(owning.STATE_TIMEOUT)
        self.assertEqual(self.successResultOf(done), 0)
        self.assertIn(
            "state     unknown: the registry does not answer (no answer within 2 s)\n",
            self.stdout.getvalue(),
        )

    def test_running(self) -> None:
        """A running peer is asked, and the connection is closed."""
        self.assertFalse(self.state() and self.event()["running"])
        self.peer = RunningPeer()
        self.state()
        event = self.event()
        self.assertEqual(
            (event["running"], event["pid"], event["address"]), (True, 4711, "192.0.2.2:50000")
        )
        self.assertEqual((event["loopback"], event["elsewhere"]), (False, None))
        self.assertEqual((self.peer.asked, self.peer.is_closed), (["status"], True))
        self.peer.told = {"pid": 4711, "address": "127.0.0.1:50000", "loopback": True}
        self.state()
        self.assertIs(self.event()["loopback"], True)

    def test_private(self) -> None:
        """The address of a private peer is not shown as one at which others reach it."""
        self.begin(Terminal.detect(self.stdout, {}), json=False)
        self.data = self.fake.cwd / "data"
        self.peer = RunningPeer()
        self.peer.told = {"pid": 4711, "address": "192.0.2.2:50000", "private": True}
        done = Deferred.fromCoroutine(owning.whoami(self.invocation))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertIn("publishes no address", self.stdout.getvalue())
        self.assertNotIn("192.0.2.2", self.stdout.getvalue())

    def test_not_registered_yet(self) -> None:
        """A peer that waits for its registry is shown as running, with the problem."""
        self.begin(Terminal.detect(self.stdout, {}), json=False)
        self.data = self.fake.cwd / "data"
        self.peer = RunningPeer()
        self.peer.told = {"pid": 4711, "address": None, "trouble": "The registry is away."}
        done = Deferred.fromCoroutine(owning.whoami(self.invocation))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(
            self.stdout.getvalue().splitlines()[-3:],
            [
                "peer      runs as process 4711, but is not registered yet",
                "state     not claimed yet: your peer is running and tries to",
                "problem   The registry is away.",
            ],
        )

    def test_nobody(self) -> None:
        """The verb needs a name."""
        self.fake.settings = Settings(registry=URL)
        done = Deferred.fromCoroutine(owning.whoami(self.invocation))
        self.assertIn("--name", str(self.failureResultOf(done, WrongUsage).value))

    def test_online(self) -> None:
        """A killed peer is listed a little longer; a peer at a loopback address is for this machine only."""
        local = RunningPeer()
        local.told = {"pid": 4711, "address": "127.0.0.1:50000", "loopback": True}
        displaced = RunningPeer()
        use = {"address": "10.0.0.7:1", "noticed": 1_800_000_000, "waits": True}
        displaced.told = {"pid": 4711, "address": None, "elsewhere": use}
        for peer, sentence in (
            (local, f"state     online: others see you. {LOCAL_ONLY}"),
            (
                None,
                "state     listed as online for up to 90 s more, but no peer of yours runs here",
            ),
            (RunningPeer(), "state     online: others see you and can reach your peer"),
            (
                displaced,
                "state     online: others see you, but reach another peer with a copy of your key",
            ),
        ):
            self.stdout, self.peer = io.StringIO(), peer
            self.begin(Terminal.detect(self.stdout, {}), json=False)
            self.data = self.fake.cwd / "data"
            self.registry.views = {"bob": view_of("bob", self.make_key(), Presence.ONLINE)}
            done = Deferred.fromCoroutine(owning.whoami(self.invocation))
            self.assertEqual(self.successResultOf(done), 0)
            self.assertEqual(self.stdout.getvalue().splitlines()[5], sentence)
        *_, runs, _, warning = self.stdout.getvalue().splitlines()
        self.assertEqual(runs, "peer      runs as process 4711, but is not registered")
        self.assertIn(
            "warning   Another peer has claimed this name with a copy of your key", warning
        )

    def test_narrow(self) -> None:
        """On a narrow terminal the groups of the key are wrapped as a whole."""
        with real_terminal(40) as real:
            self.begin(Terminal.detect(real.stream, {}), json=False)
            self.data = self.fake.cwd / "data"
            key = self.make_key()
            done = Deferred.fromCoroutine(owning.whoami(self.invocation))
            self.assertEqual(self.successResultOf(done), 0)
            shown = real.show()
        self.assertEqual(
            shown[1:4],
            [
                f"key       {key.grouped[:29]}",
                f"          {key.grouped[30:59]}",
                f"          {key.grouped[60:]}",
            ],
        )


class ActTests(OwningTestCase):
    def run_verb(self, verb: Any) -> Deferred[int]:
        return Deferred.fromCoroutine(verb(self.invocation))

    def test_through_peer(self) -> None:
        """The running peer does the work."""
        self.peer = RunningPeer()
        self.make_key()
        for verb, do in ((owning.release, "release"), (owning.rotate, "rotate")):
            self.assertEqual(self.successResultOf(self.run_verb(verb)), 0)
            self.assertEqual(self.peer.asked[-1], do)
            self.assertTrue(self.peer.is_closed)

    def test_peer_refuses(self) -> None:
        """An error of the running peer is reported, and nothing else is tried."""
        self.peer = RunningPeer()
        self.peer.error = NameTaken(name="bob", registry=URL)
        self.failureResultOf(self.run_verb(owning.release), NameTaken)
        self.assertTrue(self.peer.is_closed)
        self.assertEqual(self.stdout.getvalue(), "")

    def test_alone(self) -> None:
        """If no peer runs, the verb does the work and locks the folder meanwhile."""
        key = self.make_key()
        done: list[str] = []

        async def release(owner: Owner) -> None:
            self.assertRaises(AlreadyRunning, DataFolder.open, self.data, "bob")
            self.assertEqual((owner.identity.key.public, owner.identity.name), (key, "bob"))
            done.append("release")

        async def rotate(owner: Owner, addresses: object) -> None:
            self.assertIsNone(addresses)
            owner.identity.begin_rotation()
            owner.identity.finish_rotation()
            done.append("rotate")

        self.patch(Owner, "release", release)
        self.patch(Owner, "rotate", rotate)
        for verb in (owning.release, owning.rotate):
            self.assertEqual(self.successResultOf(self.run_verb(verb)), 0)
        self.assertEqual(done, ["release", "rotate"])
        event = self.event()
        self.assertEqual((event["event"], event["old"]), ("rotated", str(key)))
        self.assertNotEqual(event["key"], event["old"])
        DataFolder.open(self.data, "bob").close()

    def test_nothing_to_act_with(self) -> None:
        """Without a key none is created; a registry without owned names is an error."""
        for verb in (owning.release, owning.rotate):
            self.failureResultOf(self.run_verb(verb), NotFound)
            self.assertFalse(self.data.exists())
        self.make_key()
        self.registry.infos = None
        self.failureResultOf(self.run_verb(owning.release), Refused)
