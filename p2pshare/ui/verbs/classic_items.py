"""What a user wants to get in the classic protocol, in which a peer has a text and a picture, and under which name.

It is judged before anybody is asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Self

from p2pshare.classic.datagrams import Kind
from p2pshare.classic.download import Order
from p2pshare.errors import WrongUsage
from p2pshare.names import read_name
from p2pshare.pictures.encoding import check_picture_name
from p2pshare.storage.incoming.destination import is_folder, resolve_destination, safe_name
from p2pshare.storage.shares.arguments import PICTURE_SUFFIXES, SHARED_STEM, TEXT_SUFFIXES
from p2pshare.ui.verbs.items import FROM_YOURSELF, expect_no_slash, split_words
from p2pshare.wire.addresses import PeerAddress

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


def parse_wanted(words: Sequence[str], own_name: str | None, cwd: Path) -> list[Wanted]:
    """Read `PEER:FILE… [DEST]`, for the classic protocol.

    Raises:
        WrongUsage: it cannot be understood, or not be done.
    """
    items, dest = split_words(words)
    wanted = [_parse_item(item) for item in items]
    if any(peer == own_name for peer, _ in wanted):
        raise WrongUsage(reason=FROM_YOURSELF)
    if len(wanted) > 1 and dest is not None and not is_folder(dest, cwd):
        raise WrongUsage(
            reason=f"{len(wanted)} files need a folder to go to, and {dest!r} is none: make it first."
        )
    return [Wanted.of(peer, kind, dest, cwd) for peer, kind in wanted]


def _parse_item(word: str) -> tuple[str, Kind]:
    peer, colon, file = word.partition(":")
    if not colon:
        expect_no_slash(word)
        raise WrongUsage(
            reason=f"{word!r} does not say which file: write {word}:{SHARED_STEM}.txt for the text,"
            f" or {word}:{SHARED_STEM}.jpg for the picture."
        )
    peer = read_name(peer)
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
