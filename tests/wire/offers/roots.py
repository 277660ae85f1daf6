"""The root of files of an offer, for tests."""

from __future__ import annotations

from collections.abc import Iterable

from p2pshare.wire.offers.receipts import OfferFiles
from p2pshare.wire.paths import RemotePath


def offer_root(files: Iterable[tuple[RemotePath, int, bytes]]) -> bytes:
    """Return the root of files: for each its path in the offer, its size and its root."""
    found = OfferFiles()
    for path, size, root in files:
        found.add(path, size, root)
    return found.root()
