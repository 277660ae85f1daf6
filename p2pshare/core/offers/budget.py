"""The budget of an accepted offer: what may be listed and fetched is what was offered, and no more.

A receiver decides by what an offer says. The sender lists the files later, and could list others. So each listed entry
is counted against the offer.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.errors import OfferChanged
from p2pshare.wire.offers.messages import OfferItem
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import EntryKind


class OfferBudget:
    """What may still come of one offer."""

    def __init__(
        self,
        name: str,
        items: Sequence[OfferItem],
        more_items: int,
        *,
        files: int,
        folders: int,
        size: int,
    ) -> None:
        """Begin with the whole offer.

        Args:
            name: the sender's, for errors.
            items: those that the offer names.
            more_items: number of others.
            files: those of the whole offer.
            folders: those of the whole offer.
            size: bytes of the whole offer.
        """
        self._name = name
        self._kinds = {each.name: each.kind for each in items}
        self._more_items = more_items
        self._more: set[str] = set()  # names that the offer had no room for, up to `more_items`
        self._left = {EntryKind.FILE: files, EntryKind.FOLDER: folders}
        self._bytes = size

    @property
    def folders_left(self) -> int:
        """Number of folders that were offered and not listed yet."""
        return self._left[EntryKind.FOLDER]

    def add(self, path: RemotePath, kind: EntryKind, size: int = 0) -> None:
        """Count an entry of the listing; each is counted once.

        Args:
            path: below the folder of the offer.
            kind: of the entry.
            size: bytes of a file.

        Raises:
            OfferChanged: it is more than was offered, or something else.
        """
        self._expect_item(path, kind)
        self._left[kind] -= 1
        if self._left[kind] < 0:
            raise OfferChanged(name=self._name, reason=f"there are more {kind.value}s")
        self.grow(size)

    def grow(self, size: int) -> None:
        """Count `size` bytes more: those by which a file is larger than it was listed.

        Raises:
            OfferChanged: they are more than were offered.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise OfferChanged(name=self._name, reason="there are more bytes")

    def _expect_item(self, path: RemotePath, kind: EntryKind) -> None:
        name, is_top = path[0], len(path) == 1
        known = self._kinds.get(name)
        if known is None and name not in self._more:
            if len(self._more) >= self._more_items:
                raise OfferChanged(name=self._name, reason=f"{name!r} was not offered")
            self._more.add(name)
        elif is_top and known is not None and known is not kind:
            raise OfferChanged(name=self._name, reason=f"{name!r} is a {kind.value} now")
