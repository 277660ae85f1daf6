"""What is known to be on the disk of a file that is not complete.

::

    journal = header || record*
    header  = "p2pshare part 2\\n" || length of the rest, but for the check, as 4 bytes
              || size (8) || seconds of mtime (8, signed) || nanoseconds of mtime (4) || executable (1)
              || length of version (2) || length of peer (1) || version || peer || identity
              || check (32)
    record  = index of a block (8) || digest (32) || check (8)

All numbers are big-endian. The check of the header is BLAKE3 of all that is before it; that of a record is the start
of BLAKE3(check of the header || index || digest), so that no record is one of another journal. A block gets its record
when it is durable. Reading ends at the first record that is cut off or damaged; what is read is a claim, and the blocks
are hashed again before they count. The name of the peer is for people to read: the identity has its key.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from p2pshare.storage.incoming.announcement import Announced, rows_of
from p2pshare.storage.incoming.publishing import NEW_FILE
from p2pshare.wire.blocks import DIGEST_SIZE, FILE_SIZE_MAX, block_count, block_length
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import NANOSECONDS, VERSION_MAX

MAGIC = b"p2pshare part 2\n"
HEADER_MAX = 64 * 1024  # bytes: two paths of 4 KiB are far less
RECORD_SIZE = 8 + DIGEST_SIZE + 8  # bytes
RECORDS_READ = 4096  # at once
PEER_MAX = 255  # bytes of the name of a peer

_LENGTH = struct.Struct(">I")
_ANNOUNCED = struct.Struct(">QqIBHB")
_BLOCK = struct.Struct(f">Q{DIGEST_SIZE}s")
_CHECK_SIZE = 32
_OPENING = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Summary:
    """What a journal says of a partial file."""

    peer: str
    """The name of the sharer, as it was called then."""
    path: RemotePath
    """Of the file there."""
    name: str
    """Of the file here."""
    size: int
    """Bytes."""
    verified: int
    """Bytes of the blocks that were verified and durable."""


@dataclass(frozen=True, slots=True)
class _Header:
    announced: Announced
    peer: str
    identity: bytes
    size: int
    """Bytes of the header."""


class PartJournal:
    """An open journal. Not thread-safe; the partial file's lock is its lock, too."""

    def __init__(self, fd: int, check: bytes, size: int) -> None:
        self._fd = fd
        self._check = check
        self._size = size

    @classmethod
    def create(
        cls, folder_fd: int, name: str, identity: bytes, announced: Announced, peer: str = ""
    ) -> PartJournal:
        """Make a journal without records; it is durable with the first `sync`, if its folder is synced.

        Args:
            folder_fd: the folder, open.
            name: of the journal.
            identity: of the file; see `identity_of`.
            announced: what is said of it.
            peer: the name of its sharer.

        Raises:
            OSError: it cannot be made.
        """
        header = _header(identity, announced, peer)
        fd = os.open(name, NEW_FILE, 0o600, dir_fd=folder_fd)
        try:
            write_at(fd, header, 0)
        except BaseException:
            os.close(fd)
            os.unlink(name, dir_fd=folder_fd)
            raise
        return cls(fd, header[-_CHECK_SIZE:], len(header))

    @classmethod
    def reopen(
        cls, folder_fd: int, name: str, identity: bytes
    ) -> tuple[PartJournal, Announced] | None:
        """Open a journal; None if it is damaged, or another file's.

        Raises:
            OSError: there is none, or it cannot be read.
        """
        fd = os.open(name, _OPENING, dir_fd=folder_fd)
        try:
            beginning = os.pread(fd, HEADER_MAX, 0)
            header = _read_header(beginning)
            if header is None or header.identity != identity:
                os.close(fd)
                return None
        except BaseException:
            os.close(fd)
            raise
        announced, size = header.announced, header.size
        return cls(fd, beginning[size - _CHECK_SIZE : size], size), announced

    def records(self, count: int) -> Iterator[tuple[int, bytes]]:
        """The blocks, of `count`, that were durable, in the order in which they became so; once, after `reopen`.

        Raises:
            OSError: it cannot be read.
        """
        while records := os.pread(self._fd, RECORDS_READ * RECORD_SIZE, self._size):
            for at in range(0, len(records), RECORD_SIZE):
                record = records[at : at + RECORD_SIZE]
                if len(record) < RECORD_SIZE or record != self._record(record[: _BLOCK.size]):
                    os.ftruncate(self._fd, self._size)
                    return
                self._size += RECORD_SIZE
                index, digest = _BLOCK.unpack_from(record)
                if index < count:
                    yield index, digest

    def write(self, blocks: Iterable[tuple[int, bytes]]) -> None:
        """Note blocks, by index and digest, that are durable. After an error, the next `write` takes the same place.

        Raises:
            OSError: it cannot be written.
        """
        records = b"".join(self._record(_BLOCK.pack(*block)) for block in blocks)
        write_at(self._fd, records, self._size)
        self._size += len(records)

    def sync(self) -> None:
        """Make durable what was noted.

        Raises:
            OSError: the disk fails.
        """
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def _record(self, block: bytes) -> bytes:
        return _record(self._check, block)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at a place in a file.

    Raises:
        OSError: it cannot be; some may be there.
    """
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.pwrite(fd, view[written:], offset + written)


def summary_of(beginning: bytes, rest: Iterable[bytes]) -> Summary | None:
    """Return what a journal says, for people to read; None if it is none. Its blocks are not hashed again.

    Args:
        beginning: its first `HEADER_MAX` bytes.
        rest: what follows.
    """
    header = _read_header(beginning)
    if header is None:
        return None
    try:
        path, _, (name,) = rows_of(header.identity)
    except ValueError:
        return None
    size, blocks = header.announced.size, set()
    check, records = beginning[header.size - _CHECK_SIZE : header.size], beginning[header.size :]
    count = block_count(size)
    for more in (b"", *rest):
        records += more
        whole = len(records) // RECORD_SIZE * RECORD_SIZE
        for at in range(0, whole, RECORD_SIZE):
            index, _ = _BLOCK.unpack_from(records, at)
            end = at + RECORD_SIZE
            if records[at:end] != _record(check, records[at : at + _BLOCK.size]):
                break
            if index < count:
                blocks.add(index)
        records = records[whole:]
    verified = sum(block_length(size, index) for index in blocks)
    return Summary(header.peer, path, name, size, verified)


def _record(check: bytes, block: bytes) -> bytes:
    return block + blake3(check + block).digest(8)


def _header(identity: bytes, announced: Announced, peer: str) -> bytes:
    version, name = announced.version.encode(), peer.encode()[:PEER_MAX]
    rest = (
        _ANNOUNCED.pack(
            announced.size,
            *divmod(announced.mtime_ns, NANOSECONDS),
            announced.executable,
            len(version),
            len(name),
        )
        + version
        + name
        + identity
    )
    checked = MAGIC + _LENGTH.pack(len(rest)) + rest
    return checked + blake3(checked).digest()


def _read_header(beginning: bytes) -> _Header | None:
    start = len(MAGIC) + _LENGTH.size
    if not beginning.startswith(MAGIC) or len(beginning) < start:
        return None
    (length,) = _LENGTH.unpack_from(beginning, len(MAGIC))
    end = start + length
    if (
        length < _ANNOUNCED.size
        or beginning[end : end + _CHECK_SIZE] != blake3(beginning[:end]).digest()
    ):
        return None
    size, seconds, rest, executable, version_size, peer_size = _ANNOUNCED.unpack_from(
        beginning, start
    )
    at = start + _ANNOUNCED.size + version_size
    version = beginning[at - version_size : at].decode("utf-8", "replace")
    peer = beginning[at : at + peer_size].decode("utf-8", "replace")
    if size > FILE_SIZE_MAX or len(version) > VERSION_MAX:
        return None
    announced = Announced(size, seconds * NANOSECONDS + rest, bool(executable), version)
    return _Header(announced, peer, beginning[at + peer_size : end], end + _CHECK_SIZE)
