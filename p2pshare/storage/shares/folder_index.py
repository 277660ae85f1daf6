"""The sorted names in large folders: a database for each of them, in a folder of the data folder.

**Why.** A listing goes out in pages, in order, and a folder is read in no order. For a folder of up to `SCAN_MAX`
names, each page reads and sorts all of them. A folder of a million names is read once, and then its pages come from the
database.

**Written once.** A database is written under another name, synced and renamed, and only read from then on. So it is
complete or absent, needs no locks, and is deleted if it is damaged. It contains only names, and names that were left
out; the properties of files are looked up when they are listed.

**Validity.** A database is valid while the folder's times are unchanged. Times have ticks, so a folder that has just
changed is read after a pause (`SETTLING`). A folder that changes all the time would be read again for each page. So
what was read is used for as long again as reading took, changes or not. The file name of a database contains a hash of
the rules of the share (`Scope.key`), so new rules make another one.
"""

from __future__ import annotations

import bisect
import heapq
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from p2pshare.storage.cache_database import ReportOnce
from p2pshare.storage.durability import sync_path
from p2pshare.storage.file_times import is_settled
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.shares.rules import Scope
from p2pshare.wire.paths import COMPONENT_MAX, component_fault
from p2pshare.wire.transfer_messages import OMITTED_MAX, Omitted

FOLDER_NAME = "folders"
SCAN_MAX = 5000  # names up to which a folder is read again for each page
FOLDERS_MAX = 64
BYTES_MAX = 1024 * 1024 * 1024  # of all databases
BATCH = 1000  # names written in one transaction
SETTLING = 0.1  # seconds to wait after a change, until a later one gets another time
RETRY_AFTER = 60.0  # seconds until the next try after a failed write
HIDDEN_MAX = 5  # hidden names of a folder that are kept, and excluded ones; the others are counted

NO_RULES = Scope()

_PAGE = 4096  # bytes of a database
_INDEX = re.compile(r"[0-9a-f]+-[0-9a-f]+-[0-9a-f]+\.sqlite")
_MAKING = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BUILDING = f"""
PRAGMA page_size = {_PAGE};
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -4096;
CREATE TABLE folder (mtime_ns TEXT, ctime_ns TEXT, settled INTEGER, left_out TEXT);
CREATE TABLE names (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE read (name TEXT);
"""
_SORT = "INSERT OR IGNORE INTO names SELECT name FROM read ORDER BY name"
_NAMES = "SELECT name FROM names WHERE name > ? ORDER BY name LIMIT ?"


@dataclass(slots=True)
class LeftOut:
    """Names in one folder that are not listed."""

    hidden: int = 0
    """Number of hidden names, which viewers are not told of."""
    hidden_names: list[str] = field(default_factory=list)
    """The first `HIDDEN_MAX` of them; they may contain half surrogate pairs."""
    excluded: int = 0
    """Number of names that patterns of the owner leave out, which viewers are not told of either."""
    excluded_names: list[str] = field(default_factory=list)
    """The first `HIDDEN_MAX` of them."""
    omitted: list[tuple[str, Omitted]] = field(default_factory=list)
    """The first `OMITTED_MAX` names that viewers are told of, in Unicode text."""
    unnamed: int = 0
    """Number of further ones."""

    def hide(self, name: str) -> None:
        """Count a hidden name."""
        self.hidden += 1
        if len(self.hidden_names) < HIDDEN_MAX:
            self.hidden_names.append(name)

    def exclude(self, name: str) -> None:
        """Count an excluded name."""
        self.excluded += 1
        if len(self.excluded_names) < HIDDEN_MAX:
            self.excluded_names.append(name)

    def omit(self, name: str, why: Omitted) -> None:
        """Count another name."""
        if len(self.omitted) < OMITTED_MAX:
            self.omitted.append((_unicode(name), why))
        else:
            self.unnamed += 1

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        omitted = [[name, why.value] for name, why in self.omitted]
        unseen = [self.hidden, self.hidden_names, self.excluded, self.excluded_names]
        return json.dumps([*unseen, omitted, self.unnamed])

    @classmethod
    def from_json(cls, told: str) -> LeftOut:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is damaged.
        """
        match json.loads(told):
            case [
                int(hidden),
                list(names),
                int(excluded),
                list(others),
                list(omitted),
                int(unnamed),
            ]:
                rows = [(str(name), Omitted(why)) for name, why in omitted]
                some = list(map(str, names)), list(map(str, others))
                return cls(hidden, some[0], excluded, some[1], rows, unnamed)
        raise ValueError("the names that were left out")


Names = tuple[list[str], bool, LeftOut]
"""The names, whether there are more, and what was left out of the whole folder."""


class FolderIndex:
    """Pages of folders of any size. Usable from any thread."""

    def __init__(
        self,
        path: Path | None,
        *,
        scan_max: int = SCAN_MAX,
        folders_max: int = FOLDERS_MAX,
        bytes_max: int = BYTES_MAX,
        wall_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Keep databases in a folder, which is made when it is first needed.

        Args:
            path: the folder, for this index alone; None reads a large folder again for each page.
            scan_max: names up to which a folder is read again for each page.
            folders_max: folders that are kept; the one listed longest ago is evicted.
            bytes_max: of all databases.
            wall_ns: nanoseconds since 1970, as the times of folders have them.
            clock: seconds that never run backwards.
            sleep: waits `SETTLING` seconds, at most once for each change.
            on_trouble: as for `CacheDatabase`.
        """
        self._path = path
        self._scan_max = scan_max
        self._folders_max = folders_max
        self._bytes_max = bytes_max
        self._wall_ns = wall_ns
        self._clock = clock
        self._sleep = sleep
        self._report = ReportOnce(on_trouble)
        self._building = threading.Lock()
        self._retry = float("-inf")  # time of the next try after a failed write
        self._fresh: dict[str, float] = {}  # until when a database is used despite changes

    def names(self, folder: int, beyond: str, count: int, scope: Scope = NO_RULES) -> Names:
        """Return the names after `beyond` in an open folder, whether there are more, and the names that are left out.

        Left out are names by the rules, names that are not UTF-8 or too long, and everything that is neither a file nor
        a folder nor a link.

        Args:
            folder: its descriptor, which no other thread uses meanwhile.
            beyond: "" for the first names; Unicode text.
            count: number of names, if there are so many; of a small folder all are returned.
            scope: the rules that hold in the folder.

        Raises:
            OSError: the folder cannot be read.
        """
        status = os.fstat(folder)
        name = f"{status.st_dev:x}-{status.st_ino:x}-{scope.key}.sqlite"
        looked_up = self._look_up(name, status, beyond, count)
        if looked_up is None:
            left_out = LeftOut()
            with closing(_read(folder, left_out, scope)) as reading:
                first = sorted(islice(reading, self._scan_max + 1))
            if len(first) <= self._scan_max:
                self._forget(name)
                return first[bisect.bisect_right(first, beyond) :], False, left_out
            del first
            looked_up = self._build_and_look_up(folder, name, beyond, count, scope)
        if looked_up is None:
            left_out = LeftOut()
            with closing(_read(folder, left_out, scope)) as reading:
                found = heapq.nsmallest(count + 1, (each for each in reading if each > beyond))
        else:
            found, left_out = looked_up
        return found[:count], len(found) > count, left_out

    def _build_and_look_up(
        self, folder: int, name: str, beyond: str, count: int, scope: Scope
    ) -> tuple[list[str], LeftOut] | None:
        """Read the folder, and return the result of `_look_up`; None if the database cannot be written."""
        if self._path is None:
            return None
        with self._building:
            if not is_settled(os.fstat(folder).st_mtime_ns, self._wall_ns()):
                self._sleep(SETTLING)
            status = os.fstat(folder)
            found = self._look_up(name, status, beyond, count)  # another thread may have built it
            if found is not None:
                return found
            began = self._clock()
            if began < self._retry:
                return None
            try:
                self._build(self._path, folder, name, status, scope)
            except (sqlite3.Error, OSError) as error:
                self._report(plain_reason(error) if isinstance(error, OSError) else str(error))
                self._retry = self._clock() + RETRY_AFTER
                return None
            ended = self._clock()
            self._fresh[name] = ended + (ended - began)
            return self._look_up(name, status, beyond, count)

    def _build(
        self, path: Path, folder: int, name: str, status: os.stat_result, scope: Scope
    ) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        settled = is_settled(status.st_mtime_ns, self._wall_ns())
        unfinished = path / f"{name}.new"
        try:
            os.close(os.open(unfinished, _MAKING, 0o600))
            with closing(sqlite3.connect(unfinished, isolation_level=None)) as database:
                database.executescript(_BUILDING)
                database.execute(f"PRAGMA max_page_count = {max(1, self._bytes_max // _PAGE)}")
                left_out = LeftOut()
                with closing(_read(folder, left_out, scope)) as reading:
                    while batch := [(each,) for each in islice(reading, BATCH)]:
                        database.execute("BEGIN")
                        database.executemany("INSERT INTO read VALUES (?)", batch)
                        database.execute("COMMIT")
                row = (*_times(status), settled, left_out.to_json())
                database.execute("INSERT INTO folder VALUES (?, ?, ?, ?)", row)
                database.execute(_SORT)
            sync_path(unfinished)
            os.replace(unfinished, path / name)
        finally:
            unfinished.unlink(missing_ok=True)
        self._make_room(path, name)

    def _look_up(
        self, name: str, status: os.stat_result, beyond: str, count: int
    ) -> tuple[list[str], LeftOut] | None:
        """Return up to `count` + 1 names after `beyond`, and the names left out; None if the database is absent or
        outdated.
        """
        if self._path is None:
            return None
        path = self._path / name
        try:
            os.utime(path)  # marks when it was last used
        except OSError:
            return None
        try:
            with closing(_open(path)) as database:
                ((mtime_ns, ctime_ns, settled, told),) = database.execute("SELECT * FROM folder")
                unchanged = (mtime_ns, ctime_ns) == _times(status)
                if not settled and is_settled(status.st_mtime_ns, self._wall_ns()):
                    unchanged = False
                if not unchanged and self._clock() >= self._fresh.get(name, float("-inf")):
                    return None
                left_out = LeftOut.from_json(told)
                rows = database.execute(_NAMES, (beyond, count + 1))
                return [each for (each,) in rows], left_out
        except (sqlite3.Error, ValueError, TypeError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CANTOPEN:
                return None  # another thread has just evicted it
            self._report(f"an index was damaged ({error})")
            self._forget(name)
            return None

    def _make_room(self, path: Path, kept: str) -> None:
        """Evict databases beyond the bounds, and remove other files."""
        sizes: list[tuple[float, int, str]] = []
        with os.scandir(path) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.name != kept:
                    used = status.st_mtime if _INDEX.fullmatch(entry.name) else float("-inf")
                    sizes.append((used, status.st_size, entry.name))
        total = sum(size for _, size, _ in sizes) + (path / kept).stat().st_size
        number = len(sizes) + 1
        for used, size, name in sorted(sizes):
            if used > float("-inf") and number <= self._folders_max and total <= self._bytes_max:
                return
            self._forget(name)
            number, total = number - 1, total - size

    def _forget(self, name: str) -> None:
        self._fresh.pop(name, None)
        if self._path is not None:
            with suppress(OSError):
                (self._path / name).unlink()


def _read(folder: int, left_out: LeftOut, scope: Scope) -> Generator[str, None, None]:
    """Yield the names in a folder that can be listed; the others go to `left_out`."""
    has_patterns = scope.has_patterns
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and scope.is_hidden(entry.name):
                left_out.hide(entry.name)
            elif has_patterns and scope.is_excluded(
                entry.name, is_folder=entry.is_dir(follow_symlinks=False)
            ):
                left_out.exclude(entry.name)
            elif component_fault(entry.name) is not None:
                left_out.omit(entry.name, Omitted.NAME)
            elif (
                entry.is_file(follow_symlinks=False)
                or entry.is_dir(follow_symlinks=False)
                or entry.is_symlink()
            ):
                yield entry.name
            else:
                left_out.omit(entry.name, Omitted.SPECIAL)


def _unicode(name: str) -> str:
    """Return a name as a component of a path: bytes that are not UTF-8 are written out, and a long end is cut off."""
    told = os.fsencode(name).decode("utf-8", "backslashreplace")
    return told.encode()[:COMPONENT_MAX].decode("utf-8", "ignore")


def _times(status: os.stat_result) -> tuple[str, str]:
    """Return the times of a folder as text, since SQLite has integers of 63 bits only."""
    return str(status.st_mtime_ns), str(status.st_ctime_ns)


def _open(path: Path) -> sqlite3.Connection:
    place = "".join(f"%{byte:02x}" for byte in os.fsencode(path))
    return sqlite3.connect(f"file:{place}?mode=ro&immutable=1", uri=True)
