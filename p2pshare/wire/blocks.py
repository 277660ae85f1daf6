"""The blocks in which files are verified, and the root that stands for a whole file.

::

    digest = BLAKE3(block)
    root   = BLAKE3(size as 8 bytes, big-endian || digest of each block in turn)

All blocks have `BLOCK_SIZE` bytes but the last, which has what is left; an empty file has none.
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

BLOCK_SIZE = 1024 * 1024  # bytes
DIGEST_SIZE = 32  # bytes of BLAKE3
FILE_SIZE_MAX = 2**50  # bytes


def block_count(size: int) -> int:
    """How many blocks a file of `size` bytes has."""
    return -(-size // BLOCK_SIZE)


def block_length(size: int, index: int) -> int:
    """Bytes of the block `index`, from 0 on, of a file of `size` bytes."""
    return min(BLOCK_SIZE, size - index * BLOCK_SIZE)


def digest_of(data: bytes | bytearray | memoryview) -> bytes:
    """`DIGEST_SIZE` bytes. Of more than a few KiB it is calculated without holding the interpreter's lock."""
    return blake3(data).digest()


def root_of(size: int, digests: Iterable[bytes]) -> bytes:
    """The root of a file of `size` bytes, from the digests of its blocks; `DIGEST_SIZE` bytes."""
    return digest_of(size.to_bytes(8, "big") + b"".join(digests))
