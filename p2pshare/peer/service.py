"""A running peer: it is registered, and serves what it shares."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.classic.server import ClassicServer
from p2pshare.classic.shared_files import ClassicShare
from p2pshare.errors import (
    LocalProtocolError,
    NameReleased,
    OwnAddressNeeded,
    OwnAddressUnknown,
    P2pshareError,
    PeerStopped,
    PortUnusable,
    RegistryNotLookedUp,
    Unreachable,
)
from p2pshare.net.look_up import LookUpError, look_up_ipv4
from p2pshare.net.sockets import (
    IPeerReactor,
    expect_free,
    interface_for,
    listen_udp,
    listen_welcome,
    local_address_towards,
)
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import ControlServer, Deed, Fields
from p2pshare.peer.find.browsing import Browsing
from p2pshare.peer.find.lookup import PeerFinder
from p2pshare.peer.registration import NameKeeper, patiently
from p2pshare.peer.share.service import SessionSharer
from p2pshare.registry.client import RegistryClient, pooled_agent
from p2pshare.storage.identity.adoption import move_in
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace, private_folders
from p2pshare.storage.identity.identity import Identity
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.reasons import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath, shared_paths
from p2pshare.wire.addresses import PeerAddress, address_fault, is_loopback
from p2pshare.wire.keys import PublicKey, SigningKey

OPEN_FILES = 8192  # for 500 sessions, each with some files; the system may grant fewer
OPEN_FILES_MIN = 64  # open files without which a peer does not start
CLOSE_TIMEOUT = 0.3  # seconds for idle connections to the registry


class PeerService(Service):
    """One user's peer.

    Nothing that keeps it from running is raised: look at `ready` and `lost`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        *,
        user: str,
        registry: str,
        shares: Sequence[SharedPath],
        data: Path | None,
        wall: Callable[[], float],
        listen: int = 0,
        address: str | None = None,
        invitation: str | None = None,
        limit: float | None = None,
        classic: bool = False,
        patient: bool = True,
        on_served: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Make the peer of `user` in the registry at the URL `registry`.

        Args:
            reactor: what it runs on.
            rng: draws the port and the jitter of waits.
            user: a legal name.
            registry: as `registry_url` returns it.
            shares: what it offers, and to whom.
            data: its folder, which it makes if need be, and locks for as long as it runs; None for the one of this
                registry and name, by the key of the registry.
            wall: the Unix time in s.
            listen: the number of its ports, UDP and TCP, or 0 for any.
            address: the IPv4 address to register, or None for that from which the registry is reached.
            invitation: for a new name, in a registry that wants one.
            limit: bytes per second that go out in all sessions together; None is as fast as it goes.
            classic: speak the classic protocol, too, which shows what is shared to anybody, in the clear.
            patient: wait for a registry that is away at the start; otherwise that is an error.
            on_served: called with a sentence after each classic transfer.
        """
        self._reactor = reactor
        self._rng = rng
        self._user = user
        self._registry = registry
        self._place = PeerPlace(registry, user, data)
        self._shares = shares
        self._limit = limit
        self._wall = wall
        self._listen = listen
        self._address = address
        self._invitation = invitation
        self._patient = patient
        self._welcome_port: int | None = None
        self._running: Deferred[Any] | None = None
        self._is_over = False
        self._trouble: P2pshareError | None = None  # why the registry has to be asked again
        agent, self._pool = pooled_agent(reactor)
        self.client = RegistryClient(agent, registry, reactor, wall=wall)
        """The registry, for whoever works with this peer."""
        self._sessions: SessionSharer | None = None
        self._classic: ClassicServer | None = None
        if classic:
            self._classic = ClassicServer(
                reactor, classic_share(shares), on_served=lambda served: on_served(str(served))
            )
        self._silent_port: IListeningPort | None = None
        self._folder: DataFolder | None = None
        self._keeper: NameKeeper | None = None
        self._identity: Identity | None = None
        self._browsing: Browsing | None = None
        self._control: ControlServer | None = None
        self.ready: Deferred[PeerAddress] = Deferred()
        """Fires when the peer is registered and serves; fails with the `P2pshareError` that prevents it."""
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that ended a peer which was ready: `NameReleased` or `PeerStopped` if that was
        wanted."""

    def startService(self) -> None:
        """Take the data folder, and begin to listen and to register."""
        super().startService()
        starting: Deferred[PeerAddress] = Deferred.fromCoroutine(self._start())
        self._running = starting
        starting.addCallbacks(self._started, self._ended)

    def stopService(self) -> Deferred[None]:
        """End the presence, all transfers, the port and the hold on the data folder."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> PeerAddress:
        folder = await self._move_in()
        identity = self._identity = Identity.open(folder, self._registry, self._user)
        known = KnownPeers(folder.path, self._place.slot)
        sessions = self._sessions = SessionSharer(
            self._reactor,
            self._shares,
            self._limit,
            folder.path,
            self.client,
            known,
            lambda: identity.key,
        )
        finder = PeerFinder(
            self._reactor, self.client, self._wall, self._place, pins_new_keys=False
        )
        browsing = self._browsing = Browsing.of_peer(
            self._reactor, self._rng, lambda: identity.key, self.client, finder, folder.path
        )
        self._keeper = NameKeeper(
            self._reactor,
            self.client,
            self._rng,
            identity,
            lambda: folder.token(self._registry, self._user),
            self._find_address,
            self._wall,
            self._invitation,
            classic=self._classic is not None,
            on_trouble=self._keep_trouble,
        )
        self._listen_to_verbs(
            folder,
            {
                "status": self._status,
                "stop": self._stop_wanted,
                "release": self._release,
                "rotate": self._rotate,
                "complete": browsing.complete,
            },
        )
        await sessions.open()
        return await (self._keeper.take_patiently() if self._patient else self._keeper.take())

    async def _move_in(self) -> DataFolder:
        """Open the data folder. The registry must have proven its key first, since the folder goes by that."""
        place, key = self._place, self._place.key
        registry = None if key is None else PublicKey.parse(key)
        if registry is None:
            waiting = self._folder = DataFolder.open(place.path, self._user)
            with suppress(Unreachable):  # first contact comes to that, and may try again
                ip = self._address or await self._address_towards_registry()
                if self._listen:  # so that a port in use is told even if the registry is away
                    expect_free(self._listen, interface_for(ip))
            self._listen_to_verbs(waiting, {"status": self._status, "stop": self._stop_wanted})
            registry = await self._first_contact()
            assert self._control is not None
            await self._control.stop()
            waiting.close()
        path = place.path
        if registry is not None:
            path = await run_in_thread(self._reactor, move_in, place, registry)
        self.client.known = registry
        self._folder = DataFolder.open(path, self._user)
        return self._folder

    async def _first_contact(self) -> PublicKey | None:
        """The key of the registry; None if it is an original one."""

        async def ask() -> PublicKey | None:
            info = await self.client.info()
            return None if info is None else info.key

        if not self._patient:
            return await ask()
        return await patiently(
            self._reactor, self._rng, ask, Unreachable, on_trouble=self._keep_trouble
        )

    def _keep_trouble(self, trouble: P2pshareError | None) -> None:
        self._trouble = trouble

    def _listen_to_verbs(self, folder: DataFolder, deeds: Mapping[str, Deed]) -> None:
        self._control = ControlServer(self._reactor, folder.path, deeds)
        self._control.listen()

    def _started(self, address: PeerAddress) -> None:
        """Keep the name, and then tell that it is taken: who hears of it may stop the peer at once."""
        assert self._keeper is not None
        self._running = Deferred.fromCoroutine(self._keeper.keep())
        self._running.addErrback(self._ended)
        self.ready.callback(address)

    def _ended(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if not failure.check(P2pshareError):
            self._log.failure("the peer failed", failure)
            failure = Failure(LocalProtocolError(reason=failure.getErrorMessage()))
        if not self._is_over:
            self._is_over = True
            (self.lost if self.ready.called else self.ready).errback(failure)

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
        try:
            if self._control is not None:
                await self._control.stop()
            stopping = [
                Deferred.fromCoroutine(each.stop())
                for each in (self._sessions, self._browsing)
                if each is not None
            ]
            if self._classic is not None:
                stopping.append(Deferred.fromCoroutine(self._classic.stop()))
            if self._keeper is not None:
                stopping.append(Deferred.fromCoroutine(self._keeper.give_up()))
            await gatherResults(stopping)
            if self._silent_port is not None:
                await cast(Any, self._silent_port.stopListening())
            closing: Deferred[None] = self._pool.closeCachedConnections()
            await closing.addTimeout(CLOSE_TIMEOUT, self._reactor, lambda *_: None)
        finally:
            if self._folder is not None:
                self._folder.close()

    @property
    def key(self) -> SigningKey:
        """The user's key, once the peer is ready."""
        return self._own.key

    def left_out(self) -> dict[str, str]:
        """What of each share is not shared, in words, as far as that is counted."""
        return {} if self._sessions is None else self._sessions.left_out()

    async def _status(self, _request: Fields) -> Fields:
        """What `p2pshare whoami` and the like tell of a running peer."""
        keeper, identity, proven = self._keeper, self._identity, self.client.key
        registered = None if keeper is None else keeper.registered
        since = None if keeper is None else keeper.since
        elsewhere = None if keeper is None else keeper.elsewhere
        return {
            "name": self._user,
            "key": None if identity is None else str(identity.key.public),
            "registry": self._registry,
            "registry_key": None if proven is None else str(proven),
            "address": None if registered is None else str(registered),
            "registered": registered is not None,
            "loopback": registered is not None and is_loopback(registered.ip),
            "online": keeper is not None and keeper.in_touch,
            "elsewhere": None if elsewhere is None else asdict(elsewhere),
            "trouble": None if self._trouble is None else str(self._trouble),
            "since": None if since is None else int(since),
            "pid": os.getpid(),
            "classic": self._classic is not None,
            **({} if self._sessions is None else await self._sessions.status()),
        }

    async def _stop_wanted(self, _request: Fields) -> Fields:
        """End, as soon as that is answered; the name stays its own."""
        assert self._running is not None
        self._running.cancel()
        self._reactor.callLater(0, self._ended, Failure(PeerStopped(name=self._user)))
        return {"name": self._user, "pid": os.getpid()}

    async def _release(self, _request: Fields) -> Fields:
        """Give the name up; a peer without a name ends, as soon as it has said so."""
        assert self._keeper is not None and self._running is not None
        await self._keeper.release()
        self._running.cancel()
        released = Failure(NameReleased(name=self._user))
        self._reactor.callLater(0, self._ended, released)
        return {"name": self._user}

    async def _rotate(self, _request: Fields) -> Fields:
        """Let a new key follow."""
        assert self._keeper is not None
        old = self._own.key.public
        await self._keeper.rotate()
        return {"name": self._user, "old": str(old), "key": str(self._own.key.public)}

    @property
    def _own(self) -> Identity:
        assert self._identity is not None, "it was opened at the start"
        return self._identity

    async def _find_address(self) -> PeerAddress:
        """Where this peer is reached; the first time, its ports are opened for that."""
        try:
            ip = self._address or await self._address_towards_registry()
        except OwnAddressNeeded:
            if self._keeper is None or self._keeper.registered is None:
                raise
            return (
                self._keeper.registered
            )  # its name had an IPv4 address before, and may have one again
        if self._welcome_port is None:
            interface = interface_for(ip)
            self._welcome_port = await listen_welcome(
                self._listen, self._rng, lambda port: self._open_ports(port, interface)
            )
        return PeerAddress(ip, self._welcome_port)

    async def _open_ports(self, port: int, interface: str) -> int:
        """Open the ports with a number: TCP for sessions, and UDP, which is silent without the classic protocol."""
        assert self._sessions is not None
        expect_free(port, interface)  # before one of them is open, and the other cannot be
        await self._sessions.listen(port, interface)
        try:
            if self._classic is not None:
                return self._classic.listen(port, interface)
            silent = DatagramProtocol()  # it ignores every datagram
            silent.noisy = False
            self._silent_port = listen_udp(self._reactor, port, silent, interface)
        except PortUnusable:
            self._sessions.stop_listening()
            raise
        return port

    async def _address_towards_registry(self) -> str:
        url = urlsplit(self._registry)
        try:
            host = await look_up_ipv4(self._reactor, url.hostname or "")
        except LookUpError as error:
            raise RegistryNotLookedUp(registry=self._registry, reason=error.reason) from error
        if host is None:
            raise OwnAddressNeeded(registry=self._registry)
        try:
            ip = local_address_towards(host, url.port or 80)
        except OSError as error:
            reason = f"there is no way to the registry's address {host} ({plain_reason(error)})"
            raise OwnAddressUnknown(reason=reason) from error
        fault = address_fault(ip)
        if fault is not None:
            reason = f"towards the registry it is {ip}, which {fault} and reaches nobody"
            raise OwnAddressUnknown(reason=reason)
        return ip


def shares_of(settings: Settings, name: str, cwd: Path) -> tuple[SharedPath, ...]:
    """What the settings offer: by default the `my_file.*` in `cwd`, as they are now.

    Raises:
        WrongUsage: what is to be shared is not there, or is nothing that can be.
    """
    private = private_folders(settings, name)
    return shared_paths(settings.share, settings.allow, cwd.absolute(), private)


def classic_share(shares: Sequence[SharedPath]) -> ClassicShare:
    """Return what the classic protocol may carry: it proves nobody's name, so only what is shared with everyone."""
    return ClassicShare(each.path for each in shares if each.allow is None)


def peer_of(
    settings: Settings,
    name: str,
    reactor: IPeerReactor,
    rng: random.Random,
    cwd: Path,
    *,
    wall: Callable[[], float],
    patient: bool = True,
    on_served: Callable[[str], object] = lambda _: None,
) -> PeerService:
    """The peer of `name` as the settings say, with the `my_file.*` in `cwd` as its share by default.

    Raises:
        WrongUsage: what is to be shared is not there, or is nothing that can be.
    """
    return PeerService(
        reactor,
        rng,
        user=name,
        registry=settings.registry,
        shares=shares_of(settings, name, cwd),
        data=settings.data,
        listen=settings.listen,
        wall=wall,
        address=settings.address,
        invitation=settings.invitation,
        limit=settings.limit,
        classic=settings.classic,
        patient=patient,
        on_served=on_served,
    )
