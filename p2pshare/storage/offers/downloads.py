"""The downloads that a user wants from the peer, as the ledger keeps them."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pshare.errors import TooManyJobs
from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.offers.rows import read, written
from p2pshare.wire.paths import RemotePath, format_path, parse_path

LIVE_MAX = 1000  # downloads that are not over
OVER_MAX = 500  # downloads that are over; of more, the one that was changed first is dropped

_COLUMNS = (
    "id, peer, paths, folder, is_update, is_forced, created, state, why, why_text, updated, files, files_done,"
    " files_failed, bytes, bytes_done, fetched, failures"
)
_PUT = f"INSERT OR REPLACE INTO downloads ({_COLUMNS}, place) VALUES ({', '.join('?' * 19)})"
_DELETE = "DELETE FROM downloads WHERE id = ? AND place = ?"
_ALL = f"SELECT {_COLUMNS} FROM downloads WHERE place = ? ORDER BY created, id"
_LIVE = "SELECT count(*) FROM downloads WHERE place = ? AND state IN ('waiting', 'paused')"
_OVER = (
    "SELECT id FROM downloads WHERE place = ? AND state NOT IN ('waiting', 'paused')"
    " ORDER BY updated DESC, id LIMIT -1 OFFSET ?"
)


class DownloadState(enum.Enum):
    """What the user and the peer have made of a download; whether it runs at the moment is not kept."""

    WAITING = "waiting"
    """It is in the queue, or runs."""
    PAUSED = "paused"
    """The user has paused it."""
    DONE = "done"
    FAILED = "failed"
    """Something is missing, and will not come by itself."""
    CANCELLED = "cancelled"
    """The user has ended it."""

    @property
    def is_live(self) -> bool:
        """Whether it is not over."""
        return self in (DownloadState.WAITING, DownloadState.PAUSED)


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or folder that did not come."""

    path: str
    why: str
    """A code."""
    text: str
    """A sentence."""


@dataclass(frozen=True, slots=True)
class KeptDownload:
    """A download that the user wants."""

    id: str
    peer: str
    """The name of the person."""
    paths: tuple[RemotePath, ...]
    folder: Path
    created: int
    """Unix time in s."""
    is_update: bool = False
    """As in a `JobItem`."""
    is_forced: bool = False
    """Whether existing files are replaced."""
    state: DownloadState = DownloadState.WAITING
    why: str | None = None
    """A code that says why it has failed."""
    why_text: str | None = None
    """The same as a sentence."""
    updated: int = 0
    """When the state changed, as Unix time in s."""
    files: int = 0
    """Files that were listed, so far."""
    files_done: int = 0
    files_failed: int = 0
    bytes: int = 0
    """Bytes of the listed files."""
    bytes_done: int = 0
    fetched: int = 0
    """Bytes that have arrived, in all tries."""
    failures: tuple[Failure, ...] = ()
    """The first of the files that failed."""


class KeptDownloads:
    """The rows of downloads. All methods block, and raise `LedgerUnusable`."""

    def __init__(
        self, ledger: Ledger, *, live_max: int = LIVE_MAX, over_max: int = OVER_MAX
    ) -> None:
        """Keep downloads in an open ledger: `live_max` that are not over, and `over_max` that are."""
        self._ledger = ledger
        self._live_max = live_max
        self._over_max = over_max

    def all(self) -> tuple[KeptDownload, ...]:
        """Return all downloads, the oldest first."""
        return self._ledger.rows(_download, _ALL, (self._ledger.place,))

    def put(self, downloads: Iterable[KeptDownload]) -> tuple[str, ...]:
        """Write new or changed downloads; return the IDs of those that were dropped to make room.

        Raises:
            TooManyJobs: too many are not over; nothing is written.
        """
        place = self._ledger.place
        with self._ledger.changing() as database:
            ((before,),) = database.execute(_LIVE, (place,))
            database.executemany(_PUT, [(*_row(each), place) for each in downloads])
            ((live,),) = database.execute(_LIVE, (place,))
            if live > max(before, self._live_max):
                raise TooManyJobs(count=before)
            dropped = tuple(each for (each,) in database.execute(_OVER, (place, self._over_max)))
            self.remove(dropped)
        return dropped

    def remove(self, ids: Iterable[str]) -> None:
        """Drop downloads."""
        place = self._ledger.place
        with self._ledger.changing() as database:
            database.executemany(_DELETE, [(each, place) for each in ids])


def _row(kept: KeptDownload) -> tuple[object, ...]:
    return (
        kept.id,
        kept.peer,
        written([format_path(each) for each in kept.paths]),
        written(str(kept.folder)),  # which may be no Unicode text
        kept.is_update,
        kept.is_forced,
        kept.created,
        kept.state.value,
        kept.why,
        kept.why_text,
        kept.updated,
        kept.files,
        kept.files_done,
        kept.files_failed,
        kept.bytes,
        kept.bytes_done,
        kept.fetched,
        written([(each.path, each.why, each.text) for each in kept.failures]),
    )


def _download(
    download_id: str,
    peer: str,
    paths: str,
    folder: str,
    is_update: int,
    is_forced: int,
    created: int,
    state: str,
    why: str | None,
    why_text: str | None,
    updated: int,
    *rest: Any,
) -> KeptDownload:
    files, files_done, files_failed, size, bytes_done, fetched, failures = rest
    return KeptDownload(
        download_id,
        peer,
        tuple(parse_path(each) for each in read(paths)),
        Path(read(folder)),
        created,
        bool(is_update),
        bool(is_forced),
        DownloadState(state),
        why,
        why_text,
        updated,
        files,
        files_done,
        files_failed,
        size,
        bytes_done,
        fetched,
        tuple(Failure(*each) for each in read(failures)),
    )
