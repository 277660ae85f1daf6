"""Receipts: a receiver's signature under what has arrived of an offer, and the root that stands for its files.

::

    root = BLAKE3("p2pshare-offer-v1" NUL || for each file, in the order of the bytes of their paths:
                  length of the path (4 bytes) || path in UTF-8 || size (8 bytes) || root of the file (32 bytes))

A path begins at the offer's folder: its first component is the name of an item, and components are joined by slashes.
Numbers are big-endian. The root of a file is that of `wire.blocks`. Folders have no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from blake3 import blake3

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import DIGEST_SIZE
from p2pshare.wire.json_fields import Codec, Fields, matching, whole
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import ID_FORM
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.statements import KEY, Statement
from p2pshare.wire.strict_json import text

DOMAIN = b"p2pshare-offer-v1\0"
"""What the input of a root begins with, so that it is no other hash of this project."""
_SIZE = 8  # bytes of a size


class OfferFiles:
    """The files of an offer, for their root: about 120 bytes of memory for each."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []  # path, size and root of each, as they are hashed
        self.size = 0
        """Bytes of all files."""

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._rows)

    def add(self, path: RemotePath, size: int, root: bytes) -> None:
        """Add a file: its path in the offer, its size and its root."""
        self._rows.append(format_path(path).encode() + size.to_bytes(_SIZE) + root)
        self.size += size

    def root(self) -> bytes:
        """Return the root of all files."""
        self._rows.sort()  # by path: a size begins with a zero, which is less than any byte of a path
        total = blake3(DOMAIN)
        for row in self._rows:
            total.update((len(row) - _SIZE - DIGEST_SIZE).to_bytes(4) + row)
        return total.digest()


def _read_root(fields: Fields, key: str) -> bytes:
    value = text(fields, key, 2 * DIGEST_SIZE)
    try:
        root = bytes.fromhex(value)
    except ValueError:
        root = b""
    if len(root) != DIGEST_SIZE or root.hex() != value:
        raise RemoteProtocolError(
            reason=f"the {key} is not {2 * DIGEST_SIZE} digits of 0-9 and a-f"
        )
    return root


_Key = Annotated[PublicKey, KEY]
_Root = Annotated[bytes, Codec(_read_root, bytes.hex)]


@dataclass(frozen=True, slots=True)
class OfferReceipt(Statement):
    """The statement of a receiver that it has all files of an offer."""

    KIND = "offer-receipt"

    offer: Annotated[str, matching(*ID_FORM)]
    """The sender's id of the offer."""
    sender: _Key
    key: _Key
    """The receiver's, which signs."""
    files: Annotated[int, whole()]
    bytes: Annotated[int, whole()]
    root: _Root
    """The root of the files; see `OfferFiles`."""
    time: Annotated[int, whole()]
    """Unix time in s, by the receiver's clock."""
