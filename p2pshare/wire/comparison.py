"""Comparison codes: two people read a short number to each other, and so find out whether each has the other's key.

The code depends on both keys and on nothing else, so both sides see the same one: they are sorted first. If somebody
in between has shown each side a key of their own, the codes differ, unless that person finds keys for which they are
equal. The code has 30 decimal digits, 99.6 bits. To find one key that fits takes 2^99 tries. But whoever may choose the
keys that *both* sides see needs only two lists of 2^50 codes with a number in common. So a code is made expensive:
scrypt needs 16 MiB and some 50 ms for each, which puts such lists out of reach.

`docs/security.md` has the table of threats, and `docs/protocol-sessions.md` the bytes with test vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache

from p2pshare.wire.keys import PublicKey

DOMAIN = b"p2pshare comparison code 1"
"""The salt: no other use of these keys gives the same number."""
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1
"""Cost of scrypt (RFC 7914): 128 · N · R bytes of memory, 16 MiB."""
SCRYPT_MEMORY = 64 * 2**20  # bytes that scrypt may use
GROUPS = 6
GROUP_DIGITS = 5
GROUP_BYTES = 8  # of the digest for each group, so that the remainder is even to 2^-47
CODES_MAX = 256  # codes that are kept, since each takes its time


@lru_cache(maxsize=CODES_MAX)
def _code(first: bytes, second: bytes) -> str:
    digest = hashlib.scrypt(
        first + second,
        salt=DOMAIN,
        n=SCRYPT_N,
        r=SCRYPT_R,
        p=SCRYPT_P,
        maxmem=SCRYPT_MEMORY,
        dklen=GROUPS * GROUP_BYTES,
    )
    return " ".join(_groups(digest))


def _groups(digest: bytes) -> Iterator[str]:
    for start in range(0, len(digest), GROUP_BYTES):
        number = int.from_bytes(digest[start : start + GROUP_BYTES], "big")
        yield f"{number % 10**GROUP_DIGITS:0{GROUP_DIGITS}}"


def comparison_code(one: PublicKey, other: PublicKey) -> str:
    """Return the code of two keys: 6 groups of 5 digits. It takes some 50 ms: call it in a thread.

    Raises:
        ValueError: the keys are equal, so there is nothing to compare.
    """
    if one == other:
        raise ValueError("a key is not compared with itself")
    return _code(*sorted((one.raw, other.raw)))


def comparison_text(names: tuple[str, str], code: str) -> str:
    """Return the text of the QR code for a comparison, which a phone shows: both names, and the code."""
    first, second = sorted(names)
    return f"p2pshare: {first} + {second}\n{code}"
