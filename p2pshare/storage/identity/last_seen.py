"""Names, folders and addresses of others that were seen last, for use while the peer or the registry is unreachable.

It is a cache in a private file of the data folder. The file is bounded, written completely or not at all, and replaced
if it is damaged. Of two processes that write at once, one may lose its change. Calls may block for a moment. What
cannot be written is not remembered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import is_name
from p2pshare.storage.identity.private_file import read_private, replace_private
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.paths import RemotePath, component_fault, format_path, parse_path
from p2pshare.wire.strict_json import parse_object

FILE_NAME = "seen.json"
VERSION = 1
NAMES_MAX = 1000
FOLDERS_MAX = 200
ENTRIES_MAX = 500  # of one folder
KEYS_MAX = 1000  # of which addresses are kept
ADDRESSES_MAX = 3  # of one key
BYTES_MAX = 512 * 1024  # of the file
SEEN_STEP = 60  # seconds after which a later sighting of an address is written
LOOK_STEP = 3600  # seconds after which a later look at the same shares is written

_KEY = re.compile(r"[a-z2-7]{52}")

Names = dict[str, bool]
"""Names of entries; whether each is a folder."""
Addresses = dict[PeerAddress, int]
"""Addresses of a peer, the latest first, and the Unix time in s at which it was last seen there."""


class Seen:
    """The names, folders and addresses that the user of a data folder has seen."""

    def __init__(self, folder: Path) -> None:
        """Use the file in a data folder; without such a folder, nothing is remembered."""
        self.path = folder / FILE_NAME

    def names(self) -> tuple[str, ...]:
        """Return the names of peers, the latest first; empty if the file cannot be read."""
        return tuple(self._read().names)

    def entries(self, peer: str, path: RemotePath) -> Names:
        """Return the known entries in a folder of a peer."""
        return dict(self._read().folders.get(_key(peer, path), {}))

    def looks(self) -> dict[str, tuple[Names, int]]:
        """Return what each peer shared at the last look, and the Unix time in s of it, the latest last."""
        known = self._read()
        found = sorted(known.looked.items(), key=lambda each: each[1])
        return {peer: (known.folders[_key(peer, ())], at) for peer, at in found}

    def forget(self, peer: str) -> None:
        """Forget the folders of a peer."""
        self._change(lambda known: known.forget(peer))

    def addresses(self, key: str) -> Addresses:
        """Return the addresses at which the owner of a key was seen."""
        return dict(self._read().addresses.get(key, {}))

    def saw_address(self, key: str, address: PeerAddress, at: int) -> None:
        """Remember an address.

        Args:
            key: the key of the peer, as text.
            address: an address that the peer has signed, or at which it has proven its key.
            at: the Unix time in s at which it was seen there.
        """
        self._change(lambda known: known.add_address(key, address, at))

    def saw_names(self, names: Iterable[str]) -> None:
        """Remember names."""
        fresh = dict.fromkeys(names, True)
        if fresh:
            self._change(lambda known: known.add_names(fresh))

    def saw_entries(
        self,
        peer: str,
        path: RemotePath,
        entries: Mapping[str, bool],
        *,
        whole: bool = False,
        at: int = 0,
    ) -> None:
        """Remember entries of a folder of a peer.

        Args:
            peer: its name, which is remembered, too.
            path: the folder.
            entries: names, and whether each is a folder.
            whole: these are all entries, and replace those before.
            at: the Unix time in s of a look at what the peer shares; 0 if it was none.
        """
        self._change(lambda known: known.add_entries(peer, path, entries, whole, at))

    def _read(self) -> _Known:
        with suppress(OSError, RemoteProtocolError, ValueError):
            text = read_private(self.path, BYTES_MAX + 1)
            if len(text) <= BYTES_MAX:
                return _Known.of_fields(parse_object(text))
        return _Known()

    def _change(self, change: Callable[[_Known], None]) -> None:
        if not self.path.parent.is_dir():
            return
        known = self._read()
        before = known.text()
        change(known)
        after = known.text()
        while len(after) > BYTES_MAX and known.folders:
            known.forget_oldest()
            after = known.text()
        if after != before and len(after) <= BYTES_MAX:
            with suppress(OSError):
                replace_private(self.path, after, durable=False)


class _Known:
    """The content of the file, the latest first."""

    def __init__(self) -> None:
        self.names: Names = {}
        self.folders: dict[str, Names] = {}
        self.addresses: dict[str, Addresses] = {}
        self.looked: dict[str, int] = {}  # Unix time in s of the last look at the shares of a peer

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> _Known:
        """Read the members.

        Raises:
            ValueError: they are not as `text` writes them.
        """
        known = cls()
        names, folders = fields.get("names"), fields.get("folders")
        addresses, looked = fields.get("addresses", {}), fields.get("looked", {})
        if (
            fields.get("v") != VERSION
            or not isinstance(names, list)
            or not isinstance(folders, dict)
            or not isinstance(addresses, dict)
            or not isinstance(looked, dict)
            or not all(type(at) is int and at >= 0 for at in looked.values())
        ):
            raise ValueError
        if not all(isinstance(name, str) and is_name(name) for name in names):
            raise ValueError
        known.names = dict.fromkeys(names[:NAMES_MAX], True)
        for key, entries in list(folders.items())[:FOLDERS_MAX]:
            peer, _, path = key.partition(":")
            if not is_name(peer) or not isinstance(entries, list):
                raise ValueError
            parse_path(path)
            known.folders[key] = dict(map(_entry, entries[:ENTRIES_MAX]))
        for key, places in list(addresses.items())[:KEYS_MAX]:
            if not _KEY.fullmatch(key) or not isinstance(places, list):
                raise ValueError
            known.addresses[key] = dict(map(_place, places[:ADDRESSES_MAX]))
        known.looked = {peer: at for peer, at in looked.items() if _key(peer, ()) in known.folders}
        return known

    def text(self) -> bytes:
        """Return a line of JSON that `of_fields` reads."""
        folders = {
            key: [f"{name}/" if is_folder else name for name, is_folder in entries.items()]
            for key, entries in self.folders.items()
        }
        addresses = {
            key: [[str(address), at] for address, at in places.items()]
            for key, places in self.addresses.items()
        }
        fields = {
            "v": VERSION,
            "names": list(self.names),
            "folders": folders,
            "addresses": addresses,
            "looked": {
                peer: at for peer, at in self.looked.items() if _key(peer, ()) in self.folders
            },
        }
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"

    def add_names(self, names: Names) -> None:
        """Add names; known ones keep their order unless there are too many."""
        if len(self.names | names) > NAMES_MAX:
            self.names = dict(list((names | self.names).items())[:NAMES_MAX])
        else:
            self.names |= names

    def add_entries(
        self, peer: str, path: RemotePath, entries: Mapping[str, bool], whole: bool, at: int = 0
    ) -> None:
        """Add these entries, or replace the known ones."""
        self.add_names({peer: True})
        key = _key(peer, path)
        before = {} if whole else self.folders.get(key, {})
        legal = {name: kind for name, kind in entries.items() if component_fault(name) is None}
        now = dict(list((legal | before).items())[:ENTRIES_MAX])
        is_same = now == self.folders.get(key)
        if at and not path and not (is_same and 0 <= at - self.looked.get(peer, 0) < LOOK_STEP):
            self.looked[peer] = at
        if key in self.folders and now == before:
            return
        self.folders.pop(key, None)
        self.folders = dict(list({key: now, **self.folders}.items())[:FOLDERS_MAX])

    def add_address(self, key: str, address: PeerAddress, at: int) -> None:
        """Make this address the latest one of a key."""
        before = self.addresses.get(key, {})
        if next(iter(before), None) == address and 0 <= at - before[address] < SEEN_STEP:
            return
        now = {address: at} | {each: then for each, then in before.items() if each != address}
        self.addresses.pop(key, None)
        latest = {key: dict(list(now.items())[:ADDRESSES_MAX]), **self.addresses}
        self.addresses = dict(list(latest.items())[:KEYS_MAX])

    def forget(self, peer: str) -> None:
        """Remove the folders of a peer."""
        self.folders = {
            key: names for key, names in self.folders.items() if key.partition(":")[0] != peer
        }

    def forget_oldest(self) -> None:
        """Remove the half of the folders that was seen longest ago."""
        self.folders = dict(list(self.folders.items())[: len(self.folders) // 2])


def _key(peer: str, path: RemotePath) -> str:
    return f"{peer}:{format_path(path)}"


def _place(pair: object) -> tuple[PeerAddress, int]:
    match pair:
        case [str(address), int(at)] if at >= 0:
            return PeerAddress.parse(address), at
    raise ValueError


def _entry(text: object) -> tuple[str, bool]:
    name = text.removesuffix("/") if isinstance(text, str) else ""
    if component_fault(name) is not None:
        raise ValueError
    return name, text != name
