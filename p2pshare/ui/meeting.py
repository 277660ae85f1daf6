"""Peers as one meets them: looked up, and held to the key that is known of them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.internet.defer import Deferred, DeferredList

from p2pshare.core.pinning import follows
from p2pshare.errors import (
    ClassicOnly,
    KeyChanged,
    KeyGone,
    NewerOnly,
    NotClassic,
    P2pshareError,
    PeerOffline,
    PeerSharesNothing,
    PeerUnreachable,
    RegistryBusy,
    RegistryUnavailable,
    RegistryUnreachable,
)
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.whereabouts import address_of, expect_elsewhere
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.data_folder import peer_folder
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.roster import last_seen
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.peers import PeerView, Presence, RegistryInfo
from p2pshare.wire.registration import PeerAddress
from p2pshare.wire.session_messages import CAP_SESSIONS, SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC, Record

if (
    TYPE_CHECKING
):  # the classic protocol, and with it all that knows pixels, is imported where it is spoken
    from p2pshare.peer.fetching import Fetched
    from p2pshare.ui.wanted import Wanted

AWAY = (RegistryUnreachable, RegistryUnavailable, RegistryBusy)
"""What says nothing of the one who is looked up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Met:
    """A peer whose key, if it has one, is the right one."""

    name: str
    address: PeerAddress
    seen: str | None
    """When it was last seen, if it is offline."""
    invocation: Invocation
    key: PublicKey | None = None
    """Its own; None if it has none, so that nobody vouches for it."""
    caps: frozenset[str] = frozenset()
    """What its record says that it can do; nothing if it has no key."""

    @property
    def takes_sessions(self) -> bool:
        """Whether a session with it is possible."""
        return self.key is not None and CAP_SESSIONS in self.caps

    @property
    def speaks_classic(self) -> bool:
        """Whether it may be asked in the classic protocol, by who accepts that nothing is proven then."""
        return self.key is None or CAP_CLASSIC in self.caps

    def expect_sessions(self) -> PublicKey:
        """The key that it must prove in a session.

        Raises:
            ClassicOnly: it takes none; it is not asked in the classic protocol instead.
            NewerOnly: it takes only such as came up later.
            PeerSharesNothing: it is not there to be asked for anything.
        """
        if self.key is None or not self.takes_sessions:
            kind = NewerOnly if self._speaks_newer else ClassicOnly
            raise self._cannot(kind(name=self.name))
        return self.key

    @property
    def _speaks_newer(self) -> bool:
        """Whether it says what this program does not know, and which may be a way to fetch from it."""
        newer = any(each.startswith(SESSIONS) for each in self.caps)
        return not self.takes_sessions and (newer or not self.speaks_classic)

    def expect_classic(self) -> None:
        """Make sure that it speaks the classic protocol.

        Raises:
            NotClassic: its owner has not switched it on.
            PeerSharesNothing: it is not there to be asked for anything.
        """
        if not self.speaks_classic:
            raise self._cannot(NotClassic(name=self.name))

    def _cannot(self, error: P2pshareError) -> P2pshareError:
        if self.key is not None and not self.caps:
            return PeerSharesNothing(name=self.name)
        return error

    def remark(self) -> None:
        """Say if it is offline: it is tried all the same, for the registry may be the one that has missed something."""
        if self.seen is not None:
            self.invocation.output.remark(
                f"{self.name} is offline, last seen {self.seen}: trying it all the same."
            )

    def retold(self, error: P2pshareError) -> P2pshareError:
        """An error of it, said with what the registry knows of it."""
        if isinstance(error, PeerUnreachable) and self.seen is not None:
            return PeerOffline(name=self.name, seen=self.seen, address=self.address)
        return error

    async def fetch(self, wanted: Wanted, *, overwrite: bool = False) -> Fetched:
        """Fetch a file of it in the classic protocol, and show how it goes.

        A peer that is offline is tried, for the registry may be the one that has missed something.

        Raises:
            NotClassic: it does not speak that.
            PeerOffline: it is offline indeed.
            P2pshareError: what `fetch_watched` raises.
        """
        from p2pshare.ui.watching import fetch_watched

        self.expect_classic()
        self.remark()
        try:
            order = wanted.order(self.address, overwrite=overwrite)
            return await fetch_watched(self.invocation, order)
        except PeerUnreachable as error:
            raise self.retold(error) from error


class Meetings:
    """Looks peers up in one registry, for one user.

    The key with which a name is met first stays its key in the user's data folder, unless it says itself which one
    follows. Who has no name and no data folder remembers nobody.
    """

    def __init__(
        self, invocation: Invocation, registry: RegistryClient, own_name: str | None
    ) -> None:
        """Look peers up in `registry`, as the user `own_name` if they say who they are."""
        self._invocation = invocation
        self._registry = registry
        self._info: RegistryInfo | None = None
        self._is_original: bool | None = None
        self._ahead = 0.0  # seconds of the registry's clock before ours
        settings = invocation.settings
        self._known: KnownPeers | None = None
        if own_name is not None:
            self._known = KnownPeers(peer_folder(settings, own_name), registry.url)
        elif settings.data is not None:
            self._known = KnownPeers(settings.data.absolute(), registry.url)

    async def meet(self, name: str) -> Met:
        """Find out where a peer is, and that it is who it was.

        Raises:
            NoSuchPeer: nobody has this name.
            KeyChanged: it has another key, and has not said so.
            KeyGone: it had a key, and has none.
            KnownPeersUnusable: the list of keys cannot be used.
            PeerNotReachable: it has no IPv4 address to which one may connect.
            Unreachable: the registry is away.
        """
        reactor, url = self._invocation.reactor, self._registry.url
        view = await self._look_up(name)
        await self._judge(name, view)
        if view is None:
            told = await self._registry.look_up(name)
            await expect_elsewhere(reactor, name, told, url)
            return Met(name, told, None, self._invocation)
        return Met(
            name,
            await address_of(reactor, view, url),
            self._seen(view),
            self._invocation,
            view.key,
            _caps(view),
        )

    def finder(self, met: Met) -> Callable[[], Awaitable[tuple[PeerAddress, PublicKey]]]:
        """What tells where a peer is now, and which key it must have, whenever a session with it is to be opened.

        The first time it is as `met` says. Later the registry is asked anew, for the peer may have moved; if that is
        away, it is where it was. It raises what `meet` and `expect_sessions` raise.
        """
        known: list[Met] = [met]
        asked = 0

        async def find() -> tuple[PeerAddress, PublicKey]:
            nonlocal asked
            asked += 1
            if asked > 1:
                with contextlib.suppress(*AWAY):
                    known[0] = await self.meet(met.name)
            return known[0].address, known[0].expect_sessions()

        return find

    async def _look_up(self, name: str) -> PeerView | None:
        """What the registry says; None if it is an original one, which says nothing that has to do with keys.

        The first time it is asked at once which kind it is.
        """
        if self._is_original is None:
            asked: list[Deferred[Any]] = [
                Deferred.fromCoroutine(self._registry.info()),
                Deferred.fromCoroutine(self._registry.look_up_peer(name)),
            ]
            (knows, info), (found, view) = await DeferredList(asked, consumeErrors=True)
            if not knows:
                info.raiseException()
            self._info, self._is_original = info, info is None
            if info is not None:
                self._ahead = info.time - self._invocation.wall()
                if not found:
                    view.raiseException()
                return cast(PeerView, view)
        return None if self._is_original else await self._registry.look_up_peer(name)

    async def _judge(self, name: str, view: PeerView | None) -> None:
        """Hold a peer to the key that is known; one that is met for the first time is known from now on."""
        if self._known is None:
            return
        key = None if view is None else view.key
        known = await self._in_thread(self._known.key, name)
        if key is None or view is None:
            if known is not None:
                raise KeyGone(name=name, known=known.grouped)
            return
        if (
            known is not None
            and known != key
            and not follows(known, view, self._info, self._registry.url)
        ):
            raise KeyChanged(name=name, known=known.grouped, now=key.grouped)
        if known == key:
            return
        pinned = await self._in_thread(self._known.pin, name, key, known)
        if pinned != key:  # another verb was faster, and has met another key
            raise KeyChanged(name=name, known=pinned.grouped, now=key.grouped)
        if known is not None:
            self._invocation.output.remark(f"{name} has a new key, which the old one has signed.")

    def _seen(self, view: PeerView) -> str | None:
        if view.summary.presence is not Presence.OFFLINE:
            return None
        return last_seen(view.summary, self._invocation.wall() + self._ahead) or "long ago"

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await run_in_thread(self._invocation.reactor, work, *args)


def _caps(view: PeerView) -> frozenset[str]:
    """What its record says that it can do; the record was verified when it came."""
    if view.key is None or view.record is None:
        return frozenset()
    return frozenset(Record.parse(view.record).statement.caps)
