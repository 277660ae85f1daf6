"""What a user wants to get, and under which name: judged before anybody is asked for it.

`parse_items` reads it for sessions, in which a peer has any files and folders; `parse_wanted` for the classic protocol,
in which it has a text and a picture.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Self

from p2pshare.errors import RemoteProtocolError, WrongUsage
from p2pshare.names import check_name
from p2pshare.peer.fetching import Order
from p2pshare.peer.job_plan import JobItem
from p2pshare.pictures.encoding import check_picture_name
from p2pshare.storage.destination import resolve_destination, safe_name
from p2pshare.storage.share import PICTURE_SUFFIXES, SHARED_STEM, TEXT_SUFFIXES
from p2pshare.wire.classic import Kind
from p2pshare.wire.paths import RemotePath, parse_path
from p2pshare.wire.registration import PeerAddress

FROM_YOURSELF = "You cannot get files from yourself."

_SUFFIXES = {Kind.TEXT: ".txt", Kind.PICTURE: ".png"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file of one peer, and where it is to go."""

    peer: str
    kind: Kind
    folder: Path
    name: str

    @classmethod
    def of(cls, peer: str, kind: Kind, dest: str | None, cwd: Path) -> Self:
        """Decide where a file goes; `dest` is as for `resolve_destination`.

        Raises:
            WrongUsage: it cannot go there, or not under this name.
        """
        default_name = safe_name(peer + _SUFFIXES[kind])
        folder, name = resolve_destination(dest, default_name, cwd)
        if kind is Kind.PICTURE:
            name = check_picture_name(name)
        return cls(peer, kind, folder, name)

    def order(self, address: PeerAddress, *, overwrite: bool = False) -> Order:
        """The order to a peer whose address is known now."""
        return Order(self.peer, address, self.kind, self.folder, self.name, overwrite)


def parse_items(
    words: Sequence[str], own_name: str | None, cwd: Path, *, overwrite: bool
) -> dict[str, list[JobItem]]:
    """Read `PEER:PATH… [DEST]`; what is wanted of each peer, in the order of the words.

    Raises:
        WrongUsage: it cannot be understood, or not be done.
    """
    items, dest = _split(words)
    parsed = [_parse_remote(item) for item in items]
    if any(peer == own_name for peer, _ in parsed):
        raise WrongUsage(reason=FROM_YOURSELF)
    folder, name = _destination(parsed, dest, cwd)
    jobs: dict[str, list[JobItem]] = {}
    for peer, path in parsed:
        jobs.setdefault(peer, []).append(JobItem(path, folder, name, overwrite))
    return jobs


def parse_where(word: str) -> tuple[str, RemotePath]:
    """Read `PEER`, `PEER:` or `PEER:PATH`; a slash at either end of the path says nothing.

    Raises:
        WrongUsage: it is none of these.
    """
    peer, _, text = word.partition(":")
    check_name(peer)
    try:
        return peer, parse_path(text.strip("/"))
    except RemoteProtocolError as error:
        reason = str(error.fields["reason"]).replace("a component of the path", "a part of it")
        raise WrongUsage(reason=f"{text!r} cannot be a path at {peer}: {reason}.") from None


def _destination(
    parsed: Sequence[tuple[str, RemotePath]], dest: str | None, cwd: Path
) -> tuple[Path, str | None]:
    """The folder to which all goes, and what the only item is to be called there, if that was said."""
    if dest is not None and os.path.isdir(cwd / dest):
        return cwd / dest, None
    if dest is not None and (len(parsed) > 1 or _is_glob(parsed[0][1])):
        what = f"{len(parsed)} items need" if len(parsed) > 1 else "A glob needs"
        raise WrongUsage(reason=f"{what} a folder to go to, and {dest!r} is none: make it first.")
    folder, name = resolve_destination(dest, "", cwd)
    return folder, name or None


def _is_glob(path: RemotePath) -> bool:
    return any(character in component for component in path for character in "*?[")


def parse_wanted(words: Sequence[str], own_name: str | None, cwd: Path) -> list[Wanted]:
    """Read `PEER:FILE… [DEST]`, for the classic protocol.

    Raises:
        WrongUsage: it cannot be understood, or not be done.
    """
    items, dest = _split(words)
    wanted = [_parse_item(item) for item in items]
    if any(peer == own_name for peer, _ in wanted):
        raise WrongUsage(reason=FROM_YOURSELF)
    if len(wanted) > 1 and dest is not None and not os.path.isdir(cwd / dest):
        raise WrongUsage(
            reason=f"{len(wanted)} files need a folder to go to, and {dest!r} is none: make it first."
        )
    return [Wanted.of(peer, kind, dest, cwd) for peer, kind in wanted]


def _split(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The items, and DEST."""
    items = list(words)
    if len(items) > 1 and not _is_item(items[-1]):
        return items[:-1], items[-1]
    return items, None


def _parse_remote(item: str) -> tuple[str, RemotePath]:
    peer, colon, _ = item.partition(":")
    if not colon:
        raise WrongUsage(
            reason=f"{item!r} does not say which file: write {item}:PATH, as `p2pshare ls {item}` shows them."
        )
    peer, path = parse_where(item)
    if not path:
        raise WrongUsage(
            reason=f"{item!r} does not say which file: `p2pshare ls {peer}` shows what there is, and '{peer}:*' is all"
            " of it."
        )
    return peer, path


def _is_item(word: str) -> bool:
    """Whether a word is meant as PEER:FILE; a path with a colon can be written with a slash before it."""
    peer, colon, _ = word.partition(":")
    return bool(colon) and "/" not in peer


def _parse_item(word: str) -> tuple[str, Kind]:
    peer, colon, file = word.partition(":")
    if not colon:
        raise WrongUsage(
            reason=f"{word!r} does not say which file: write {word}:{SHARED_STEM}.txt for the text,"
            f" or {word}:{SHARED_STEM}.jpg for the picture."
        )
    check_name(peer)
    path = PurePath(file)
    if str(path) == f"{SHARED_STEM}{path.suffix}":
        if path.suffix.lower() in TEXT_SUFFIXES:
            return peer, Kind.TEXT
        if path.suffix.lower() in PICTURE_SUFFIXES:
            return peer, Kind.PICTURE
    raise WrongUsage(
        reason=f"{file!r} cannot be got from {peer}: write {peer}:{SHARED_STEM}.txt for the text,"
        f" or {peer}:{SHARED_STEM}.jpg for the picture, which is all that the classic protocol has."
    )
