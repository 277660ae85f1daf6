"""The blocks in which files are verified, and the root that identifies a whole file.

::

    digest = BLAKE3(block)
    root   = BLAKE3(size as 8 bytes, big-endian || digest of each block in turn)

Every block has `BLOCK_SIZE` bytes, except the last one of a file, which has the rest. An empty file has no block.
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

BLOCK_SIZE = 1024 * 1024  # bytes
DIGEST_SIZE = 32  # bytes of BLAKE3
FILE_SIZE_MAX = 2**50  # bytes


def block_count(size: int) -> int:
    """Return the number of blocks of a file of `size` bytes."""
    return -(-size // BLOCK_SIZE)


def block_length(size: int, index: int) -> int:
    """Return the bytes of the block `index`, from 0, of a file of `size` bytes."""
    return min(BLOCK_SIZE, size - index * BLOCK_SIZE)


def is_within_block(offset: int, length: int) -> bool:
    """Whether `length` bytes of a file, at least one, lie within one block."""
    end = offset + length
    return length > 0 and end <= FILE_SIZE_MAX and offset // BLOCK_SIZE == (end - 1) // BLOCK_SIZE


def digest_of(data: bytes | bytearray | memoryview) -> bytes:
    """Return the digest, `DIGEST_SIZE` bytes. Beyond a few KiB it is computed without the interpreter's lock."""
    return blake3(data).digest()


def root_of(size: int, digests: Iterable[bytes]) -> bytes:
    """Return the root, `DIGEST_SIZE` bytes, of a file of `size` bytes from the digests of its blocks."""
    return digest_of(size.to_bytes(8, "big") + b"".join(digests))
