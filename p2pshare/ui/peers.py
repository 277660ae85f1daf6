"""The verbs `peers` and `peers forget`: whom one has met, and by which key. They need no network."""

from __future__ import annotations

from colorama import Fore
from rich.cells import cell_len

from p2pshare.errors import NotFound
from p2pshare.names import did_you_mean, read_name
from p2pshare.storage.data_folder import peer_folder
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.ui.keys import name_of
from p2pshare.ui.output import Output

GAP = "  "

NOBODY = "You have met nobody yet in {registry}: `p2pshare users` shows who is there."


def peers(settings: Settings, output: Output) -> int:
    """Show whom the user has met in the registry, with their keys, by name; returns the exit code.

    Raises:
        WrongUsage: the settings have no name.
        KnownPeersUnusable: the list cannot be used.
    """
    known = KnownPeers(peer_folder(settings, name_of(settings)), settings.registry).all()
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
    folder = peer_folder(settings, name_of(settings))
    known = KnownPeers(folder, settings.registry)
    key = known.forget(peer)
    if key is None:
        meant = did_you_mean(peer, known.all())
        hint = f" Did you mean {meant!r}?" if meant else ""
        raise NotFound(reason=f"No key of {peer!r} is known in {settings.registry}.{hint}")
    output.event("forgotten", name=peer, key=str(key))
    output.line(f"The key of {peer} is forgotten: the next one is taken as it comes.", Fore.GREEN)
    output.line(f"It was {key.grouped}.")
    return 0
