"""The connection of a verb to a peer: who the user is, where the peer is, and what to tell the user about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred

from p2pshare.errors import NobodyHere, NoSuchPeer, P2pshareError
from p2pshare.net.session.carriers import Carriers
from p2pshare.peer.fetch.link_change import LinkChange
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer
from p2pshare.peer.find.directory import Directory, greeting_name
from p2pshare.peer.find.lookup import FoundPeer, PeerFinder
from p2pshare.peer.find.own_identity import OwnIdentity, OwnName
from p2pshare.peer.reach.dialler import Caller, Dialler, Surroundings
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.settings import Via
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.key import name_of
from p2pshare.wire.addresses import PeerAddress


def finder_of(
    invocation: Invocation,
    registry: Directory,
    own_name: str | None,
    at: PeerAddress | None = None,
) -> PeerFinder:
    """Return the finder of peers for a user, who may have no name; `at` is the address of the peer, if it is given."""
    settings, place = invocation.settings, None
    if own_name is not None or settings.data is not None:
        place = PeerPlace.of(settings, own_name or "")
    return PeerFinder(invocation.reactor, registry, invocation.wall, place, at=at)


async def introduce(
    invocation: Invocation, registry: Directory, finder: PeerFinder, peer: str
) -> tuple[OwnIdentity, Deferred[FoundPeer]]:
    """Return the user's identity and the look-up of a peer, as `OwnName.introduce`; announce a name that is new."""
    settings, wall = invocation.settings, invocation.wall
    place = PeerPlace.of(settings, name_of(settings))
    own = OwnName(invocation.reactor, registry, place, wall, settings.invitation)
    me, looking_up = await own.introduce(finder, peer)
    if me.is_new:
        told = f"{me.name} is yours now."
        if not registry.keeps_names:
            told = f"You are {me.name} on this network. Your key is {me.key.public.grouped}."
        invocation.output.remark(told)
    return me, looking_up


def announce(invocation: Invocation, peer: FoundPeer) -> None:
    """Tell the user that the key of a peer is new, or that its address may be out of date and is tried nevertheless."""
    if peer.has_new_key:
        invocation.output.remark(f"{peer.name} has a new key, which the old one has signed.")
    if peer.problem is not None:
        why = str(peer.problem)
        if isinstance(peer.problem, NobodyHere):
            why = f"{peer.name} is not on this network now."
        elif isinstance(peer.problem, NoSuchPeer):
            why = f"The registry does not know {peer.name} now."
        text = f"{why} Trying {peer.name} at {peer.where}, last seen {peer.seen}."
    elif peer.seen is not None:
        text = f"{peer.name} is offline, last seen {peer.seen}: trying it all the same."
    else:
        return
    invocation.output.event("remark", **{"from": peer.name}, text=text)
    invocation.output.remark(text)


def carriers_of(invocation: Invocation) -> Carriers:
    """Return the carriers that the user allows; close them in the end."""
    settings = invocation.settings
    return Carriers(invocation.reactor, Via.RELAY if settings.private else settings.via)


def dialler_of(
    invocation: Invocation, directory: Directory, me: OwnIdentity, carriers: Carriers
) -> Dialler:
    """Return what opens sessions for a user: directly, or with the help of a registry."""
    reactor = invocation.reactor

    def caller() -> Caller:
        from p2pshare.peer.reach.calling import PeerCaller  # most sessions need no call
        from p2pshare.peer.reach.rendezvous import RegistryRendezvous

        assert isinstance(directory, RegistryClient)
        rendezvous = RegistryRendezvous(
            reactor, directory, lambda: me.key, me.name, invocation.wall, invocation.rng
        )
        return PeerCaller(reactor, rendezvous, carriers)

    def surroundings() -> Surroundings:
        from p2pshare.net.reach.interfaces import read_network

        return Surroundings(tuple(each.network for each in read_network().addresses))

    has_calls = isinstance(directory, RegistryClient)
    return Dialler(
        reactor,
        lambda: me.key,
        carriers,
        surroundings,
        caller if has_calls else None,
        greeting_name(directory, me.name),
    )


@asynccontextmanager
async def connection(
    invocation: Invocation,
    me: OwnIdentity,
    finder: PeerFinder,
    found: FoundPeer,
    on_link: Callable[[LinkChange], object],
    *,
    limit: float | None = None,
) -> AsyncIterator[RemotePeer]:
    """Connect to a peer for as long as the context lasts, and complete the errors of its session.

    Args:
        invocation: the run of the command line.
        me: the user.
        finder: finds the peer again, if it has moved.
        found: the peer.
        on_link: called for each change of the connection.
        limit: bytes per second.
    """
    has_told_key = False

    def changed(change: LinkChange) -> None:
        nonlocal has_told_key
        if change.path is not None:
            via, address = change.path.carrier, str(change.path.address)
            invocation.output.event("connected", **{"from": change.name}, via=via, address=address)
        if change.awaits_acceptance and not has_told_key:
            has_told_key = True
            invocation.output.remark(
                f"{change.name} has to accept your key first, which is {me.key.public.grouped}."
            )
        on_link(change)

    carriers = carriers_of(invocation)
    remote = RemotePeer(
        invocation.reactor,
        invocation.rng,
        found.name,
        finder.target(found.name, found),
        dialler_of(invocation, finder.directory, me, carriers),
        LinkLimits(silence=invocation.settings.timeout, rate=limit),
        on_link=changed,
    )
    try:
        yield remote
    except P2pshareError as error:
        raise found.explained(error) from error
    finally:
        await remote.close()
        await carriers.close()
