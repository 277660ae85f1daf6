"""Whole peers in one process and in virtual time: a registry, any number of people, and what happens to them.

Each person has a real `PeerService` with a real data folder, real files and real TLS. Only TCP, UDP, threads and the
registry's store are in memory. Therefore a day passes in a moment, and a test can kill a peer between any two steps.

`Person.crash` does what `kill -9` does to a process, as far as others can see: its connections end, its timers never
fire, its locks are free, and its databases are what was committed. The objects of the dead peer are kept until the
test has ended, because their finalizers would clean up, which a killed process does not.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from socket import AF_INET
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from p2pshare.net.datagrams import welcome_port
from p2pshare.net.reach.interfaces import NetworkState
from p2pshare.peer import service
from p2pshare.peer.lan.directory import LanDirectory
from p2pshare.peer.reach.network import OwnNetwork
from p2pshare.peer.service import PeerService, shares_of
from p2pshare.registry.api import events
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.events import EventHub
from p2pshare.registry.api.routes import Routes
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.settings import Settings, Via
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.client_addresses import Origins
from p2pshare.web.limits import Limits
from p2pshare.web.site import Site
from p2pshare.wire.addresses import LAN, PeerAddress
from p2pshare.wire.keys import SigningKey
from tests.peer.delayed_network import DelayedNetwork, Machine, _End
from tests.peer.lan.network import Network

REGISTRY = "127.0.0.1"  # an address of this machine, so that peers look for no other addresses
URL = f"http://{REGISTRY}:8000"
DELAY = 1 / 1024  # seconds from one machine to another
START = 1_800_000_000  # Unix time in s
STREAMS_MAX = 1000  # event streams and connections of the registry
PATIENCE = 120.0  # seconds of virtual time


class World(DelayedNetwork):
    """The network, the registry and the people."""

    def __init__(self, folder: Path, *, is_lan: bool = False) -> None:
        """Begin with a registry, or with a local network without one; people have their homes in `folder`."""
        super().__init__(DELAY)
        self.folder = folder
        self.lan = Network(answers_queries=True) if is_lan else None
        self.people: dict[str, Person] = {}
        self.graveyard: list[object] = []
        """What killed peers leave behind in memory."""
        self.store = MemoryNameStore(self.clock)
        self._start_registry()

    def wall(self) -> float:
        """Return the Unix time in s."""
        return START + self.clock.seconds()

    def _start_registry(self) -> None:
        machine = Host(self, REGISTRY)
        routes = Routes(
            self.store,
            machine,
            wall=self.wall,
            authority=Authority(SigningKey(bytes(32)), self.wall, random.Random(1).randbytes),
            settings=RegistrySettings("", Path(), limits={}),
        )
        routes.table.update(EventHub(self.store, machine).table(Origins(()).of))
        site = Site(routes, cast("Any", machine), Limits(), wall=self.wall)
        machine.listenTCP(8000, site)

    def answers(self, one: str, other: str) -> bool:
        """Whether a connection is answered, that is, unless a cable is cut."""
        return not any(each.is_cut and each.ip in (one, other) for each in self.people.values())

    def person(self, name: str, **settings: Any) -> Person:
        """Return a new person, whose peer is not started yet."""
        self.people[name] = person = Person(self, name, len(self.people) + 2, settings)
        return person

    def start(self, *names: str) -> tuple[Person, ...]:
        """Start the peers of new people side by side."""
        people = tuple(self.person(name) for name in names)
        for each in people:
            each.begin()
        for each in people:
            self.result(each.ready)
        return people

    def result(self, running: Coroutine[Any, Any, Any] | Deferred[Any]) -> Any:
        """Let time pass until a coroutine has ended, and return its result, or raise its error."""
        ended = running if isinstance(running, Deferred) else Deferred.fromCoroutine(running)
        found: list[Any] = []
        ended.addBoth(found.append)
        self.run(lambda: found, PATIENCE)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def until(
        self, holds: Callable[[], object], within: float = PATIENCE, every: float = 0.0
    ) -> None:
        """Let time pass until something is the case. That is looked at after each step, or `every` so many seconds."""
        if not every:
            self.run(holds, within)
        for _ in range(int(within / every) if every else 0):
            if holds():
                return
            self.wait(every)
        if not holds():
            raise AssertionError(f"it has not come about within {within:g} s")

    def committed(self, path: Path) -> None:
        """Note that a peer has written its offers; dead peers write in vain."""
        for each in self.people.values():
            if path.parent == each.data and each.peer is not None:
                each.committed()

    def stop(self) -> None:
        """Stop all peers that run."""
        for each in self.people.values():
            each.is_cut = False
        for each in self.people.values():
            each.stop()


class Person:
    """A user, and the peer of the moment."""

    def __init__(self, world: World, name: str, number: int, settings: dict[str, Any]) -> None:
        """Give a person a home; `number` is the last byte of the address."""
        self.world = world
        self.name = name
        self.ip = f"{'127.0.0' if world.lan is None else '192.0.2'}.{number}"
        self.home = world.folder / name
        self.data, self.inbox, self.files = (
            self.home / each for each in ("data", "inbox", "files")
        )
        for each in (self.inbox, self.files):
            each.mkdir(parents=True)
        self.is_cut = False
        """Whether nobody can connect to this person, and this person to nobody."""
        self.starts = self.deaths = 0
        """How often the peer was started, and how often it was killed."""
        self.commits = 0
        """How often the offers were written."""
        self._commits_left = 0  # until the peer is killed, if it is more than 0
        self.is_ready = False
        """Whether the peer runs, and is registered."""
        self.returns_after: float | None = None
        """Seconds after which a killed peer starts again; None if it does not."""
        self.notices: list[str] = []
        self.peer: PeerService | None = None
        """The peer; None while none runs."""
        self._settings = settings
        self._host: Host | None = None

    def begin(self, **settings: Any) -> None:
        """Start the peer; `settings` differ from those of the last start."""
        assert self.peer is None, "it runs"
        self._free_files()
        self.change(**settings)
        self.starts += 1
        self.is_ready = False
        self._host = Host(self.world, self.ip)
        registry = URL if self.world.lan is None else LAN
        own: dict[str, Any] = {"registry": registry, "address": (self.ip,), "via": Via.TCP}
        own["inbox_folder"] = self.inbox
        chosen = Settings(name=self.name, data=self.data, **(own | self._settings))
        self.peer = PeerService(
            cast("Any", self._host),
            random.Random(f"{self.name} {self.starts}"),
            chosen,
            shares_of(chosen, self.home),
            wall=self.world.wall,
            on_notice=self.notices.append,
        )
        self.ready = self.peer.ready.addCallback(self._registered)
        self.peer.lost.addErrback(lambda _: None)  # a story may let it end
        self.peer.startService()

    def change(self, **settings: Any) -> None:
        """Change the settings for the next start."""
        self._settings |= settings

    def start(self, **settings: Any) -> None:
        """Start the peer, and wait until it is registered."""
        self.begin(**settings)
        self.world.result(self.ready)

    def _registered(self, address: PeerAddress) -> None:
        self.address, self.is_ready = address, True

    def stop(self) -> None:
        """Stop the peer in good order, if it runs."""
        if self.peer is not None:
            peer, self.peer, self.is_ready = self.peer, None, False
            self.world.result(peer.stopService())

    def crash(self, *, is_noticed: bool = True) -> None:
        """Kill the peer; may be called from within its own code, which then goes on without any effect.

        Args:
            is_noticed: connections end, as when a process is killed; otherwise they fall silent, as when power fails.
        """
        self.host.die(is_noticed=is_noticed)
        self._freeze_databases()
        self.world.graveyard.append((self.peer, self.host))
        self.peer = self._host = None
        self.is_ready = False
        self.deaths += 1
        if self.returns_after is not None:
            self.world.clock.callLater(self.returns_after, self.begin)

    def cut(self) -> None:
        """Cut the cable: connections fall silent, and there are no new ones."""
        self.is_cut = True
        if self._host is not None:
            self._host.break_connections()

    def mend(self) -> None:
        """Mend the cable; the old connections stay silent."""
        self.is_cut = False

    @property
    def host(self) -> Host:
        """The machine of the peer that runs."""
        assert self._host is not None
        return self._host

    @property
    def steps(self) -> int:
        """How many timers have fired and bytes arrived since the start."""
        return self.host.steps

    def crash_after_commits(self, count: int) -> None:
        """Kill the peer as soon as it has written its offers so many times, before it does anything else."""
        self._commits_left = count

    def committed(self) -> None:
        """Note that the peer has written its offers."""
        self.commits += 1
        self._commits_left -= 1
        if self._commits_left == 0 and self.peer is not None:
            self.crash()

    def crash_at(self, step: int) -> None:
        """Kill the peer before that step."""
        self.host.on_step = lambda number: self.crash() if number >= step else None

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Let the peer perform an action, as a verb does.

        Raises:
            P2pshareError: the action failed.
            KilledError: the peer was killed meanwhile.
        """
        found: list[Any] = []
        deaths = self.deaths
        self.asked(do, **fields).addBoth(found.append)
        self.world.until(lambda: found or self.deaths > deaths)
        if not found:
            raise KilledError
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return cast("dict[str, Any]", found[0])

    def look(self, do: str, **fields: Any) -> dict[str, Any]:
        """Return what the peer says of itself, for which no time may pass."""
        found: list[Any] = []
        self.asked(do, **fields).addBoth(found.append)
        (reply,) = found
        if isinstance(reply, Failure):
            reply.raiseException()
        return cast("dict[str, Any]", reply)

    def asked(self, do: str, **fields: Any) -> Deferred[Any]:
        """Return the reply to come of an action."""
        peer: Any = self.peer
        return Deferred.fromCoroutine(peer._control.perform(do, fields))

    def write(self, name: str, data: bytes = b"") -> Path:
        """Write a file of the person's own."""
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def received(self, sender: str = "") -> dict[str, bytes]:
        """Return the files in the inbox folder, or in that of a sender there, hidden ones included."""
        folder = self.inbox / sender
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    def _freeze_databases(self) -> None:
        """Let databases be what is on the disk now. What the dead peer still writes goes to files without names."""
        for path in [*self.data.rglob("*.sqlite"), *self.data.rglob("*.sqlite-wal")]:
            copy = path.with_name(f"{path.name}.copy")
            with suppress(FileNotFoundError):
                shutil.copy2(path, copy)
                os.replace(copy, path)
        for path in self.data.rglob("*.sqlite-shm"):  # it is made anew
            path.unlink(missing_ok=True)

    def _free_files(self) -> None:
        """Release the locks of dead peers: let each file that they have open here be a file of nothing."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for each in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{each}")
                is_ours = target.startswith(f"{self.home}/") and Path(target).is_file()
                if is_ours and ".sqlite" not in target:
                    os.dup2(nothing, int(each), inheritable=False)
        os.close(nothing)


class KilledError(Exception):
    """The peer was killed before it has answered."""


class Host(Machine):
    """A machine whose only process can be killed."""

    network: World

    def __init__(self, network: World, ip: str) -> None:
        super().__init__(network, ip)
        self.is_dead = False
        self.steps = 0
        """Timers that fired and bytes that arrived so far."""
        self.on_step: Callable[[int], object] = lambda _: None
        """Called before each of them."""
        self._ends: list[HostEnd] = []
        self.multicast = None if network.lan is None else network.lan.machine(int(ip[8:]))
        """Hears and announces peers on the local network."""

    def die(self, *, is_noticed: bool) -> None:
        """Do nothing any more."""
        self.is_dead = True
        network = self.network
        if self.multicast is not None:  # it is heard until its announcements expire
            self.multicast.heard = self.multicast.announced = None
        for place in [place for place, (host, _) in network.ports.items() if host is self]:
            del network.ports[place]
        for each in self._ends if is_noticed else ():
            if not each._is_over:
                network.clock.callLater(network.delay(self.ip, ""), each.other.arrived, None)

    def break_connections(self) -> None:
        """Let nothing more pass over the present connections."""
        for each in self._ends:
            each.is_broken = cast("HostEnd", each.other).is_broken = True

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:
        owner = getattr(callable, "__self__", None)
        if isinstance(owner, _End) and owner._clock is not self:  # it is on its way to another one
            return super().callLater(delay, callable, *args, **kw)
        return super().callLater(delay, partial(self._step, callable, *args, **kw))

    def _step(self, callable: Any, *args: Any, **kw: Any) -> None:
        if not self.is_dead:
            self.steps += 1
            self.on_step(self.steps)
        if self.is_dead:
            self.network.graveyard.append((callable, args))
        else:
            callable(*args, **kw)

    def end(self, host: IPv4Address, peer: IPv4Address) -> HostEnd:
        end = HostEnd(self, host, peer)
        self._ends = [each for each in self._ends if not each._is_over]
        self._ends.append(end)
        return end

    def listenUNIX(  # noqa: N802 - reactors have it
        self,
        address: Any,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,  # noqa: N803
    ) -> Any:
        """Listen nowhere: tests use the actions themselves."""
        return _NoPort(0)


class HostEnd(_End):
    """An end of a connection that may belong to a dead machine."""

    _clock: Host
    is_broken = False

    def arrived(self, data: bytes | None) -> None:
        if not self.is_broken:
            self._clock._step(super().arrived, data)

    def _send(self, data: bytes | None) -> None:
        if not self._clock.is_dead:
            super()._send(data)


class _NoPort:
    """A port that nobody reaches."""

    unsent = 0
    is_full = False

    def __init__(self, number: int) -> None:
        self.addressFamily = AF_INET
        self._number = number

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "0.0.0.0", self._number)

    def send_train(self, data: Any, segment: int, address: Any) -> None:
        """Lose it."""

    def stopListening(self) -> Deferred[None]:
        return succeed(None)


class _QuietWatch:
    """Nothing happens to the network of this machine."""

    state = NetworkState()

    def __init__(self, _reactor: Any, _on_change: Any) -> None:
        """Watch nothing."""

    def start(self) -> None:
        """Do nothing."""

    stop = start


class WorldTestCase(SynchronousTestCase):
    """Tests in a new world, which ends with each."""

    is_lan = False
    """Whether there is no registry."""
    modules_frozen = 0
    """The number of modules that the garbage collector does not examine any more."""

    def setUp(self) -> None:
        if not os.path.isdir("/proc/self/fd"):
            raise SkipTest("the files of a killed peer are found in /proc")
        self.patch(welcome_port, "listen_trains", lambda _reactor, port, *_: _NoPort(port))
        self.patch(service, "OwnNetwork", partial(OwnNetwork, watch=cast("Any", _QuietWatch)))
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.world = World(Path(folder.name), is_lan=self.is_lan)
        if self.is_lan:
            self.patch(service, "open_directory", self._open_directory)
        self.patch(Ledger, "changing", self._noticed(Ledger.changing))
        self.patch(events, "POLL_INTERVAL", 2.0)  # a third of the time is spent with the default
        self.addCleanup(self.end)
        gc.disable()  # else it would finalize what dead peers leave behind
        self.addCleanup(gc.enable)

    def _open_directory(
        self, reactor: Host, _url: str, place: Any, wall: Callable[[], float], **options: Any
    ) -> Any:
        assert reactor.multicast is not None
        lan = LanDirectory(cast("Any", reactor), reactor.multicast, place, wall, **options)
        return lan, lambda: Deferred.fromCoroutine(lan.close())

    def _noticed(self, changing: Callable[[Ledger], Any]) -> Callable[[Ledger], Any]:
        """Return a replacement of `Ledger.changing` that tells each commit to the person whose ledger it is."""

        @contextmanager
        def noticed(ledger: Ledger) -> Iterator[Any]:
            with changing(ledger) as database:
                yield database
            if not ledger._depth:
                self.world.committed(ledger.path)

        return noticed

    def end(self) -> None:
        """Stop all peers, and bury the dead ones."""
        self.world.stop()
        self.patch(sys, "unraisablehook", lambda _: None)  # of coroutines that never ended
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            logged = self.flushLoggedErrors()
            self.world.graveyard.clear()
            self.world.clock.calls.clear()
            for name, value in list(vars(self).items()):
                if isinstance(value, World | Person):
                    delattr(self, name)
            while gc.collect():  # finalizers leave more behind
                pass
            if len(sys.modules) != WorldTestCase.modules_frozen:
                gc.freeze()  # later tests do not examine all modules again, which takes 0.3 s each time
                WorldTestCase.modules_frozen = len(sys.modules)
            self.flushLoggedErrors()  # those of finalizers of dead peers
        self.assertEqual(len(logged), 0, logged[0].getTraceback() if logged else "")
