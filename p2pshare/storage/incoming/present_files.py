"""Whether a file is here already, by its content, and the local name of a file that is not.

Theory of operation. A listing tells the size and the version of a remote file. Names, sizes and times prove nothing, so
a local file counts as the remote one in two cases only:

1. A record (`saved_files`) says that it was saved for this remote file in this version, and it is unchanged.
2. Its root, from a record or from reading it, is the root that the sharer tells.

As a rule the record alone decides, at the cost of one `stat`. Otherwise `look_up` names candidates: files of this size
with this name or a numbered one. The caller asks the sharer for the root, for which no content is sent, and `settle`
compares.

An *update* also replaces what was fetched before. A file that differs from the remote one is replaced if its record
says that it is as it was saved. One without a record, or that was written to since, is the user's: it is kept
(`ChangedHere`). The fingerprint goes with the new file to where it is published, so that a change in the meantime is
noticed, too.

Each file of a job claims its local name when it is looked up, in the order of the listing. So no local file stands for
two remote ones, and names that become equal here get the same numbers in each run, whatever arrives first.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2pshare.errors import CannotSave, ChangedHere
from p2pshare.storage.incoming.announcement import Origin, Place
from p2pshare.storage.incoming.claimed_names import Claims
from p2pshare.storage.incoming.folder_handles import FolderHandles
from p2pshare.storage.incoming.local_names import LocalNames
from p2pshare.storage.incoming.publishing import COPIES_MAX, READ_FILE, numbered, status_of
from p2pshare.storage.incoming.saved_files import SavedFiles, SavedRecord, fingerprint_of, key_of
from p2pshare.storage.open_file_limit import is_none_left
from p2pshare.wire.blocks import BLOCK_SIZE, digest_of, root_of

RECORDS_MAX = 256  # records in memory


class Stopped(Exception):  # noqa: N818 - it is named after what happened
    """`stop` returned True while a file was read."""


@dataclass(frozen=True, slots=True)
class Sought:
    """A remote file, as listed or announced."""

    place: Place
    """Its local place."""
    origin: Origin
    size: int
    """Bytes."""
    version: str
    """Empty if unknown."""
    overwrite: bool = False
    """Whether it replaces a file that has the name of the place."""
    is_claimed: bool = False
    """Whether the number of its place is reserved for it in this job."""
    update: bool = False
    """Whether it replaces what was fetched before and is unchanged."""
    replaces: bytes | None = None
    """As in `Absent`, if it is claimed."""


@dataclass(frozen=True, slots=True)
class Present:
    """A file that is here."""

    path: Path
    names: tuple[str, ...]
    """Its name and those of its folders, beneath the folder of the job."""
    root: bytes


@dataclass(frozen=True, slots=True)
class Absent:
    """A file that is not here, as far as is known."""

    place: Place
    """Its place."""
    candidates: tuple[str, ...] = ()
    """Names of files to be compared by content."""
    root: bytes = b""
    """The root that its content must have, if known; then the sharer need not be asked."""
    is_claimed: bool = False
    """As in `Sought`. A file that may overwrite others has a claim at once, others when there are no candidates."""
    replaces: bytes | None = None
    """The fingerprint of the file that it replaces, empty for any; None if there is none, or nothing is claimed."""


class Presence:
    """Looks for the files of a job beneath one folder. Calls block, and may come from several threads."""

    def __init__(
        self,
        path: Path,
        handles: FolderHandles,
        names: LocalNames,
        saved: SavedFiles,
        claims: Claims,
    ) -> None:
        """Args:
        path: the folder, as the user calls it.
        handles: its open folders.
        names: its local names.
        saved: the records.
        claims: the names that this job has taken.
        """
        self._path = path
        self._handles = handles
        self._names = names
        self._saved = saved
        self._claims = claims
        self._real = os.path.realpath(path)
        self._lock = threading.Lock()
        self._unwritten: list[tuple[bytes, SavedRecord]] = []

    def records(self, sought: Sequence[Sought]) -> list[SavedRecord | None]:
        """Return the records of files; `look_up` checks whether they are still valid."""
        keys = list(map(self._key, sought))
        found = self._saved.find(keys)
        return list(map(found.get, keys))

    def look_up(self, sought: Sought, record: SavedRecord | None) -> Present | Absent:
        """Look for a file by its record and by names; read one block at most.

        Args:
            sought: the file.
            record: from `records`.

        Raises:
            CannotSave: no name is free.
            OSError: the folder cannot be read.
        """
        try:
            with self._handles.using(sought.place.folder, make=False) as folder_fd:
                return self._look_up(folder_fd, sought, record)
        except (FileNotFoundError, NotADirectoryError):
            return self._absent(None, sought, None)

    def settle(
        self,
        sought: Sought,
        candidates: Sequence[str],
        root: bytes,
        stop: Callable[[], bool] = lambda: False,
    ) -> Present | Absent:
        """Return the candidate that has the root of the remote file; if there is none, claim a name for the file.

        Args:
            sought: the file; its version is the one that has the root.
            candidates: from `look_up`.
            root: from the sharer.
            stop: called before each block is read.

        Raises:
            Stopped: `stop` returned True.
            CannotSave: no name is free.
            OSError: the folder cannot be read.
        """
        try:
            with self._handles.using(sought.place.folder, make=False) as folder_fd:
                (record,) = self.records([sought])
                valid = self._valid(folder_fd, sought, record)
                for name in candidates:
                    found = self._compared(folder_fd, sought, name, root, valid, stop)
                    if found is not None:
                        return found
                return self._absent(folder_fd, sought, record, stop)
        except (FileNotFoundError, NotADirectoryError):
            return self._absent(None, sought, None)

    def moved(self, path: Path) -> None:
        """Report files by another path of the folder."""
        self._path = path

    def give_back(self, place: Place) -> None:
        """Give back the claimed name of a file, which is then to be looked up again."""
        self._claims.give_back(self._claim(place, numbered(place.name, place.number)))

    def record(self, saved: Iterable[tuple[Sought, str, os.stat_result, bytes]]) -> None:
        """Record files that were saved just now: the file, its local name, its status and its root."""
        now_ns = self._saved.wall_ns()
        self._remember(
            [
                (self._key(sought), SavedRecord.of(name, status, root, sought.version, now_ns))
                for sought, name, status, root in saved
                if sought.version
            ]
        )
        self.flush()

    def flush(self) -> None:
        """Write the records that are in memory."""
        with self._lock:
            unwritten, self._unwritten = self._unwritten, []
        self._saved.store(unwritten)

    def _remember(self, records: Sequence[tuple[bytes, SavedRecord]]) -> None:
        """Keep records in memory until there are many, which are written faster. A kill costs as many comparisons."""
        with self._lock:
            self._unwritten += records
            is_due = len(self._unwritten) >= RECORDS_MAX
        if is_due:
            self.flush()

    def _look_up(
        self, folder_fd: int, sought: Sought, record: SavedRecord | None
    ) -> Present | Absent:
        if sought.overwrite and not sought.is_claimed:
            absent = self._absent(folder_fd, sought, record)
            place = absent.place
            try:
                claimed = replace(sought, place=place, is_claimed=True, replaces=absent.replaces)
                return self._look_up(folder_fd, claimed, record)
            except OSError:  # it will be looked up again
                self.give_back(place)
                raise
        is_claimed, replaces = sought.is_claimed, sought.replaces
        candidates: list[str] = []
        valid = self._valid(folder_fd, sought, record)
        if valid is not None:
            candidates.append(valid.name)
            if sought.version and valid.version == sought.version:
                if not valid.is_sure and sought.size > BLOCK_SIZE:
                    return Absent(sought.place, (valid.name,), valid.root, is_claimed, replaces)
                found = self._compared(folder_fd, sought, valid.name, valid.root, valid)
                if found is not None:
                    return found
        candidates += self._candidates(folder_fd, sought)
        names = tuple(dict.fromkeys(candidates))
        if names and not sought.size:
            return self.settle(sought, names, root_of(0, ()))
        if names:
            return Absent(sought.place, names, is_claimed=is_claimed, replaces=replaces)
        return self._absent(folder_fd, sought, record)

    def _valid(
        self, folder_fd: int, sought: Sought, record: SavedRecord | None
    ) -> SavedRecord | None:
        """Return the record if it is still valid, and its name is not that of another file."""
        if record is None or not self._may_be(sought, record.name):
            return None
        status = status_of(folder_fd, record.name)
        if status is None or status.st_size != sought.size:
            return None
        return record if fingerprint_of(status) == record.fingerprint else None

    def _candidates(self, folder_fd: int, sought: Sought) -> Iterator[str]:
        """Yield the names of files of this size that no other file of this job has claimed."""
        own = sought.place.number
        for number in (own,) if sought.is_claimed else range(COPIES_MAX + 1):
            name = numbered(sought.place.name, number)
            status = status_of(folder_fd, name)
            if status is None:
                return
            is_file = stat.S_ISREG(status.st_mode)
            if is_file and status.st_size == sought.size and self._may_be(sought, name):
                yield name

    def _may_be(self, sought: Sought, name: str) -> bool:
        """Whether a file may have a name: its own, or one that no other file of this job has claimed."""
        if sought.is_claimed:
            return name == numbered(sought.place.name, sought.place.number)
        return not self._claims.has(self._claim(sought.place, name))

    def _compared(
        self,
        folder_fd: int,
        sought: Sought,
        name: str,
        root: bytes,
        record: SavedRecord | None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Present | None:
        """Return a candidate if it has this root and may be the file; `record` is the valid record."""
        if record is not None and record.name == name and record.is_sure:
            if record.root != root:
                return None
            is_new = record.version != sought.version
            if is_new:
                record = replace(record, version=sought.version)
        else:
            known_ns = self._saved.wall_ns()
            read = read_root(folder_fd, name, sought.size, stop)
            if read is None or read[0] != root:
                return None
            is_new = True
            record = SavedRecord.of(name, read[1], root, sought.version, known_ns)
        if not sought.is_claimed and not self._claims.take(self._claim(sought.place, name)):
            return None
        if is_new and sought.version:
            self._remember([(self._key(sought), record)])
        names = (*sought.place.folder, name)
        return Present(self._path.joinpath(*names), names, root)

    def _absent(
        self,
        folder_fd: int | None,
        sought: Sought,
        record: SavedRecord | None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Absent:
        """Claim the first name that is free or may be overwritten.

        Raises:
            ChangedHere: an update finds a file that is not as it was saved.
        """
        if sought.is_claimed:
            return Absent(sought.place, is_claimed=True, replaces=sought.replaces)
        if sought.update and not sought.overwrite and folder_fd is not None and record is not None:
            replaced = self._replaced(folder_fd, sought, record, stop)
            if replaced is not None:
                return replaced
        clashes = False
        path = self._path.joinpath(*sought.place.folder, sought.place.name)
        for number in range(COPIES_MAX + 1):
            name = numbered(sought.place.name, number)
            is_free = folder_fd is None or status_of(folder_fd, name) is None
            if is_free or sought.overwrite or sought.update:
                if self._claims.take(self._claim(sought.place, name)):
                    if not is_free and not sought.overwrite:
                        raise ChangedHere(path=path.with_name(name))
                    place = replace(sought.place, number=number, clashes=clashes)
                    return Absent(place, is_claimed=True, replaces=None if is_free else b"")
                clashes = True
        raise CannotSave(path=path, reason=f"{COPIES_MAX} copies of it exist already")

    def _replaced(
        self,
        folder_fd: int,
        sought: Sought,
        record: SavedRecord,
        stop: Callable[[], bool],
    ) -> Absent | None:
        """Claim the name of the file that was saved, if it is as it was saved, whatever its size."""
        status = status_of(folder_fd, record.name)
        if status is None or fingerprint_of(status) != record.fingerprint:
            return None
        numbers = range(COPIES_MAX + 1)
        own = (each for each in numbers if numbered(sought.place.name, each) == record.name)
        if (number := next(own, None)) is None:
            return None
        if not record.is_sure:
            read = read_root(folder_fd, record.name, status.st_size, stop)
            if read is None or read[0] != record.root:
                return None
        if not self._claims.take(self._claim(sought.place, record.name)):
            return None
        place = replace(sought.place, number=number)
        return Absent(place, is_claimed=True, replaces=record.fingerprint)

    def _claim(self, place: Place, name: str) -> str:
        return f"{self._real}/{self._names.key(place, name)}"

    def _key(self, sought: Sought) -> bytes:
        place = "/".join((self._real, *sought.place.folder, sought.place.name))
        return key_of(os.fsencode(place), sought.origin)


def read_root(
    folder_fd: int, name: str, size: int, stop: Callable[[], bool] = lambda: False
) -> tuple[bytes, os.stat_result] | None:
    """Return the root and the status of a regular file of `size` bytes; None if it is none, or changes meanwhile.

    Raises:
        Stopped: `stop` returned True before a block.
        OSError: too many files are open.
    """
    try:
        fd = os.open(name, READ_FILE, dir_fd=folder_fd)
    except OSError as error:
        if is_none_left(error):
            raise
        return None
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode) or before.st_size != size:
            return None
        digests = []
        for at in range(0, size, BLOCK_SIZE):
            if stop():
                raise Stopped
            digests.append(digest_of(os.pread(fd, BLOCK_SIZE, at)))
        is_same = fingerprint_of(os.fstat(fd)) == fingerprint_of(before)
        return (root_of(size, digests), before) if is_same else None
    except OSError:
        return None
    finally:
        os.close(fd)
