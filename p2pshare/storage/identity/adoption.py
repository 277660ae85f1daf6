"""The move of data folders to their place when the key of their registry is known.

By default a data folder is `peers/KEY/NAME`, with the key of the registry. Folders of earlier versions, and those made
before the registry was first reached, go by a URL: `peers/HOST_PORT/NAME`. Such a folder is renamed in one step. A
symbolic link is left in its place, so that paths into it, such as that of a pid file, stay valid.

A folder belongs to a registry if it has a receipt that the registry has signed, whatever its URL. It also belongs to it
if it goes by the URL at which the registry was reached, and has no receipt at all. A folder that another process has
open is not moved, and used where it is. No folder is ever merged, replaced or removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from p2pshare.errors import FolderInUse, FolderUnusable, IdentityUnusable, RegistryChanged
from p2pshare.storage.identity.data_folder import PeerPlace, is_place, peers_place
from p2pshare.storage.identity.identity import claims_of, read_receipts
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.locks import FolderLock
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.keys import PublicKey

PLACES_MAX = 256  # folders of registries that are looked through


def move_in(place: PeerPlace, registry: PublicKey) -> Path:
    """Return the data folder of a peer in the registry that has proven this key; it need not exist yet.

    Without a registry the folder has its place already. The key is remembered for the registry's URL. Calls may block
    for a while.

    Raises:
        RegistryChanged: another key is known for this URL.
        KnownRegistriesUnusable: the file with known keys cannot be used.
        FolderUnusable: a folder cannot be moved, and is where it was.
    """
    if place.is_lan:
        return place.path
    key = str(registry)
    remembered = place.key
    known = remembered or place.registries.pin(place.registry, key)
    if known != key:
        before = PublicKey.parse(known).grouped
        raise RegistryChanged(registry=place.registry, known=before, now=registry.grouped)
    if place.data is not None:
        path = place.path
        if remembered is None and path.is_dir():
            KnownPeers(path, key).take_over({place.registry})
        return path
    target = place.by_key(key)
    if target.exists():
        return target
    with place.registries.locked():
        old = None if target.exists() else _folder_of(place, registry)
        if old is None:
            return target
        try:
            lock = FolderLock.take(old)
        except FolderInUse:
            return old
        try:
            _move(old, target)
        finally:
            lock.release()
    KnownPeers(target, key).take_over()
    return target


def _folder_of(place: PeerPlace, registry: PublicKey) -> Path | None:
    """Return the folder that goes by a URL and belongs to the registry."""
    by_url = place.by_url()
    found: dict[Path, int] = {}
    for folder in _folders(place):
        with suppress(IdentityUnusable):
            receipts = read_receipts(folder)
            claims = claims_of(receipts, registry, place.name)
            if claims:
                found[folder] = max(claims.values())
            elif not receipts and folder == by_url:
                found.setdefault(folder, 0)
    return max(found, key=found.__getitem__, default=None)


def _folders(place: PeerPlace) -> Iterator[Path]:
    """Yield the data folders of a name that go by a URL."""
    yield from filter(is_place, [place.by_url()])
    try:
        with os.scandir(peers_place()) as places:
            for each in islice(places, PLACES_MAX):
                if "_" in each.name:  # between host and port; keys contain none
                    yield from filter(is_place, [Path(each.path, place.name).absolute()])
    except OSError:
        return


def _move(old: Path, target: Path) -> None:
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        old.rename(target)
    except OSError as error:
        raise FolderUnusable(path=old, reason=plain_reason(error)) from error
    with suppress(OSError):  # only programs that still have the old path need the link
        old.symlink_to(os.path.relpath(target, old.parent))
