"""What is said of a file before its bytes come: whose it is, what it holds, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass

from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath


@dataclass(frozen=True, slots=True)
class Origin:
    """Which file it is, of all that there are: a partial file goes on with the same one only."""

    key: PublicKey
    """Of the peer that shares it."""
    path: RemotePath


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
