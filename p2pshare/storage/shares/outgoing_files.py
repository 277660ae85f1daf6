"""A shared file that is open to be sent, and a small one that was read at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from p2pshare.storage.file_times import may_repeat, wire_time
from p2pshare.storage.shares.digest_cache import BlockCache, CachedFile
from p2pshare.storage.shares.paths import Opened, Unavailable, faults
from p2pshare.wire.blocks import (
    BLOCK_SIZE,
    DIGEST_SIZE,
    block_count,
    block_length,
    digest_of,
    root_of,
)
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import Fault

VERSION_SIZE = 32  # characters

_CHUNK = 1024  # digests of a chunk
_UNKNOWN = bytes(DIGEST_SIZE)


@dataclass(frozen=True, slots=True)
class WholeOutgoing:
    """A file of at most one block that was read and closed."""

    path: RemotePath
    size: int
    """Bytes."""
    mtime_ns: int
    """Nanoseconds since 1970."""
    executable: bool
    version: str
    data: bytes
    digest: bytes | None
    """Digest of its block; None if the file is empty."""
    root: bytes


class OutgoingFile:
    """A file of any size that is read block by block. Calls block, and may come from several threads.

    Every method raises `Unavailable` if the file was changed, cannot be read, or is closed.
    """

    def __init__(
        self, path: RemotePath, opened: Opened, cache: BlockCache, local: bytes, now_ns: int
    ) -> None:
        """Own an open file.

        Args:
            path: from the name of the share, or of the offered file or folder, on.
            opened: the file.
            cache: the digests of files that were sent before.
            local: the path on this machine, for the cache.
            now_ns: nanoseconds since 1970, at most as late as `opened` was examined.
        """
        status = opened.status
        self.path = path
        self.size = status.st_size
        """Bytes."""
        self.mtime_ns = wire_time(status.st_mtime_ns)
        """Nanoseconds since 1970."""
        self.executable = is_executable(status)
        self.version = version_of(path, status, now_ns)
        """A text that differs as soon as the content differs."""
        self._fd = opened.fd
        self._status = status
        self._cache = cache
        self._cached = CachedFile(
            local, self.size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns
        )
        count = block_count(self.size)
        self._may_store = count > 1 and cache.may_store(
            count * DIGEST_SIZE, status.st_mtime_ns, status.st_ctime_ns
        )
        self._digests = _Digests()
        self._looked_up = count <= 1  # hashing one block is cheaper than looking it up
        self._lock = threading.Lock()
        self._users = 1  # the owner, and reads under way
        self._closed = False

    def read_block(self, index: int) -> tuple[bytes, bytes]:
        """Return the bytes of a block and their digest, which is not computed if the cache has it."""
        known = self._known(index)
        data = self._read(index)
        return data, known or self._digest(index, data)

    def digest(self, index: int) -> bytes:
        """Return the digest of a block that is not sent."""
        return self._known(index) or self._digest(index, self._read(index))

    def finish(self) -> bytes:
        """Return the root; this reads blocks that were not read, and stores the digests for the next time."""
        count = block_count(self.size)
        for index in range(count):
            self.digest(index)
        with self._reading() as fd:
            self._check(fd)
        digests = self._digests.joined(count)
        if self._may_store:
            self._may_store = False
            self._cache.store(self._cached, digests)
        return root_of(self.size, (digests,))

    def confirm(self) -> bytes:
        """See that the file has not changed; return no root."""
        with self._reading() as fd:
            self._check(fd)
        return b""

    @contextmanager
    def stream(self) -> Iterator[BinaryIO]:
        """Yield the file for code that reads as it likes. At the end of the block it is checked for changes."""
        with self._reading() as fd, open(os.dup(fd), "rb") as file:
            file.seek(0)
            yield file
            self._check(fd)

    def close(self) -> None:
        """Close the file after reads that are under way. May be called again; does not block."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._release()

    def _known(self, index: int) -> bytes | None:
        if not 0 <= index < block_count(self.size):
            raise IndexError(index)
        if not self._looked_up:
            found = self._cache.find(self._cached)
            self._looked_up = True
            if found is not None:
                self._may_store = False
                self._digests.fill(found)
        return self._digests.get(index)

    def _digest(self, index: int, data: bytes) -> bytes:
        digest = digest_of(data)
        self._digests.set(index, digest)
        return digest

    def _read(self, index: int) -> bytes:
        with self._reading() as fd:
            data = read_exactly(fd, block_length(self.size, index), index * BLOCK_SIZE)
            self._check(fd)
            return data

    def _check(self, fd: int) -> None:
        check_unchanged(self._status, os.fstat(fd))

    @contextmanager
    def _reading(self) -> Iterator[int]:
        """Return the descriptor, which stays open meanwhile: a closed number may become another file's."""
        with self._lock:
            if self._closed:
                raise Unavailable(Fault.UNREADABLE)
            self._users += 1
        try:
            with faults():
                yield self._fd
        finally:
            with self._lock:
                self._release()

    def _release(self) -> None:
        self._users -= 1
        if not self._users:
            os.close(self._fd)


class _Digests:
    """Digests by block, in chunks that are allocated when they are needed, since a file may be sparse and huge."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def get(self, index: int) -> bytes | None:
        chunk = self._chunks.get(index // _CHUNK)
        if chunk is None:
            return None
        at = index % _CHUNK * DIGEST_SIZE
        digest = bytes(chunk[at : at + DIGEST_SIZE])
        return None if digest == _UNKNOWN else digest

    def set(self, index: int, digest: bytes) -> None:
        chunk = self._chunks.setdefault(index // _CHUNK, bytearray(_CHUNK * DIGEST_SIZE))
        at = index % _CHUNK * DIGEST_SIZE
        chunk[at : at + DIGEST_SIZE] = digest

    def fill(self, digests: bytes) -> None:
        size = _CHUNK * DIGEST_SIZE
        for number, at in enumerate(range(0, len(digests), size)):
            self._chunks[number] = bytearray(digests[at : at + size].ljust(size, b"\0"))

    def joined(self, count: int) -> bytes:
        chunks = (self._chunks[number] for number in range(-(-count // _CHUNK)))
        return b"".join(chunks)[: count * DIGEST_SIZE]


def read_whole(path: RemotePath, opened: Opened, now_ns: int) -> WholeOutgoing:
    """Read a file of at most one block; it stays open.

    Args:
        path: from the name of the share, or of the offered file or folder, on.
        opened: the file.
        now_ns: as for `OutgoingFile`.

    Raises:
        Unavailable: it was changed meanwhile.
        OSError: it cannot be read.
    """
    status = opened.status
    data = read_exactly(opened.fd, status.st_size, 0)
    check_unchanged(status, os.fstat(opened.fd))
    digest = digest_of(data) if data else None
    return WholeOutgoing(
        path,
        status.st_size,
        wire_time(status.st_mtime_ns),
        is_executable(status),
        version_of(path, status, now_ns),
        data,
        digest,
        root_of(len(data), (digest,) if digest else ()),
    )


def is_executable(status: os.stat_result) -> bool:
    """Whether its owner may execute the file."""
    return bool(status.st_mode & 0o100)


def version_of(path: RemotePath, status: os.stat_result, now_ns: int) -> str:
    """Return a text that differs as soon as the content of the file at a path differs, and reveals nothing else.

    A file that has just changed may change again without a trace in its times, so its version is valid only once.

    Args:
        path: the remote path.
        status: of the file.
        now_ns: nanoseconds since 1970, at most as late as `status` was read.
    """
    times = status.st_mtime_ns, status.st_ctime_ns
    once = (now_ns,) if may_repeat(status.st_ctime_ns, now_ns) else ()
    known_by = (format_path(path), status.st_size, *times, status.st_ino, *once)
    return digest_of(repr(known_by).encode()).hex()[:VERSION_SIZE]


def read_exactly(fd: int, size: int, offset: int) -> bytes:
    """Return `size` bytes of a file.

    Raises:
        Unavailable: the file has fewer.
        OSError: it cannot be read.
    """
    data = os.pread(fd, size, offset)
    if len(data) == size:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing:
        data = os.pread(fd, missing, offset + size - missing)
        if not data:
            raise Unavailable(Fault.CHANGED)
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


def check_unchanged(before: os.stat_result, now: os.stat_result) -> None:
    """Compare an open file with its status before.

    A program may have set its own time back after a change, but then the kernel's time shows it. The kernel's time also
    changes when the file is removed, linked or given away, which leaves its content.

    Raises:
        Unavailable: it was changed.
    """
    if (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
        raise Unavailable(Fault.CHANGED)
    if before.st_ctime_ns != now.st_ctime_ns and _standing(before) == _standing(now):
        raise Unavailable(Fault.CHANGED)


def _standing(status: os.stat_result) -> tuple[int, ...]:
    """Return the properties whose change sets the kernel's time, but leaves the content."""
    return status.st_nlink, status.st_mode, status.st_uid, status.st_gid
