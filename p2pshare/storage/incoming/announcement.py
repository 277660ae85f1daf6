"""What is known of a file before its bytes arrive: its origin, its size and version, and its local place."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pshare.wire.keys import KEY_SIZE, PublicKey
from p2pshare.wire.paths import RemotePath


@dataclass(frozen=True, slots=True)
class Origin:
    """The identity of a remote file. A part is resumed for the same origin only."""

    key: PublicKey
    """The key of its sharer."""
    path: RemotePath
    peer: str = field(default="", compare=False)
    """The name of its sharer, for people to read."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the sharer says of a file."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, in nanoseconds since 1970."""
    executable: bool
    version: str
    """Changes with the content of the file."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a file beneath the folder of a job, in names that its file system accepts."""

    folder: tuple[str, ...]
    name: str
    number: int = 0
    """The first number to try for its name, as in `name (1)`; 0 for the name itself."""
    clashes: bool = False
    """Whether it has a number because another file of the job has the name."""


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A small file that has arrived completely."""

    place: Place
    origin: Origin
    announced: Announced
    data: bytes | bytearray | memoryview
    digests: tuple[bytes, ...]
    """The digests of its blocks: one, or none for an empty file."""
    root: bytes
    overwrite: bool = False
    replaces: bytes = b""
    """The fingerprint of the only file that may be overwritten; empty for any."""


def identity_of(place: Place, origin: Origin) -> bytes:
    """Return the origin and the place of a file as bytes that no other file has."""
    rows = (origin.path, place.folder, (place.name,))
    encoded = [[each.encode("utf-8", "surrogatepass") for each in row] for row in rows]
    return origin.key.raw + b"".join(
        len(row).to_bytes(4, "big") + b"".join(len(e).to_bytes(4, "big") + e for e in row)
        for row in encoded
    )


def rows_of(identity: bytes) -> tuple[RemotePath, RemotePath, RemotePath]:
    """Return the remote path, the local folder and the local name of an identity.

    Raises:
        ValueError: it is not an identity.
    """
    at = KEY_SIZE
    rows: list[RemotePath] = []

    def number() -> int:
        nonlocal at
        at += 4
        if at > len(identity):
            raise ValueError("it is truncated")
        return int.from_bytes(identity[at - 4 : at], "big")

    for _ in range(3):
        row = []
        for _ in range(number()):
            size = number()
            at += size
            row.append(identity[at - size : at].decode("utf-8", "surrogatepass"))
        rows.append(tuple(row))
    return rows[0], rows[1], rows[2]
