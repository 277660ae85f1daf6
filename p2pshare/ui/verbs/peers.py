"""The verbs `peers` and `registries`: whom one has met, and by which keys. They need no network."""

from __future__ import annotations

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

NOBODY = "You have met nobody yet in {registry}: `p2pshare users` shows who is there."


def peers(settings: Settings, output: Output) -> int:
    """Show whom the user has met in the registry, with their keys, by name; returns the exit code.

    Raises:
        WrongUsage: the settings have no name.
        KnownPeersUnusable: the list cannot be used.
    """
    known = _known_peers(settings).all()
    width = max(map(len, known), default=0)
    screen = output.screen()
    for name, key in sorted(known.items()):
        output.event("peer", name=name, key=str(key))
        if output.is_quiet:
            output.rows([[name]])
        elif screen is None:
            output.rows([[name, str(key)]])
        elif width + len(GAP) + cell_len(key.grouped) <= screen.columns:
            output.result(f"{name:{width}}{GAP}{key.grouped}")
        else:
            output.result(name)
            output.result(f"{GAP}{key.grouped}")
    if not known:
        output.remark(NOBODY.format(registry=settings.registry))
    return 0


def forget(settings: Settings, output: Output, peer: str) -> int:
    """Take the next key of a peer as it comes; returns the exit code.

    Raises:
        NotFound: nothing was known of it.
        KnownPeersUnusable: the list cannot be used.
    """
    peer = read_name(peer)
    known = _known_peers(settings)
    key = known.forget(peer)
    if key is None:
        meant = did_you_mean(peer, known.all())
        hint = f" Did you mean {meant!r}?" if meant else ""
        raise NotFound(reason=f"No key of {peer!r} is known in {settings.registry}.{hint}")
    output.event("forgotten", name=peer, key=str(key))
    output.line(f"The key of {peer} is forgotten: the next one is taken as it comes.", Fore.GREEN)
    output.line(f"It was {key.grouped}.")
    return 0


def registries(settings: Settings, output: Output) -> int:
    """Show which registries the user has met, with their keys; returns the exit code.

    Raises:
        KnownRegistriesUnusable: the list cannot be used.
    """
    known = _place(settings).registries.all()
    for url, key in known.items():
        output.event("registry", url=url, key=key)
        if output.is_quiet or output.screen() is None:
            output.rows([[url] if output.is_quiet else [url, key]])
        else:
            output.result(url)
            output.result(f"{GAP}{PublicKey.parse(key).grouped}")
    if not known:
        output.remark("You have met no registry yet.")
    return 0


def forget_registry(settings: Settings, output: Output, url: str) -> int:
    """Accept the next key of a registry as it comes; returns the exit code.

    Raises:
        WrongUsage: that is no URL of a registry.
        NotFound: no key of it was known.
        KnownRegistriesUnusable: the list cannot be used.
    """
    try:
        registry = registry_url(url)
    except ValueError:
        raise WrongUsage(reason=f"{url!r} is no URL of a registry.") from None
    key = _place(settings).registries.forget(registry)
    if key is None:
        raise NotFound(reason=f"No key of the registry {registry} is known.")
    output.event("forgotten", url=registry, key=key)
    output.line(
        f"The key of the registry {registry} is forgotten: the next one is accepted as it comes.",
        Fore.GREEN,
    )
    output.line(f"It was {PublicKey.parse(key).grouped}.")
    return 0


def _known_peers(settings: Settings) -> KnownPeers:
    place = PeerPlace.of(settings, name_of(settings))
    return KnownPeers(place.path, place.slot)


def _place(settings: Settings) -> PeerPlace:
    return PeerPlace.of(settings, settings.name or "")
