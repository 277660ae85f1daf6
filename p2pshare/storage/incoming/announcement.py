"""What is said of a file before its bytes come: whose it is, what it holds, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pshare.wire.keys import KEY_SIZE, PublicKey
from p2pshare.wire.paths import RemotePath


@dataclass(frozen=True, slots=True)
class Origin:
    """Which file it is, of all that there are: a partial file goes on with the same one only."""

    key: PublicKey
    """Of the peer that shares it."""
    path: RemotePath
    peer: str = field(default="", compare=False)
    """The name of that peer, for people to read."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the peer that shares it says of it."""

    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last changed, in nanoseconds since 1970."""
    executable: bool
    version: str
    """Another one as soon as the file holds something else."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it goes, beneath the folder of a job: names that are good for this disk, each one component."""

    folder: tuple[str, ...]
    name: str
    number: int = 0
    """Which copy it is: the first number that is tried, as in `name (1)`."""
    clashes: bool = False
    """Whether it has a number because another file of the same job has the name."""


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A small file, all of which has come."""

    place: Place
    origin: Origin
    announced: Announced
    data: bytes | bytearray | memoryview
    digests: tuple[bytes, ...]
    """Of its blocks: one, or none of an empty file; more if need be."""
    root: bytes
    overwrite: bool = False


def identity_of(place: Place, origin: Origin) -> bytes:
    """Which file it is and where it goes, as bytes that no other file has."""
    rows = (origin.path, place.folder, (place.name,))
    encoded = [[each.encode("utf-8", "surrogatepass") for each in row] for row in rows]
    return origin.key.raw + b"".join(
        len(row).to_bytes(4, "big") + b"".join(len(e).to_bytes(4, "big") + e for e in row)
        for row in encoded
    )


def rows_of(identity: bytes) -> tuple[RemotePath, RemotePath, RemotePath]:
    """Return the path at the sharer, and the folder and the name here, that an identity was made of.

    Raises:
        ValueError: it is none.
    """
    at = KEY_SIZE
    rows: list[RemotePath] = []

    def number() -> int:
        nonlocal at
        at += 4
        if at > len(identity):
            raise ValueError("it is cut off")
        return int.from_bytes(identity[at - 4 : at], "big")

    for _ in range(3):
        row = []
        for _ in range(number()):
            size = number()
            at += size
            row.append(identity[at - size : at].decode("utf-8", "surrogatepass"))
        rows.append(tuple(row))
    return rows[0], rows[1], rows[2]
