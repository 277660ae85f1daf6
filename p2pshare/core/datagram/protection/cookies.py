"""Cookies: an acceptor keeps no state for an opener before the opener has proved that it receives at its address.

::

    cookie = time u32 | MAC 16
    MAC    = HMAC-SHA256(secret, time | IP as text | port u16 | opener CID | random)[:16]

The acceptor answers OPEN with a cookie and forgets both. The cookie comes back in the first HANDSHAKE packet, together
with the CID and the random bytes of OPEN. Only then does the acceptor make a connection. A flood of OPEN packets with
forged addresses therefore costs it no memory, and a cookie does not count at another address or later. Nobody but the
acceptor reads its cookies. This is the Retry of QUIC (RFC 9000, section 8.1), used for every connection.

All fields behind the IP have fixed sizes, so no two sets of fields have the same MAC input. Secrets are drawn when they
are needed. No timer runs: a secret that is too old is replaced at the next use.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from p2pshare.core.datagram_core import Address
from p2pshare.wire.datagrams.fields import U16, U32

MAC_SIZE = 16  # bytes
COOKIE_SIZE = U32.size + MAC_SIZE  # bytes
LIFETIME = 30  # seconds for which a cookie counts
ROTATION = 600.0  # seconds for which a secret makes cookies; it checks them for as long again
SECRET_SIZE = 32  # bytes
TIMES = 2**32  # seconds after which the time in a cookie begins again


class CookieJar:
    """Makes and checks the cookies of one acceptor."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        """Draw secrets with this function, which returns a number of unpredictable bytes."""
        self._random = random
        self._secrets: list[bytes] = []  # the present one, and the one before
        self._drawn_at = 0.0

    def make(self, address: Address, opener_cid: bytes, random: bytes, now: float) -> bytes:
        """Return the cookie for an OPEN packet.

        Args:
            address: from which OPEN came.
            opener_cid: in OPEN.
            random: in OPEN.
            now: in seconds.
        """
        self._rotate(now)
        time = U32.pack(int(now) % TIMES)
        return time + _mac(self._secrets[0], time, address, opener_cid + random)

    def is_valid(
        self, cookie: bytes, address: Address, opener_cid: bytes, random: bytes, now: float
    ) -> bool:
        """Whether `make` returned this cookie for the same arguments within the last `LIFETIME` seconds."""
        self._rotate(now)
        time, mac = cookie[: U32.size], cookie[U32.size :]
        if len(mac) != MAC_SIZE:
            return False
        age = (int(now) - int.from_bytes(time, "big")) % TIMES
        fields = opener_cid + random
        matches = [  # all are compared, so that the time does not tell which one matches
            hmac.compare_digest(_mac(secret, time, address, fields), mac)
            for secret in self._secrets
        ]
        return age <= LIFETIME and any(matches)

    def _rotate(self, now: float) -> None:
        """Draw a new secret if the present one is too old, and forget the one before if that is."""
        if not self._secrets or now >= self._drawn_at + 2 * ROTATION:
            self._secrets = []
        elif now < self._drawn_at + ROTATION:
            return
        self._secrets = [self._random(SECRET_SIZE), *self._secrets[:1]]
        self._drawn_at = now


def _mac(secret: bytes, time: bytes, address: Address, fields: bytes) -> bytes:
    ip, port = address
    return hmac.digest(secret, time + ip.encode() + U16.pack(port) + fields, hashlib.sha256)[
        :MAC_SIZE
    ]
