"""The verbs `peers` and `registries`: the keys of peers and registries that the user knows or accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from colorama import Fore
from rich.cells import cell_len

from p2pshare.errors import KeyChanged, NamesProven, NotFound, RemoteProtocolError, WrongUsage
from p2pshare.names import did_you_mean, read_name
from p2pshare.peer.lan.admission import AcceptedPeers, chosen_key
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.whoami import running
from p2pshare.wire.addresses import LAN, registry_url
from p2pshare.wire.keys import PublicKey

GAP = "  "

WAITING = (
    "These wait until you accept them: compare the key, then run `p2pshare peers accept NAME`."
)
NOBODY_HERE = "You know nobody on this network yet: `p2pshare users` shows who is here."
NOBODY = "You know no peer of {registry} yet: `p2pshare users` lists its users."


async def peers(invocation: Invocation) -> int:
    """Show the known peers with their keys, and those that wait to be accepted; return the exit code.

    Raises:
        WrongUsage: the settings have no name.
        KnownPeersUnusable: the list cannot be read.
        PeerNotAnswering: a peer runs, but does not answer.
    """
    settings, output = invocation.settings, invocation.output
    known = _known_peers(settings).all()
    _show(output, "peer", "name", sorted(known.items()))
    waiting = await _waiting(invocation)
    if waiting:
        output.remark(WAITING)
        _show(output, "waiting", "name", waiting)
    elif not known:
        is_lan = settings.registry == LAN
        output.remark(NOBODY_HERE if is_lan else NOBODY.format(registry=settings.registry))
    return 0


async def accept(invocation: Invocation, peer: str, key: Sequence[str]) -> int:
    """Let a peer see what the user shares, without a registry; return the exit code.

    Args:
        invocation: the run of the command line.
        peer: the name that the peer has from now on.
        key: its key, or the beginning of one that waits, in any groups; empty for the only one that waits.

    Raises:
        NamesProven: there is a registry.
        NotFound: no such key waits, or several do.
        KeyChanged: another key is known for the name.
        P2pshareError: the running peer does not answer, or the list cannot be written.
    """
    settings, output, name = invocation.settings, invocation.output, read_name(peer)
    place = PeerPlace.of(settings, name_of(settings))
    if not place.is_lan:
        raise NamesProven(registry=settings.registry)
    part = "".join(key)
    async with running(invocation, place.path) as own:
        if own is not None:
            told = await own.ask("accept", name=name, key=part)
            accepted = PublicKey.parse(str(told["key"]))
        else:
            lists = AcceptedPeers(place.path)
            accepted = chosen_key(name, part, lists.pins.key(name), ())
            lists.accept(name, accepted)
    output.event("accepted", name=name, key=str(accepted))
    output.line(f"{name} may see what you share with everyone whom you have accepted.", Fore.GREEN)
    output.line(f"The key is {accepted.grouped}.")
    return 0


def pin(settings: Settings, output: Output, peer: str, key: Sequence[str]) -> int:
    """Remember the key of a peer that the user was told by other means; return the exit code.

    Args:
        settings: the settings, with a name.
        output: where to report the result.
        peer: its name.
        key: its key, in any groups.

    Raises:
        WrongUsage: that is no key.
        KeyChanged: another key is known for the name.
        KnownPeersUnusable: the list cannot be read or written, or is full.
    """
    name, text = read_name(peer), "".join(key).lower()
    try:
        told = PublicKey.parse(text)
    except RemoteProtocolError as error:
        raise WrongUsage(reason=f"{text!r} is no key: {error.fields['reason']}.") from None
    known = _known_peers(settings).pin(name, told, None)
    if known != told:
        raise KeyChanged(name=name, known=known.grouped, now=told.grouped)
    output.event("peer", name=name, key=str(told))
    output.line(f"The key of {name} is {told.grouped} from now on.", Fore.GREEN)
    return 0


def forget(settings: Settings, output: Output, peer: str) -> int:
    """Forget the key of a peer, so that its next key is accepted; return the exit code.

    Raises:
        NotFound: no key of the peer is known.
        KnownPeersUnusable: the list cannot be read or written.
    """
    peer = read_name(peer)
    place = PeerPlace.of(settings, name_of(settings))
    known = _known_peers(settings)
    key = AcceptedPeers(place.path).forget(peer) if place.is_lan else known.forget(peer)
    if key is None:
        meant = did_you_mean(peer, known.all())
        hint = f" Did you mean {meant!r}?" if meant else ""
        raise NotFound(reason=f"No key of {peer!r} is known in {settings.registry}.{hint}")
    output.event("forgotten", name=peer, key=str(key))
    return _forgotten(output, peer, key)


async def _waiting(invocation: Invocation) -> list[tuple[str, PublicKey]]:
    """Return the keys that wait to be accepted by the running peer, each with what it calls itself."""
    place = PeerPlace.of(invocation.settings, name_of(invocation.settings))
    if not place.is_lan:
        return []
    async with running(invocation, place.path) as own:
        if own is None:
            return []
        told = (await own.ask("status")).get("waiting", [])
    return [(str(each["name"]), PublicKey.parse(str(each["key"]))) for each in told]


def registries(settings: Settings, output: Output) -> int:
    """Show the known registries with their keys; return the exit code.

    Raises:
        KnownRegistriesUnusable: the list cannot be read.
    """
    known = _place(settings).registries.all()
    keys = {url: PublicKey.parse(key) for url, key in known.items()}
    _show(output, "registry", "url", keys.items())
    if not known:
        output.remark("You know no registry yet.")
    return 0


def forget_registry(settings: Settings, output: Output, url: str) -> int:
    """Forget the key of a registry, so that its next key is accepted; return the exit code.

    Raises:
        WrongUsage: `url` is not the URL of a registry.
        NotFound: no key of the registry is known.
        KnownRegistriesUnusable: the list cannot be read or written.
    """
    try:
        registry = registry_url(url)
    except ValueError:
        raise WrongUsage(reason=f"{url!r} is not the URL of a registry.") from None
    key = _place(settings).registries.forget(registry)
    if key is None:
        raise NotFound(reason=f"No key of the registry {registry} is known.")
    output.event("forgotten", url=registry, key=key)
    return _forgotten(output, f"the registry {registry}", PublicKey.parse(key))


def _show(output: Output, kind: str, label: str, keys: Iterable[tuple[str, PublicKey]]) -> None:
    """Show owners and keys: as events, as cells, or for people with the key beside or below its owner."""
    shown = list(keys)
    width = max((len(owner) for owner, _ in shown), default=0)
    screen = output.screen()
    for owner, key in shown:
        output.event(kind, **{label: owner}, key=str(key))
        if output.is_quiet:
            output.rows([[owner]])
        elif screen is None:
            output.rows([[owner, str(key)]])
        elif width + len(GAP) + cell_len(key.grouped) <= screen.columns:
            output.result(f"{owner:{width}}{GAP}{key.grouped}")
        else:
            output.result(owner)
            output.result(f"{GAP}{key.grouped}")


def _forgotten(output: Output, owner: str, key: PublicKey) -> int:
    output.line(f"The key of {owner} is forgotten: its next key will be accepted.", Fore.GREEN)
    output.line(f"It was {key.grouped}.")
    return 0


def _known_peers(settings: Settings) -> KnownPeers:
    place = PeerPlace.of(settings, name_of(settings))
    return KnownPeers(place.path, place.slot)


def _place(settings: Settings) -> PeerPlace:
    return PeerPlace.of(settings, settings.name or "")
