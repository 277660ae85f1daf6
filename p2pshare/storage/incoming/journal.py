"""The journal of a partial file: the blocks that are durable.

Theory of operation. A journal lets a part survive a kill at the cost of the blocks written since the last checkpoint:
half a second, or 32 MiB.

* A block is journalled after its data is synced (`publishing`, step 2). So the journal never claims more than the disk
  has, whatever the order in which the disk writes the two files.
* Records are appended, 48 bytes each, and only `fdatasync` makes them durable. A kill in the middle of a write leaves a
  truncated record. Reading stops there, and the next record overwrites it.
* Each record is bound to its journal by a check that includes the header's check. A record of an older journal, which
  the disk shows after a crash in a block that was reused, does not match.
* The header names the file by its identity (sharer's key, remote path, local place), so a journal never counts for
  another file. It keeps what the sharer announced: a changed version makes the blocks worthless.
* A record is a claim, not a proof. The blocks are hashed again when the part is resumed, since anybody may have written
  to it.
* A journal that cannot be read is discarded with its part: without it, nobody can tell which blocks arrived.

::

    journal = header || record*
    header  = "p2pshare part 2\\n" || length of the rest without the check (4)
              || size (8) || seconds of mtime (8, signed) || nanoseconds of mtime (4) || executable (1)
              || length of version (2) || length of peer (1) || version || peer || identity
              || check (32)
    record  = index of a block (8) || digest (32) || check (8)

All numbers are big-endian; lengths are in bytes. The check of the header is BLAKE3 of everything before it. That of a
record is the start of BLAKE3(check of the header || index || digest). The name of the peer is for people to read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from blake3 import blake3

from p2pshare.storage.incoming.announcement import Announced, rows_of
from p2pshare.storage.incoming.publishing import NEW_FILE
from p2pshare.wire.blocks import DIGEST_SIZE, FILE_SIZE_MAX, block_count, block_length
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import NANOSECONDS, VERSION_MAX

MAGIC = b"p2pshare part 2\n"
HEADER_MAX = 64 * 1024  # bytes; two paths take 8 KiB at most
RECORD_SIZE = 8 + DIGEST_SIZE + 8  # bytes
RECORDS_READ = 4096  # records per read
PEER_MAX = 255  # bytes of a peer's name

_LENGTH = struct.Struct(">I")
_ANNOUNCED = struct.Struct(">QqIBHB")
_BLOCK = struct.Struct(f">Q{DIGEST_SIZE}s")
_CHECK_SIZE = 32
_OPENING = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Summary:
    """The content of a journal, for people to read."""

    peer: str
    """The name of the sharer at that time."""
    path: RemotePath
    """The remote path."""
    name: str
    """The local name."""
    size: int
    """Bytes."""
    verified: int
    """Bytes of durable, verified blocks."""


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
        """Create a journal without records. It is durable after the first `sync` and a sync of its folder.

        Args:
            folder_fd: the open folder.
            name: the name of the journal.
            identity: from `identity_of`.
            announced: what the sharer says of the file.
            peer: the name of the sharer.

        Raises:
            OSError: it cannot be created.
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
        """Open a journal; return None if it is damaged or belongs to another file.

        Raises:
            OSError: it does not exist, or cannot be read.
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
        """Yield the durable blocks below `count`, in the order of their records; once, after `reopen`.

        Raises:
            OSError: it cannot be read.
        """

        def chunks() -> Iterator[bytes]:
            at = self._size
            while chunk := os.pread(self._fd, RECORDS_READ * RECORD_SIZE, at):
                at += len(chunk)
                yield chunk

        for index, digest in _valid_records(self._check, chunks()):
            self._size += RECORD_SIZE
            if index < count:
                yield index, digest
        os.ftruncate(self._fd, self._size)

    def write(self, blocks: Iterable[tuple[int, bytes]]) -> None:
        """Append durable blocks by index and digest. After an error, the next `write` overwrites what this one left.

        Raises:
            OSError: it cannot be written.
        """
        records = b"".join(_record(self._check, _BLOCK.pack(*block)) for block in blocks)
        write_at(self._fd, records, self._size)
        self._size += len(records)

    def sync(self) -> None:
        """Make the records durable.

        Raises:
            OSError: the disk fails.
        """
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the journal."""
        os.close(self._fd)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at an offset.

    Raises:
        OSError: it failed; a part may be written.
    """
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.pwrite(fd, view[written:], offset + written)


def summary_of(beginning: bytes, rest: Iterable[bytes]) -> Summary | None:
    """Return the summary of a journal, without hashing its blocks; None if it is not a journal.

    Args:
        beginning: its first `HEADER_MAX` bytes.
        rest: the bytes after them.
    """
    header = _read_header(beginning)
    if header is None:
        return None
    try:
        path, _, (name,) = rows_of(header.identity)
    except ValueError:
        return None
    size = header.announced.size
    check = beginning[header.size - _CHECK_SIZE : header.size]
    records = _valid_records(check, chain((beginning[header.size :],), rest))
    blocks = {index for index, _ in records if index < block_count(size)}
    verified = sum(block_length(size, index) for index in blocks)
    return Summary(header.peer, path, name, size, verified)


def _valid_records(check: bytes, chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the index and digest of each record before the first truncated or damaged one."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        whole = len(rest) // RECORD_SIZE * RECORD_SIZE
        for at in range(0, whole, RECORD_SIZE):
            record = rest[at : at + RECORD_SIZE]
            if record != _record(check, record[: _BLOCK.size]):
                return
            yield _BLOCK.unpack_from(record)
        rest = rest[whole:]


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
