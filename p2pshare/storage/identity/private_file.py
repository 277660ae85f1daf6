"""Small files that are private to their owner, read with checks, and written completely or not at all.

A file that others may read or write is an error, as ssh treats it: a secret in it may be known, and a list of known
keys may be forged. A new content is written to a hidden file beside the old one, synced, and renamed; then the folder
is synced. So a crash leaves either the old or the new content. A new file is linked instead of renamed, since a link
fails if the name is taken, which two processes that make a key at once rely on.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from p2pshare.storage.durability import sync_path
from p2pshare.storage.text_files import plain_ascii

PEER_KEYS = "key", "key.next", "key.old"
"""Files of a peer: its key, and in a rotation the following one and the one before; see `identity`."""
REGISTRY_KEY = "registry.key"
KEY_BEGIN = b"-----BEGIN PRIVATE KEY-----\n"
"""How such a file begins; see `key_file`."""

_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNFINISHED = re.compile(r"\.[a-z.]+\.[0-9a-f]{8}\.new")
_MAKING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_private(path: Path, most: int) -> bytes:
    """Return the first `most` bytes of a private text file, as `plain_ascii` does.

    Raises:
        FileNotFoundError: there is none.
        OSError: others may read it, it is no plain file of this user, it is in another encoding, or it cannot be read;
            `plain_reason` says which.
    """
    fd = os.open(path, _READING)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError("it is not a plain file of yours.")
        if status.st_mode & 0o077:
            raise OSError(
                "others may read or write it. Run `chmod 600` on it, or delete it if they did."
            )
        return plain_ascii(file.read(most))


def create_private(path: Path, content: bytes) -> None:
    """Write a new, durable file.

    Raises:
        FileExistsError: something has this name; it is left as it is.
        OSError: the file cannot be written, and does not exist.
    """
    unfinished = _write_beside(path, content)
    try:
        os.link(unfinished, path, follow_symlinks=False)
    finally:
        unfinished.unlink()
    sync_path(path.parent, follow=True)


def replace_private(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file in one step.

    Args:
        path: its name.
        content: all of it.
        durable: sync it before this returns, which may take a while.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.
    """
    unfinished = _write_beside(path, content, durable)
    try:
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink()
        raise
    if durable:
        sync_path(path.parent, follow=True)


def rename_private(old: Path, new: Path) -> None:
    """Rename a file, in place of an existing one, and make that durable.

    Raises:
        OSError: it cannot be renamed.
    """
    os.replace(old, new)
    sync_path(new.parent, follow=True)


def remove_unfinished(folder: Path) -> None:
    """Remove files that a killed process left; no other process may be writing in the folder."""
    with suppress(OSError):
        for each in folder.iterdir():
            if _UNFINISHED.fullmatch(each.name):
                each.unlink()


def _write_beside(path: Path, content: bytes, durable: bool = True) -> Path:
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    fd = os.open(unfinished, _MAKING, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(fd)
    except OSError:
        unfinished.unlink()
        raise
    return unfinished
