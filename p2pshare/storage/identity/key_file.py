"""The file with a secret key: PEM, PKCS #8 (RFC 5208, RFC 8410), private to its owner, and never overwritten."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from p2pshare.errors import KeyUnusable
from p2pshare.storage.identity.private_file import KEY_BEGIN, create_private, read_private
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.keys import KEY_SIZE, SigningKey

SIZE_MAX = 4096  # bytes of a key file

_END = b"-----END PRIVATE KEY-----\n"
_RESTORE = "Restore it from a copy; nothing was changed."


def new_seed() -> bytes:
    """Draw the seed of a new key."""
    return secrets.token_bytes(KEY_SIZE)


def load_or_make(path: Path, make_seed: Callable[[], bytes] = new_seed) -> SigningKey:
    """Return the key in the file, and make it if there is none; processes that make it at once get the same key.

    The folder must exist and be private to its owner.

    Raises:
        KeyUnusable: as for `load`, or the file cannot be written.
    """
    found = load(path)
    if found is not None:
        return found
    made = SigningKey(make_seed())
    try:
        make(path, made)
    except FileExistsError:
        return load(path) or made  # another process was faster
    return made


def load(path: Path) -> SigningKey | None:
    """Return the key in the file; None if there is no file.

    Raises:
        KeyUnusable: others may read the file, or it is cut short, no key or no plain file. It is left as it is.
    """
    try:
        content = read_private(path, SIZE_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyUnusable(path=path, reason=plain_reason(error)) from error
    if len(content) < len(KEY_BEGIN) or (content.startswith(KEY_BEGIN) and _END not in content):
        raise KeyUnusable(path=path, reason=f"it is cut short. {_RESTORE}")
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(path=path, reason=f"it is not a key. {_RESTORE}")
    return SigningKey(key.private_bytes_raw())


def make(path: Path, key: SigningKey) -> None:
    """Write a key into a new, durable file.

    Raises:
        FileExistsError: something has this name; it is left as it is.
        KeyUnusable: the file cannot be written, and does not exist.
    """
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        create_private(path, content)
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyUnusable(path=path, reason=plain_reason(error)) from error
