"""A running peer: it keeps its name in the registry, and serves what it shares.

`PeerService` opens the parts in the order in which they need each other, and closes them all:

    data folder     locked, so that one peer runs on it; it goes by the key of the registry (`_move_in`)
    control         the socket through which verbs ask the peer
    sessions        what is shared, and the TCP port (`peer/share`)
    welcome port    UDP, of the same number: sessions, and the classic protocol if it is enabled
    network         where the peer can be reached (`reach/network`)
    keeper          the name (`registration`); it asks for the location, and so the ports are open before the claim
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.classic.server import ClassicServer
from p2pshare.classic.shared_files import ClassicShare
from p2pshare.errors import (
    LocalProtocolError,
    NameReleased,
    NamesProven,
    P2pshareError,
    PeerStopped,
    Unreachable,
    WrongUsage,
)
from p2pshare.names import NAME_MAX, ON_NETWORK, read_name
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.net.sockets import (
    IPeerReactor,
    expect_free,
)
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.browse.service import Browsing
from p2pshare.peer.control import Action, ControlServer, Fields
from p2pshare.peer.events import EventHub
from p2pshare.peer.find.directory import greeting_name, open_directory
from p2pshare.peer.find.lookup import PeerFinder
from p2pshare.peer.lan.admission import LanAdmission
from p2pshare.peer.offers.service import OfferOwner, OffersService
from p2pshare.peer.ownership import CAPS, CAPS_WITH_CLASSIC, Owner
from p2pshare.peer.page.service import PageService
from p2pshare.peer.parts import parts_of
from p2pshare.peer.reach.answering import Doors
from p2pshare.peer.reach.calling import PeerCaller
from p2pshare.peer.reach.calls import CallListener
from p2pshare.peer.reach.dialler import Dialler, Surroundings
from p2pshare.peer.reach.network import OwnNetwork
from p2pshare.peer.reach.own_ports import OwnPorts
from p2pshare.peer.reach.rendezvous import RegistryRendezvous
from p2pshare.peer.registration import ClassicName, NameKeeper, RetryLoop, status_of
from p2pshare.peer.running import Part, RunningPeer
from p2pshare.peer.share.admission import Admission, Admitting
from p2pshare.peer.share.live_shares import LiveShares
from p2pshare.peer.share.service import SessionSharer
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.adoption import move_in
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace, unshared_folders
from p2pshare.storage.identity.identity import Identity
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings, Via
from p2pshare.storage.shares.arguments import SharedPath, shared_paths
from p2pshare.storage.shares.kept import KeptShares
from p2pshare.storage.shares.rules import Rules
from p2pshare.wire.addresses import LAN, PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.strict_json import text

OPEN_FILES = 8192  # for 500 sessions, each with some files; the system may grant fewer
OPEN_FILES_MIN = 64  # open files without which a peer does not start
KEY_TEXT_MAX = 128  # characters of a key as a user types it

T = TypeVar("T")


class PeerService(Service):
    """One user's peer.

    An error that keeps it from running is not raised; it fails `ready` or `lost`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        settings: Settings,
        shares: Sequence[SharedPath] | None,
        *,
        wall: Callable[[], float],
        patient: bool = True,
        on_notice: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Make the peer of the name in `settings`.

        Args:
            reactor: what it runs on.
            rng: draws the port and the jitter of waits.
            settings: with a name. The data folder is made if need be, and locked as long as the peer runs.
            shares: what it shares, and with whom, as `shares_of` returns it, besides what is kept in the data folder;
                None for a peer that shares nothing at all.
            wall: the Unix time in s.
            patient: wait for a registry that does not answer at the start; otherwise that is an error.
            on_notice: called with a sentence after each classic transfer, and with others that the user should read.
        """
        assert settings.name is not None, "a peer has a name"
        self._reactor = reactor
        self._rng = rng
        self._settings = settings
        self._name = settings.name
        self._place = PeerPlace.of(settings, settings.name)
        self._shares = shares
        self._wall = wall
        self._patient = patient
        self._running: Deferred[Any] | None = None
        self._is_over = False
        self._retries = RetryLoop(reactor, rng)
        self._client, self._close_client = open_directory(
            reactor, settings.registry, self._place, wall, on_notice=on_notice
        )
        self._network = OwnNetwork(reactor, rng, settings, self._client, self._location_changed)
        self._datagrams: DatagramSessions | None = None
        self._carriers: Carriers | None = None  # of the sessions that this peer opens
        self._classic: ClassicServer | None = None
        if settings.classic:
            self._classic = ClassicServer(
                reactor,
                ClassicShare(()),
                on_served=lambda served: on_notice(str(served)),
            )
        self._on_notice = on_notice
        self._lan_admission: LanAdmission | None = None
        self._sessions: SessionSharer | None = None
        self._folder: DataFolder | None = None
        self._keeper: NameKeeper | None = None
        self._identity: Identity | None = None
        self._browsing: Browsing | None = None
        self._ports: OwnPorts | None = None
        self._calls: CallListener | None = None
        self._callers: Sequence[str] | None = None  # that the registry was told of
        self._control: ControlServer | None = None
        self._offers: OffersService | None = None
        self._parts: Sequence[Part] = ()
        self.events = EventHub()
        """What others follow over the control socket."""
        self.ready: Deferred[PeerAddress] = Deferred()
        """Fires when the peer is registered and serves; fails with the `P2pshareError` that prevents it."""
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that ended a peer which was ready: `NameReleased` or `PeerStopped` if its user
        wanted that."""

    def startService(self) -> None:
        """Open the data folder, listen and register."""
        super().startService()
        starting: Deferred[PeerAddress] = Deferred.fromCoroutine(self._start())
        self._running = starting
        starting.addCallbacks(self._started, self._ended)

    def stopService(self) -> Deferred[None]:
        """End the presence and all transfers, close the ports, and unlock the data folder."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> PeerAddress:
        reactor, client, url = self._reactor, self._client, self._settings.registry
        network = self._network
        network.start()
        folder = await self._move_in()
        identity = self._identity = Identity.open(folder, url, self._name)

        live = self._live_shares(folder)
        admission, limit = self._admission_of(folder.path, live.shares), self._settings.limit
        sessions = self._sessions = SessionSharer(
            reactor, live, limit, folder.path, admission, lambda: self.key
        )
        sessions.on_change = partial(self._shares_changed, live)
        classic = None if self._classic is None else self._classic.protocol
        self._datagrams = DatagramSessions(reactor, secrets.token_bytes, sessions.acceptor, classic)
        finders = partial(PeerFinder, reactor, client, self._wall, self._place)
        via = Via.RELAY if self._settings.private else self._settings.via
        carriers = self._carriers = Carriers(reactor, via, self._datagrams)
        dialler = self._make_dialler(carriers, sessions, self._datagrams)
        browsing = self._browsing = Browsing(
            reactor, self._rng, client, finders, dialler, folder.path
        )
        self._ports = OwnPorts(
            reactor, self._rng, self._settings, network, sessions.acceptor, self._datagrams
        )
        self._keeper = self._keeper_of(folder, identity, self._ports)
        owner = OfferOwner(self._settings, self._place, folder.path, lambda: self.key, self._wall)
        offers = self._offers = OffersService(
            reactor, self._rng, owner, client, dialler, sessions, self.events
        )
        if self._lan_admission is not None:
            offers.welcome(self._lan_admission)
        parts = self._make_parts(
            RunningPeer(
                reactor, self._rng, self._wall, self._settings, self._place, folder.path,
                lambda: self.key, client, finders, dialler, browsing, sessions, live, offers, network, self._ports,
                self._lan_admission, self.events, partial(self._status, {}), self._standing, self._trouble,
                self._shares is not None,
            )
        )  # fmt: skip
        self._listen_to_verbs(
            folder,
            {
                "status": self._status,
                "stop": self._stop_wanted,
                "release": self._release,
                "rotate": self._rotate,
                "accept": self._accept_wanted,
                **browsing.actions,
                **offers.actions,
                **live.actions,
                **{do: action for part in parts for do, action in part.actions.items()},
            },
        )
        await sessions.open()
        await offers.start()
        for part in parts:
            await part.start()
        return await self._retried(self._keeper.take)

    def _make_parts(self, peer: RunningPeer) -> Sequence[Part]:
        """Return the other parts; the page is the last to start, and the first to stop."""

        def perform(do: str, request: Fields) -> Deferred[Fields]:
            assert self._control is not None
            return self._control.answer(do, request)

        parts = parts_of(peer)
        self._parts = (*parts, PageService(peer, perform, parts))
        return self._parts

    def _make_dialler(
        self, carriers: Carriers, sessions: SessionSharer, datagrams: DatagramSessions
    ) -> Dialler:
        """Return what opens sessions. With a registry, it calls peers, and others call this one."""
        reactor, client, caller = self._reactor, self._client, None
        if isinstance(client, RegistryClient):
            rendezvous = RegistryRendezvous(
                reactor, client, lambda: self.key, self._name, self._wall, self._rng
            )
            peers = PeerCaller(reactor, rendezvous, carriers)
            caller = lambda: peers  # noqa: E731
            self._calls = CallListener(
                reactor,
                rendezvous,
                self._network,
                Doors(sessions.admit_caller, sessions.acceptor.accept_stream, datagrams.port),
                lambda: sessions.callers,
                self._calls_changed,
            )
            sessions.acceptor.on_welcome = self._calls.session_opened
        return Dialler(
            reactor,
            lambda: self.key,
            carriers,
            self._surroundings,
            caller,
            greeting_name(client, self._name),
        )

    def _live_shares(self, folder: DataFolder) -> LiveShares:
        """Return the shares of the command line, and those that are kept."""
        private = unshared_folders(self._settings, self._name)
        live = LiveShares(
            self._reactor,
            self._wall,
            KeptShares(folder.path),
            self._shares,
            private,
            is_lan=self._place.is_lan,
        )
        live.on_row = lambda row, is_removed: self.events.publish(
            "shares", **row, removed=is_removed
        )
        live.load()
        self._share_classic(live)
        return live

    def _share_classic(self, live: LiveShares) -> None:
        if self._classic is not None:
            self._classic.serve(ClassicShare(classic_shares(live.uncounted, self._settings)))

    def _shares_changed(self, live: LiveShares) -> None:
        """Let the parts know who may come now, and for what."""
        self._share_classic(live)
        if self._sessions is not None and self._calls is not None:
            callers, self._callers = self._callers, self._sessions.callers
            if callers != self._callers:
                self._calls.accept_others()

    def _admission_of(self, folder: Path, shares: Iterable[SharedPath]) -> Admitting:
        if not self._place.is_lan:
            return Admission(
                self._reactor, self._client, KnownPeers(folder, self._place.slot, wall=self._wall)
            )

        def ask(name: str, key: PublicKey) -> None:
            self._on_notice(
                f'{name} wants to see what you share. Type "accept {name}" if this is the key of {name}: {key.grouped}'
            )

        allowed = [name for each in shares for name in each.allow or ()]
        self._lan_admission = LanAdmission(
            self._reactor, folder, self._name, allowed, wall=self._wall, on_question=ask
        )
        return self._lan_admission

    def _keeper_of(self, folder: DataFolder, identity: Identity, ports: OwnPorts) -> NameKeeper:
        settings, classic = self._settings, None
        caps = CAPS_WITH_CLASSIC if settings.classic else CAPS
        if settings.classic:
            classic = ClassicName(
                cast(RegistryClient, self._client),
                self._name,
                lambda: folder.token(settings.registry, self._name),
            )
        owner = Owner(self._client, identity, self._wall, caps=caps, invitation=settings.invitation)
        return NameKeeper(
            self._reactor,
            self._rng,
            owner,
            ports.location,
            self._retries,
            classic,
            on_seen=self._network.seen_at,
        )

    async def _move_in(self) -> DataFolder:
        """Open the data folder, which goes by the key of the registry; at first contact the registry must prove one.

        While the registry does not answer, the folder that goes by its URL is open, so that verbs find the peer there.
        """
        place, key = self._place, self._place.key
        registry = self._client.known if key is None else PublicKey.parse(key)
        if registry is None:
            waiting = self._folder = DataFolder.open(place.path, self._name)
            with suppress(Unreachable):  # first contact comes to that, and may try again
                if self._settings.listen:  # a port in use is an error even without a registry
                    expect_free(self._settings.listen, *await self._network.interfaces())
            self._listen_to_verbs(waiting, {"status": self._status, "stop": self._stop_wanted})
            info = await self._retried(self._client.info)
            registry = None if info is None else info.key  # an original registry has no key
            assert self._control is not None
            await self._control.stop()
            waiting.close()
        path = place.path
        if registry is not None:
            path = await run_in_thread(self._reactor, move_in, place, registry)
        self._client.known = registry
        self._folder = DataFolder.open(path, self._name)
        return self._folder

    async def _retried(self, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
        """Do something as soon as the registry answers, or at once if the peer is not to be patient."""
        return await (self._retries.run(work, Unreachable) if self._patient else work())

    def _listen_to_verbs(self, folder: DataFolder, actions: Mapping[str, Action]) -> None:
        self._control = ControlServer(
            self._reactor, folder.path, actions, self.events, is_lasting=self._shares is not None
        )
        self._control.listen()

    def _started(self, address: PeerAddress) -> None:
        """Keep the name, and only then report that the peer is ready: a callback may stop it at once."""
        assert self._keeper is not None
        if self._calls is not None:
            self._callers = None if self._sessions is None else self._sessions.callers
            self._calls.start()
        self._running = Deferred.fromCoroutine(self._keeper.keep())
        self._running.addErrback(self._ended)
        self.ready.callback(address)

    def _ended(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if not failure.check(P2pshareError):
            self._log.failure("peer failed", failure)
            failure = Failure(LocalProtocolError(reason=failure.getErrorMessage()))
        if not self._is_over:
            self._is_over = True
            (self.lost if self.ready.called else self.ready).errback(failure)

    def _end_soon(self, reason: P2pshareError) -> None:
        """End the peer, once the reply to the verb that wanted it is sent."""
        assert self._running is not None
        self._running.cancel()
        self._reactor.callLater(0, self._ended, Failure(reason))

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
        self._network.stop()
        if self._calls is not None:
            self._calls.stop()
        try:
            if self._control is not None:
                await self._control.stop()
            for part in reversed(self._parts):
                await part.stop()
            if self._offers is not None:  # before the sessions that its messages go over
                await self._offers.stop()
            parts = (
                self._ports,
                self._sessions,
                self._browsing,
                self._classic,
                self._keeper,
            )
            await gatherResults(
                [Deferred.fromCoroutine(each.stop()) for each in parts if each is not None]
            )
            if self._carriers is not None:
                await self._carriers.close()
            if self._datagrams is not None:  # last, since sessions say their farewell over it
                await self._datagrams.stop()
            await self._close_client()
        finally:
            if self._folder is not None:
                self._folder.close()

    @property
    def key(self) -> SigningKey:
        """The user's present key, which a rotation changes."""
        assert self._identity is not None, "the data folder is open"
        return self._identity.key

    @property
    def shares(self) -> Sequence[SharedPath]:
        """What is shared now, also what is kept."""
        return () if self._sessions is None else self._sessions.shares

    def left_out(self) -> dict[str, str]:
        """Return for each share what of it is not shared, as far as that is counted."""
        return {} if self._sessions is None else self._sessions.left_out()

    async def _status(self, _request: Fields) -> Fields:
        """Return what `p2pshare status` and `whoami` show of a running peer."""
        return {
            **self._standing(),
            **({} if self._sessions is None else await self._sessions.status()),
        }

    def _trouble(self) -> P2pshareError | None:
        return self._retries.trouble or self._client.trouble

    def _standing(self) -> Fields:
        """Return what is known of the name and the addresses."""
        identity, trouble = self._identity, self._trouble()
        proven = self._client.key if self._client.keeps_names else None
        return {
            "name": self._name,
            "key": None if identity is None else str(identity.key.public),
            "registry": self._settings.registry,
            "registry_key": None if proven is None else str(proven),
            **status_of(self._keeper),
            **self._network.status(),
            "takes_calls": self._calls is not None and self._calls.is_listening,
            "trouble": None if trouble is None else str(trouble),
            "pid": os.getpid(),
            "classic": self._settings.classic,
        }

    async def accept(self, name: str, part: str = "") -> PublicKey:
        """Accept a key without a registry, as `LanAdmission.accept`.

        Raises:
            NamesProven: there is a registry.
            P2pshareError: as for `LanAdmission.accept`.
        """
        if self._lan_admission is None:
            raise NamesProven(registry=self._settings.registry)
        return await self._lan_admission.accept(name, part)

    async def _accept_wanted(self, request: Fields) -> Fields:
        """Accept a key that waits, or one that the request has."""
        fields = {"key": "", **request}
        name, part = read_name(text(fields, "name", NAME_MAX)), text(fields, "key", KEY_TEXT_MAX)
        return {"name": name, "key": str(await self.accept(name, part))}

    async def _stop_wanted(self, _request: Fields) -> Fields:
        """End the peer; the name still belongs to its key."""
        self._end_soon(PeerStopped(name=self._name))
        return {"name": self._name, "pid": os.getpid()}

    async def _release(self, _request: Fields) -> Fields:
        """Give the name up, and end the peer, which has no name any more."""
        assert self._keeper is not None
        await self._keeper.release()
        self._end_soon(NameReleased(name=self._name))
        return {"name": self._name}

    async def _rotate(self, _request: Fields) -> Fields:
        """Let a new key follow the present one."""
        assert self._keeper is not None
        old = self.key.public
        await self._keeper.rotate()
        if self._calls is not None:
            self._calls.start()  # with the new key
        return {"name": self._name, "old": str(old), "key": str(self.key.public)}

    def _location_changed(self, is_new_network: bool) -> None:
        """Publish the location again; on a new network, old connections to the registry are of no use."""
        if self._keeper is None:  # the registry has yet to answer for the first time
            self._retries.nudge(restart=is_new_network)
        elif is_new_network:
            assert self._ports is not None
            self._ports.forward()
            if not self._place.is_lan:
                self._close_client()
            self._keeper.nudge(restart=True)
            if self._calls is not None:
                self._calls.nudge()
        else:
            self._keeper.location_changed()

    def _surroundings(self) -> Surroundings:
        return Surroundings(self._network.networks, self._network.seen)

    def _calls_changed(self, is_up: bool) -> None:
        """Renew the presence when the registry is back: it may have forgotten it, or the network is new. When the
        stream of calls breaks, the same tells at once whether the registry is away.
        """
        if self._keeper is not None:
            self._keeper.nudge()


def shares_of(settings: Settings, cwd: Path) -> tuple[SharedPath, ...]:
    """Return what the settings share: by default the `my_file.*` in `cwd`, as they are now.

    Raises:
        WrongUsage: a share does not exist, or is neither a folder nor a file, or a pattern is not valid, or an option
            needs a registry, or none.
    """
    if settings.private and settings.registry == LAN:
        reason = "--private needs the relay of a registry: others find a peer without one by its address."
        raise WrongUsage(reason=reason)
    is_open = any(ON_NETWORK in each for each in settings.allow)
    if is_open and settings.registry != LAN:
        raise WrongUsage(reason=f"--allow {ON_NETWORK} is for peers without a registry.")
    private = unshared_folders(settings, settings.name or "")
    rules = Rules.of(settings.exclude, hidden=settings.hidden)
    return shared_paths(settings.share, settings.allow, cwd.absolute(), private, rules)


def classic_shares(shares: Iterable[SharedPath], settings: Settings) -> list[SharedPath]:
    """Return what the classic protocol may carry: it proves nobody's name, so only what is shared with everyone."""
    if settings.registry == LAN:
        return [each for each in shares if each.allow and ON_NETWORK in each.allow]
    return [each for each in shares if each.allow is None]
