"""An identity in a file that a passphrase opens, for a lost disk or another machine.

The file is a JSON object: its name, registry and parameters in the clear, and a `box` with everything secret. The key
of the box is derived from the passphrase by scrypt (RFC 7914). The box is AES-256-GCM (NIST SP 800-38D), which also
authenticates the rest of the object in its canonical form: keys sorted, no spaces, ASCII.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from p2pshare.errors import IllegalName, RemoteProtocolError, SealedKeyUnusable, WrongUsage
from p2pshare.names import check_name
from p2pshare.storage.identity.identity import SEQ_MAX, Portable
from p2pshare.wire.addresses import URL_MAX, registry_or_lan
from p2pshare.wire.keys import KEY_SIZE, from_base64url, to_base64url
from p2pshare.wire.statements import STATEMENT_MAX
from p2pshare.wire.strict_json import integer, parse_object, text

KIND = "p2pshare key"
VERSION = 1
SIZE_MAX = 16 * 1024  # bytes of the file
PASSPHRASE_MIN = 8  # characters
COST = 2**17  # scrypt's n: with r = 8, 128 MiB and about half a second
COSTS = frozenset(2**n for n in range(14, 19))  # accepted when a file is opened: up to 256 MiB
BLOCK_SIZE, PARALLEL = 8, 1  # scrypt's r and p
SALT_SIZE, NONCE_SIZE = 16, 12  # bytes

NOT_OPENED = "the passphrase is wrong, or the file was changed"
NO_EXPORT = "it is cut short, or is not a key from `p2pshare key export`"


def seal(
    portable: Portable,
    passphrase: str,
    random_bytes: Callable[[int], bytes] = os.urandom,
    *,
    cost: int = COST,
) -> bytes:
    """Return the file; this blocks for about half a second.

    Args:
        portable: the identity.
        passphrase: opens the file.
        random_bytes: draws the salt and the nonce.
        cost: scrypt's n, one of `COSTS`.

    Raises:
        WrongUsage: the passphrase is shorter than `PASSPHRASE_MIN`.
    """
    if len(passphrase) < PASSPHRASE_MIN:
        raise WrongUsage(reason=f"A passphrase has at least {PASSPHRASE_MIN} characters.")
    salt, nonce = random_bytes(SALT_SIZE), random_bytes(NONCE_SIZE)
    header: dict[str, Any] = {
        "kind": KIND,
        "v": VERSION,
        "name": portable.name,
        "registry": portable.registry,
        "kdf": "scrypt",
        "n": cost,
        "r": BLOCK_SIZE,
        "p": PARALLEL,
        "salt": to_base64url(salt),
        "cipher": "AES-256-GCM",
        "nonce": to_base64url(nonce),
    }
    inside = json.dumps(
        {
            "seed": to_base64url(portable.seed),
            "seq": portable.seq,
            "receipt": portable.receipt,
        }
    ).encode()
    box = _cipher(passphrase, salt, cost).encrypt(nonce, inside, _canonical(header))
    return json.dumps({**header, "box": to_base64url(box)}, indent=1).encode() + b"\n"


def read_header(data: bytes) -> tuple[str, str]:
    """Return the name and the registry in the file's header, which only `unseal` authenticates.

    Raises:
        SealedKeyUnusable: it is no exported key.
    """
    try:
        header, _ = _parse(data)
        return check_name(text(header, "name", 64)), registry_or_lan(
            text(header, "registry", URL_MAX)
        )
    except (RemoteProtocolError, IllegalName, ValueError):
        raise SealedKeyUnusable(reason=NO_EXPORT) from None


def unseal(data: bytes, passphrase: str) -> Portable:
    """Return the identity in the file; this blocks as `seal` does.

    Raises:
        SealedKeyUnusable: the passphrase is wrong, or the file is cut short, changed, or no exported key.
    """
    try:
        return _unseal(data, passphrase)
    except InvalidTag:
        raise SealedKeyUnusable(reason=NOT_OPENED) from None
    except (RemoteProtocolError, IllegalName, ValueError):
        raise SealedKeyUnusable(reason=NO_EXPORT) from None


def _parse(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the box; raises `RemoteProtocolError` or `ValueError`."""
    if len(data) > SIZE_MAX:
        raise ValueError("too long")
    header = parse_object(data)
    box = from_base64url(text(header, "box", SIZE_MAX))
    del header["box"]
    return header, box


def _unseal(data: bytes, passphrase: str) -> Portable:
    header, box = _parse(data)
    salt, nonce = (from_base64url(text(header, key, 64)) for key in ("salt", "nonce"))
    cost = integer(header, "n")
    fixed = {
        "kind": KIND, "v": VERSION, "kdf": "scrypt", "r": BLOCK_SIZE, "p": PARALLEL, "cipher": "AES-256-GCM",
    }  # fmt: skip
    if any(header.get(key) != value for key, value in fixed.items()) or cost not in COSTS:
        raise ValueError("another format")
    if (len(salt), len(nonce)) != (SALT_SIZE, NONCE_SIZE):
        raise ValueError("another format")
    inside = parse_object(_cipher(passphrase, salt, cost).decrypt(nonce, box, _canonical(header)))
    seed = from_base64url(text(inside, "seed", 64))
    if len(seed) != KEY_SIZE:
        raise ValueError("no seed")
    receipt = inside.get("receipt")
    return Portable(
        check_name(text(header, "name", 64)),
        registry_or_lan(text(header, "registry", URL_MAX)),
        seed,
        integer(inside, "seq", 0, SEQ_MAX),
        None if receipt is None else text(inside, "receipt", STATEMENT_MAX),
    )


def _cipher(passphrase: str, salt: bytes, cost: int) -> AESGCM:
    """Return the cipher of the box; a passphrase is the same however a keyboard composes its characters."""
    kdf = Scrypt(salt=salt, length=32, n=cost, r=BLOCK_SIZE, p=PARALLEL)
    return AESGCM(
        kdf.derive(unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass"))
    )


def _canonical(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
