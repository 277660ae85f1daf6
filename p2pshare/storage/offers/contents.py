"""The root of files on this disk, as a receipt has it, to compare the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from p2pshare.errors import CannotRead
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.storage.shares.digest_cache import BlockCache
from p2pshare.storage.shares.folder_index import FolderIndex
from p2pshare.storage.shares.offer_roots import offer_roots
from p2pshare.storage.shares.outgoing_files import OutgoingFile, WholeOutgoing
from p2pshare.storage.shares.paths import Unavailable
from p2pshare.storage.shares.rules import Rules
from p2pshare.storage.shares.tree import ShareTree
from p2pshare.wire.keys import KEY_SIZE, PublicKey
from p2pshare.wire.offers.messages import mount_of
from p2pshare.wire.offers.receipts import OfferFiles
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import EntryKind

_OFFER = "a" * 16
_NOBODY = Viewer("nobody", PublicKey(bytes(KEY_SIZE)))


@dataclass(frozen=True, slots=True)
class Contents:
    """What files and folders contain, as an offer of them would."""

    files: int
    size: int
    """Bytes."""
    root: bytes
    """The `OfferFiles.root` of the files."""


def contents_of(
    paths: Sequence[Path], rules: Rules, stop: Callable[[], bool] = lambda: False
) -> Contents:
    """Read files and folders, and return what an offer of them contains. This may take long.

    Args:
        paths: absolute.
        rules: what is left out of folders.
        stop: called before each file; the result is then of no use.

    Raises:
        WrongUsage: a path cannot be offered.
        CannotRead: something in it cannot be read, or not be offered.
    """
    tree = ShareTree((), BlockCache(None), FolderIndex(None))
    tree.mount(_OFFER, offer_roots(paths, rules=rules), lambda _: True)
    found = OfferFiles()
    for path in _files(tree):
        if stop():
            break
        (file,) = tree.open_many(_NOBODY, [(mount_of(_OFFER), *path)])
        if isinstance(file, Unavailable):
            raise CannotRead(path=format_path(path), reason=file.why.value.replace("_", " "))
        found.add(path, file.size, _root_of(file, path))
    return Contents(len(found), found.size, found.root())


def _files(tree: ShareTree) -> Iterator[RemotePath]:
    """Yield the path of each file in the offer."""
    after: RemotePath = ()
    more = True
    while more:
        page = tree.list(_NOBODY, (mount_of(_OFFER),), after, recursive=True)
        for each in page.omitted:
            raise CannotRead(path=format_path(each.path), reason=each.why.value.replace("_", " "))
        yield from (each.path for each in page.entries if each.kind is EntryKind.FILE)
        more, after = page.more, page.entries[-1].path if page.entries else ()


def _root_of(file: WholeOutgoing | OutgoingFile, path: RemotePath) -> bytes:
    if isinstance(file, WholeOutgoing):
        return file.root
    with closing(file):
        try:
            return file.finish()
        except Unavailable as error:
            reason = f"it cannot be read, or is being written ({error.why.value})"
            raise CannotRead(path=format_path(path), reason=reason) from None
