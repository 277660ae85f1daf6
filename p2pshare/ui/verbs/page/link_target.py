"""The registry and the name with which a link is followed.

A link names its registry by the key. The user has joined that registry if there is a data folder with an own key for
it. Nothing else counts: not that the registry was met once, and no URL, since a link has none.
"""

from __future__ import annotations

from pathlib import Path

from p2pshare.errors import WrongUsage
from p2pshare.storage.identity.data_folder import PeerPlace, peers_place
from p2pshare.storage.identity.identity import KEY_NAME
from p2pshare.ui.invocation import Invocation
from p2pshare.wire.keys import PublicKey

NAMES_SHOWN = 5


def invocation_for(invocation: Invocation, registry: PublicKey) -> Invocation | None:
    """Return the run with the settings for a registry: those that are set, or those of another registry of the user.

    Returns:
        None if the user has not joined the registry.

    Raises:
        WrongUsage: the user has several names there, and none of them is set.
    """
    settings, key = invocation.settings, str(registry)
    place = PeerPlace.of(settings, settings.name or "")
    if settings.name is not None and place.key == key and _has_key(place.path):
        return invocation
    if settings.data is not None:
        return None
    url = next((url for url, known in place.registries.all().items() if known == key), None)
    if url is None:
        return None
    names = _names(peers_place() / key)
    if settings.name in names:
        names = [settings.name]
    if not names:
        return None
    if len(names) > 1:
        shown = ", ".join(names[:NAMES_SHOWN])
        raise WrongUsage(
            reason=f"You have several names in that registry: {shown}. Pass --name NAME."
        )
    return invocation.with_settings(registry=url, name=names[0])


def _names(folder: Path) -> list[str]:
    """Return the names of the user in the registry with this folder."""
    try:
        return sorted(each.name for each in folder.iterdir() if _has_key(each))
    except OSError:
        return []


def _has_key(folder: Path) -> bool:
    return (folder / KEY_NAME).is_file()
