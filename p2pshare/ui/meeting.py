"""Peers as one meets them: looked up, and held to the key that is known of them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from p2pshare.core.pinning import follows
from p2pshare.errors import (
    ClassicOnly,
    KeyChanged,
    KeyGone,
    KeyUnknown,
    NewerOnly,
    NoSessionThere,
    NoSuchPeer,
    NotClassic,
    P2pshareError,
    PeerNotFound,
    PeerOffline,
    PeerSharesNothing,
    PeerUnreachable,
)
from p2pshare.names import did_you_mean
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.link_change import reason_of
from p2pshare.peer.find.addresses import (
    AWAY,
    LastSeen,
    address_of,
    caps_of,
    expect_elsewhere,
    is_somewhere,
    last_seen_at,
    remember_address,
)
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.numbers import ago_text
from p2pshare.ui.terminal.roster import last_seen
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PeerView, Presence, RegistryInfo
from p2pshare.wire.session_messages import CAP_SESSIONS, SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC

if (
    TYPE_CHECKING
):  # the classic protocol, and with it all that knows pixels, is imported where it is spoken
    from p2pshare.classic.download import Fetched
    from p2pshare.ui.verbs.classic_items import Wanted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Met:
    """A peer whose key, if it has one, is the right one."""

    name: str
    addresses: Sequence[PeerAddress]
    """The likeliest first; at least one."""
    seen: str | None
    """When it was last seen, if it is offline, or if the registry is away."""
    invocation: Invocation
    key: PublicKey | None = None
    """Its own; None if it has none, so that nobody vouches for it."""
    caps: frozenset[str] = frozenset()
    """What its record says that it can do; nothing if it has no key."""
    away: P2pshareError | None = None
    """Why the registry could not be asked, so that these are the addresses where it was seen last."""

    @property
    def address(self) -> PeerAddress:
        """The likeliest address."""
        return self.addresses[0]

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
            Unreachable: the registry is away; an old address proves nothing where there is no key.
        """
        if self.away is not None:
            raise self.away
        if not self.speaks_classic:
            raise self._cannot(NotClassic(name=self.name))

    def _cannot(self, error: P2pshareError) -> P2pshareError:
        if self.key is not None and not self.caps:
            return PeerSharesNothing(name=self.name)
        return error

    def remark(self) -> None:
        """Say if it is offline or the registry is away: it is tried all the same."""
        if self.away is not None:
            places = ", ".join(map(str, self.addresses))
            text = f"{self.away} Trying {self.name} at {places}, last seen {self.seen}."
        elif self.seen is not None:
            text = f"{self.name} is offline, last seen {self.seen}: trying it all the same."
        else:
            return
        self.invocation.output.event("remark", **{"from": self.name}, text=text)
        self.invocation.output.remark(text)

    def retold(self, error: P2pshareError) -> P2pshareError:
        """An error of it, said with what is known of it."""
        if self.away is not None and isinstance(error, PeerUnreachable | NoSessionThere):
            return PeerNotFound(
                name=self.name,
                address=self.address,
                seen=self.seen,
                registry=self.away.fields["registry"],
                reason=reason_of(self.away),
            )
        if isinstance(error, PeerUnreachable) and self.seen is not None:
            tried = f", and did not answer at {self.address}"
            return PeerOffline(name=self.name, seen=self.seen, tried=tried)
        return error

    async def fetch(self, wanted: Wanted, *, overwrite: bool = False) -> Fetched:
        """Fetch a file of it in the classic protocol, and show how it goes.

        A peer that is offline is tried, for the registry may be the one that has missed something.

        Raises:
            NotClassic: it does not speak that.
            PeerOffline: it is offline indeed.
            P2pshareError: what `fetch_watched` raises.
        """
        from p2pshare.ui.verbs.classic_get import fetch_watched

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
    follows. Who has no name and no data folder remembers nobody. While the registry is away, or says
    that a peer is offline, one whose key is pinned is looked for where it was seen last.
    """

    _log = Logger()

    def __init__(
        self,
        invocation: Invocation,
        registry: RegistryClient,
        own_name: str | None,
        at: PeerAddress | None = None,
    ) -> None:
        """Look peers up in `registry`.

        Args:
            invocation: the run of the command line.
            registry: the registry that knows the names.
            own_name: the user's own name, if it is known.
            at: the address of the peer, if the user has named it; then a pinned key needs no registry.
        """
        self.at = at
        self._invocation = invocation
        self._registry = registry
        self._info: RegistryInfo | None = None
        self._is_original: bool | None = None
        self._ahead = 0.0  # seconds of the registry's clock before ours
        self._own_name = own_name
        self._known: KnownPeers | None = None
        self._last: Seen | None = None

    async def meet(self, name: str) -> Met:
        """Find out where a peer is, and that it is who it was; logged for debugging.

        Raises:
            P2pshareError: what `_find` raises.
        """
        met = await self._find(name)
        self._log.debug(
            "found: peer={name} key={key} addresses={places} caps={caps} offline_since={seen!r} registry_away={away!r}",
            name=name,
            key=met.key,
            places=",".join(map(str, met.addresses)),
            caps=",".join(sorted(met.caps)),
            seen=met.seen,
            away=met.away and str(met.away),
        )
        return met

    async def _find(self, name: str) -> Met:
        """Do what `meet` does.

        Raises:
            KeyUnknown: the user has named the address, but no key is known and the registry is away.
            Unreachable: the registry is away, and the peer was not met before.
            P2pshareError: what `_meet` raises.
        """
        if self._known is None:
            await self._open_memory()
        if self.at is not None and self._known is not None:
            key = await self._in_thread(self._known.key, name)
            if key is not None:
                return self._met_by_key(name, (self.at,), key)
        try:
            return await self._meet(name)
        except NoSuchPeer as error:
            meant = await self._in_thread(self._similar, name)
            if meant is None:
                raise
            raise NoSuchPeer(name=name, hint=f" (did you mean {meant!r}?)") from error
        except AWAY as error:
            if self.at is not None:
                url, reason = self._registry.url, reason_of(error)
                raise KeyUnknown(name=name, address=self.at, registry=url, reason=reason) from error
            last = await self._last_seen(name)
            if last is None:
                raise
            seen = ago_text(self._invocation.wall() - last.at)
            return self._met_by_key(name, last.addresses, last.key, seen, error)

    def _met_by_key(
        self,
        name: str,
        addresses: Sequence[PeerAddress],
        key: PublicKey,
        seen: str | None = None,
        away: P2pshareError | None = None,
    ) -> Met:
        """A peer that is held to its pinned key in a session, whatever the registry says."""
        return Met(name, addresses, seen, self._invocation, key, frozenset({CAP_SESSIONS}), away)

    async def _meet(self, name: str) -> Met:
        """Look a peer up in the registry, and hold it to the key that is known.

        Raises:
            NoSuchPeer: nobody has this name.
            KeyChanged: it has another key, and has not said so.
            KeyGone: it had a key, and has none.
            KnownPeersUnusable: the list of keys cannot be used.
            PeerNotReachable: it has no IPv4 address to which one may connect.
            PeerSharesNothing: it has none, since it runs no peer.
            PeerOffline: it is offline, and no address is known at which it was.
            Unreachable: the registry is away.
        """
        reactor, url = self._invocation.reactor, self._registry.url
        view = await self._look_up(name)
        await self._judge(name, view)
        if view is None:
            told = await self._registry.look_up(name)
            await expect_elsewhere(reactor, name, told, url)
            return Met(name, (told,), None, self._invocation)
        caps = caps_of(view)
        if self.at is not None:
            return Met(name, (self.at,), None, self._invocation, view.key, caps)
        if view.key is not None and not view.addresses and not caps:
            raise PeerSharesNothing(name=name)
        if not is_somewhere(view):
            last, seen = await self._last_seen(name), self._seen(view)
            if last is None:
                raise PeerOffline(name=name, seen=seen, tried="")
            return Met(name, last.addresses, seen, self._invocation, view.key, caps)
        address = await address_of(reactor, view, url)
        if self._last is not None:
            await self._in_thread(remember_address, self._last, view, address)
        return Met(name, (address,), self._seen(view), self._invocation, view.key, caps)

    async def _last_seen(self, name: str) -> LastSeen | None:
        """Where a peer was seen last, if anything is remembered of it."""
        if self._known is None or self._last is None:
            return None
        reactor, url = self._invocation.reactor, self._registry.url
        return await last_seen_at(reactor, self._known, self._last, name, url)

    def finder(self, met: Met) -> Callable[[], Awaitable[tuple[Sequence[PeerAddress], PublicKey]]]:
        """What tells where a peer is now, and which key it must have, whenever a session with it is to be opened.

        The first time it is as `met` says. Later the registry is asked anew, for the peer may have moved; if that is
        away, it is where it was. It raises what `meet` and `expect_sessions` raise.
        """
        known: list[Met] = [met]
        asked = 0

        async def find() -> tuple[Sequence[PeerAddress], PublicKey]:
            nonlocal asked
            asked += 1
            if asked > 1:
                with contextlib.suppress(*AWAY):
                    known[0] = await self.meet(met.name)
            return known[0].addresses, known[0].expect_sessions()

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
            await self._open_memory()
            if info is not None:
                self._ahead = info.time - self._invocation.wall()
                if not found:
                    view.raiseException()
                self._registry.judge(name, view)
                return cast(PeerView, view)
        return None if self._is_original else await self._registry.look_up_peer(name)

    async def _open_memory(self) -> None:
        """Open what is remembered of peers in the user's data folder.

        The folder goes by the registry's key: the remembered one, or from `_look_up` on the one that is proven.
        """
        own_name, settings = self._own_name, self._invocation.settings
        if own_name is None and settings.data is None:
            return
        place = PeerPlace.of(settings, own_name or "")
        if self._info is None:
            folder, slot = await self._in_thread(lambda: (place.path, place.slot))
        else:
            folder = await self._invocation.folder(self._registry, own_name or "")
            slot = str(self._info.key)
        self._known, self._last = KnownPeers(folder, slot), Seen(folder)

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
            and not follows(known, view, await self._registry.prove())
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

    def _similar(self, name: str) -> str | None:
        """The name of a peer that was met or listed before, and that is most like another name."""
        if self._known is None or self._last is None:
            return None
        return did_you_mean(name, {*self._known.all(), *self._last.names()} - {name})

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await run_in_thread(self._invocation.reactor, work, *args)
