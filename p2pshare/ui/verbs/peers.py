"""The verbs `peers` and `registries`: the pinned keys of peers and registries. They need no network."""

from __future__ import annotations

from collections.abc import Mapping

from colorama import Fore
from rich.cells import cell_len

from p2pshare.errors import NotFound, WrongUsage
from p2pshare.names import did_you_mean, read_name
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.ui.output import Output
from p2pshare.ui.verbs.key import name_of
from p2pshare.wire.addresses import registry_url
from p2pshare.wire.keys import PublicKey

GAP = "  "

NOBODY = "You know no peer of {registry} yet: `p2pshare users` lists its users."


def peers(settings: Settings, output: Output) -> int:
    """Show the known peers of the registry with their keys; return the exit code.

    Raises:
        WrongUsage: the settings have no name.
        KnownPeersUnusable: the list cannot be read.
    """
    known = _known_peers(settings).all()
    _show(output, "peer", "name", dict(sorted(known.items())))
    if not known:
        output.remark(NOBODY.format(registry=settings.registry))
    return 0


def forget(settings: Settings, output: Output, peer: str) -> int:
    """Forget the key of a peer, so that its next key is accepted; return the exit code.

    Raises:
        NotFound: no key of the peer is known.
        KnownPeersUnusable: the list cannot be read or written.
    """
    peer = read_name(peer)
    known = _known_peers(settings)
    key = known.forget(peer)
    if key is None:
        meant = did_you_mean(peer, known.all())
        hint = f" Did you mean {meant!r}?" if meant else ""
        raise NotFound(reason=f"No key of {peer!r} is known in {settings.registry}.{hint}")
    output.event("forgotten", name=peer, key=str(key))
    return _forgotten(output, peer, key)


def registries(settings: Settings, output: Output) -> int:
    """Show the known registries with their keys; return the exit code.

    Raises:
        KnownRegistriesUnusable: the list cannot be read.
    """
    known = _place(settings).registries.all()
    keys = {url: PublicKey.parse(key) for url, key in known.items()}
    _show(output, "registry", "url", keys)
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


def _show(output: Output, kind: str, label: str, keys: Mapping[str, PublicKey]) -> None:
    """Show owners and keys: as events, as cells, or for people with the key beside or below its owner."""
    width = max(map(len, keys), default=0)
    screen = output.screen()
    for owner, key in keys.items():
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
