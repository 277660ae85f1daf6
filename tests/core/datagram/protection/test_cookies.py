"""Cookies are valid for their address, packet and time only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.protection.cookies import COOKIE_SIZE, LIFETIME, ROTATION, CookieJar
from p2pshare.wire.datagrams.packets import COOKIE_MAX

ADDRESS = "192.0.2.7", 9000
CID = b"opener1"
RANDOM = bytes(range(32))

addresses = st.tuples(
    st.sampled_from(["192.0.2.7", "192.0.2.70", "192.0.2.71", "::1", "fe80::1%eth0"]),
    st.integers(0, 65535),
)


class Secrets:
    """A source of secrets that differ, and counts them."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, size: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size, "big")


class CookieTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.secrets = Secrets()
        self.jar = CookieJar(self.secrets)

    def is_valid(self, cookie: bytes, now: float) -> bool:
        return self.jar.is_valid(cookie, ADDRESS, CID, RANDOM, now)

    @given(
        st.tuples(
            addresses, st.sampled_from([CID, b"opener2"]), st.sampled_from([RANDOM, bytes(32)])
        ),
        st.tuples(
            addresses, st.sampled_from([CID, b"opener2"]), st.sampled_from([RANDOM, bytes(32)])
        ),
    )
    def test_fields(
        self, made: tuple[tuple[str, int], bytes, bytes], used: tuple[tuple[str, int], bytes, bytes]
    ) -> None:
        """Threat 43: a cookie counts for the address, the CID and the random bytes for which it was made."""
        cookie = self.jar.make(*made, 5.0)
        self.assertTrue(self.jar.is_valid(cookie, *made, 5.0))
        self.assertEqual(self.jar.is_valid(cookie, *used, 5.0), used == made)

    def test_size(self) -> None:
        """A cookie fits into its packet."""
        self.assertEqual(len(self.jar.make(ADDRESS, CID, RANDOM, 0.0)), COOKIE_SIZE)
        self.assertLessEqual(COOKIE_SIZE, COOKIE_MAX)

    @given(st.floats(0, 2000), st.floats(-100, 100))
    def test_lifetime(self, made_at: float, age: float) -> None:
        """Threat 43: a cookie counts for its lifetime, to the second, and not before it was made."""
        jar, used_at = CookieJar(Secrets()), max(0.0, made_at + age)
        cookie = jar.make(ADDRESS, CID, RANDOM, made_at)
        is_valid = jar.is_valid(cookie, ADDRESS, CID, RANDOM, used_at)
        self.assertEqual(is_valid, 0 <= int(used_at) - int(made_at) <= LIFETIME)

    def test_any_clock(self) -> None:
        """A clock may show any number of seconds, also more than a cookie has room for."""
        for now in (2.0**32 - 3, 2.0**32, 14e9):
            cookie = self.jar.make(ADDRESS, CID, RANDOM, now)
            self.assertTrue(self.is_valid(cookie, now + LIFETIME - 1))
            self.assertFalse(self.is_valid(cookie, now + LIFETIME + 1))

    def test_forged(self) -> None:
        """Threat 43: a cookie with any bit flipped, cut, extended, or made with another secret is invalid."""
        cookie = self.jar.make(ADDRESS, CID, RANDOM, 100.0)
        for bit in range(8 * COOKIE_SIZE):
            flipped = bytearray(cookie)
            flipped[bit // 8] ^= 1 << bit % 8
            self.assertFalse(self.is_valid(bytes(flipped), 100.0))
        for wrong in (b"", cookie[:-1], cookie + b"\x00", bytes(COOKIE_SIZE)):
            self.assertFalse(self.is_valid(wrong, 100.0))
        other = CookieJar(lambda size: b"\xff" * size).make(ADDRESS, CID, RANDOM, 100.0)
        self.assertFalse(self.is_valid(other, 100.0))

    def test_rotation(self) -> None:
        """The secret changes with time, and the one before still counts."""
        cookie = self.jar.make(ADDRESS, CID, RANDOM, 0.0)
        late = self.jar.make(ADDRESS, CID, RANDOM, ROTATION - 1)
        self.assertEqual(self.secrets.drawn, 1)
        new = self.jar.make(ADDRESS, CID, RANDOM, ROTATION + 1)
        self.assertEqual(self.secrets.drawn, 2)
        self.assertTrue(self.is_valid(late, ROTATION + 1))
        self.assertTrue(self.is_valid(new, ROTATION + 1))
        self.assertFalse(self.is_valid(cookie, ROTATION + 1))

    def test_after_a_pause(self) -> None:
        """After a long pause no old secret counts, and no secret was drawn meanwhile."""
        self.jar.make(ADDRESS, CID, RANDOM, 0.0)
        self.jar.make(ADDRESS, CID, RANDOM, ROTATION)
        forged = CookieJar(lambda size: (2).to_bytes(size, "big"))
        cookie = forged.make(ADDRESS, CID, RANDOM, 5 * ROTATION)
        self.assertFalse(self.is_valid(cookie, 5 * ROTATION))
        self.assertEqual(self.secrets.drawn, 3)

    @given(st.binary(max_size=COOKIE_MAX))
    def test_anything(self, cookie: bytes) -> None:
        """Any bytes are an invalid cookie."""
        self.assertFalse(self.is_valid(cookie, 50.0))
