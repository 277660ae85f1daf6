"""The cipher suites of a session, and which of them this machine prefers.

Both suites are equally secure. AES-128-GCM is faster on a processor with instructions for AES. Without them
ChaCha20-Poly1305 is several times faster, and its time does not depend on the key. Operating systems name these
instructions in different ways, or not at all, and OpenSSL may be built without them. So both ciphers are measured once,
which takes about a millisecond. The preference of the opener counts; OpenSSL's acceptors follow it by default.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

AES_FIRST = b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
CHACHA20_FIRST = b"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"

SAMPLE = 16 * 1024  # bytes that are encrypted at once: a full TLS record
ROUNDS = 5  # of which the fastest counts: another process may interrupt some


def measured_suites(seconds: Callable[[], float]) -> bytes:
    """Return the cipher suites for OpenSSL, the faster one first.

    Args:
        seconds: a clock with a resolution of microseconds.
    """
    aes, chacha20 = (
        min(_duration(cipher, seconds) for _ in range(ROUNDS))
        for cipher in (AESGCM(bytes(16)), ChaCha20Poly1305(bytes(32)))
    )
    return AES_FIRST if aes <= chacha20 else CHACHA20_FIRST


@lru_cache(maxsize=1)
def suites_of_this_machine() -> bytes:
    """Return the cipher suites in the order in which this machine prefers them."""
    return measured_suites(time.perf_counter)


def _duration(cipher: AESGCM | ChaCha20Poly1305, seconds: Callable[[], float]) -> float:
    sample, start = bytes(SAMPLE), seconds()
    cipher.encrypt(bytes(12), sample, None)
    return seconds() - start
