"""Shared parts of the tests of incoming files: an open folder, small blocks, and a disk that fails on demand."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage import durability
from p2pshare.storage.incoming import partial_file as incoming
from p2pshare.storage.incoming import present_files as presence
from p2pshare.storage.incoming import small_files as whole_files
from p2pshare.storage.incoming.announcement import Announced, Origin, Place, WholeFile
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.incoming.present_files import Absent, Present, Sought
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.wire import blocks
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.keys import PublicKey

BLOCK = 64  # bytes of a block in these tests
ORIGIN = Origin(PublicKey(b"k" * 32), ("photos", "cat.jpg"))
PLACE = Place((), "cat.jpg")
MTIME = 1_700_000_000_123_456_789  # nanoseconds
HIDDEN = ".p2pshare-"


def content_of(size: int, seed: int = 1) -> bytes:
    """Bytes of which no two blocks are alike."""
    return bytes((seed + at // BLOCK * 7 + at % BLOCK) % 251 for at in range(size))


def pieces_of(content: bytes) -> list[bytes]:
    return [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]


def root_for(content: bytes) -> bytes:
    return root_of(len(content), map(digest_of, pieces_of(content)))


def announced(content: bytes, *, executable: bool = False, version: str = "v1") -> Announced:
    return Announced(len(content), MTIME, executable, version)


def whole(
    content: bytes, place: Place = PLACE, origin: Origin | None = None, *, overwrite: bool = False
) -> WholeFile:
    """A small file that has come as it was announced."""
    of = Origin(ORIGIN.key, (*place.folder, place.name)) if origin is None else origin
    digests = tuple(map(digest_of, pieces_of(content)))
    return WholeFile(place, of, announced(content), content, digests, root_for(content), overwrite)


class Failing:
    """A system call that fails the nth time, and from then on if told so."""

    def __init__(
        self, call: Callable[..., Any], code: int, nth: int = 1, *, lasting: bool = False
    ) -> None:
        self._call = call
        self._code = code
        self._left = nth
        self._lasting = lasting
        self.failed = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left == 0 or (self._lasting and self._left < 0):
            self.failed += 1
            raise OSError(self._code, os.strerror(self._code))
        return self._call(*args, **kwargs)


class IncomingTestCase(SynchronousTestCase):
    """A folder that is open, with blocks of `BLOCK` bytes."""

    def setUp(self) -> None:
        for module in (blocks, incoming, presence, whole_files):
            self.patch(module, "BLOCK_SIZE", BLOCK)
        for call in ("fsync", "fdatasync"):  # only a loss of power would show whether they work
            self.patch(os, call, lambda fd: None)
        self.patch(durability, "sync_file_system", lambda fd: None)
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        self.outside = Path(self.mktemp()).absolute()
        self.outside.mkdir()
        self.records = SavedFiles(self.path.with_suffix(".sqlite"))
        self.addCleanup(self.records.close)
        self.folder = IncomingFolder.open(self.path, saved=self.records)
        self.addCleanup(self.folder.close)

    def names(self) -> list[str]:
        """All that there is, folders and hidden files too."""
        return sorted(str(each.relative_to(self.path)) for each in self.path.rglob("*"))

    def begin(self, content: bytes, place: Place = PLACE, **options: Any) -> Incoming:
        part = self.folder.begin(place, ORIGIN, announced(content), **options)
        self.addCleanup(part.close)
        return part

    def resume(self, place: Place = PLACE, **options: Any) -> Incoming | None:
        part = self.folder.resume(place, ORIGIN, **options)
        if part is not None:
            self.addCleanup(part.close)
        return part

    def write(self, part: Incoming, content: bytes, indexes: Sequence[int] | None = None) -> None:
        pieces = pieces_of(content)
        for index in range(len(pieces)) if indexes is None else indexes:
            part.write_block(index, pieces[index], digest_of(pieces[index]))

    def fetch(self, content: bytes, place: Place = PLACE, **options: Any) -> Path:
        """A whole file, block by block."""
        part = self.begin(content, place, **options)
        self.write(part, content)
        return part.finish(root_for(content))

    def find(
        self,
        content: bytes,
        place: Place = PLACE,
        *,
        origin: Origin = ORIGIN,
        version: str = "v1",
        overwrite: bool = False,
        folder: IncomingFolder | None = None,
    ) -> Path | None:
        """Look for a file as a job does, whose sharer tells its root; a new job, unless there is a `folder`."""
        if folder is None:
            with IncomingFolder.open(self.path, saved=self.records) as folder:
                return self.find(
                    content,
                    place,
                    origin=origin,
                    version=version,
                    overwrite=overwrite,
                    folder=folder,
                )
        sought = Sought(place, origin, len(content), version, overwrite)
        found = folder.look_up(sought)
        if isinstance(found, Absent) and found.candidates:
            sought = replace(sought, place=found.place, is_claimed=found.is_claimed)
            root = found.root or root_for(content)
            found = folder.settle(sought, found.candidates, root)
        return found.path if isinstance(found, Present) else None

    def only_part(self, suffix: str = ".part") -> Path:
        (found,) = self.path.rglob(f"{HIDDEN}*{suffix}")
        return found

    def assert_untouched(self) -> None:
        """Nothing was written outside."""
        self.assertEqual(os.listdir(self.outside), [])
