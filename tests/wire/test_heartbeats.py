"""Heartbeats."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.heartbeats import Heartbeat

KEY = bytes(range(32))
BEAT = Heartbeat("bob", "1790086400.AAAAAAAAAAAAAAAAAAAAAA", 7, True)


class HeartbeatTests(SynchronousTestCase):
    """Reading heartbeats in the registry."""

    @given(st.integers(1, 2**53 - 1), st.booleans(), st.binary(min_size=32, max_size=32))
    def test_round_trip(self, beat: int, online: bool, mac_key: bytes) -> None:
        """A heartbeat is read as it was written, and is authentic."""
        sent = Heartbeat("bob", BEAT.session, beat, online)
        read = Heartbeat.parse("bob", sent.to_json(mac_key))
        self.assertEqual(replace(read, mac=b""), sent)
        self.assertTrue(read.is_authentic(mac_key))

    def test_everything_is_covered(self) -> None:
        """No field can be changed, nor the name in the route, nor the key."""
        read = Heartbeat.parse("bob", BEAT.to_json(KEY))
        for other in (
            replace(read, name="eve"),
            replace(read, session=read.session + "A"),
            replace(read, beat=8),
            replace(read, online=False),
            replace(read, mac=read.mac[:-1]),
            replace(read, mac=b""),
        ):
            self.assertFalse(other.is_authentic(KEY), other)
        self.assertFalse(read.is_authentic(KEY[::-1]))

    def test_illegal(self) -> None:
        """Anything else is refused (threat 7)."""
        good = json.loads(BEAT.to_json(KEY))
        for changes in (
            {"session": 1}, {"session": "x" * 65}, {"beat": 0}, {"beat": "7"}, {"beat": 2**53},
            {"online": 1}, {"online": None}, {"mac": "!"}, {"mac": None}, {"mac": "A" * 65},
        ):  # fmt: skip
            with self.assertRaises(RemoteProtocolError, msg=str(changes)):
                Heartbeat.parse("bob", json.dumps({**good, **changes}).encode())
        for body, reason in (
            (b"x", "the body is no valid JSON"),
            ({**good, "mac": "!"}, "the mac is no canonical base64url"),
            ({key: good[key] for key in good if key != "online"}, "the online is missing"),
        ):
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            with self.assertRaisesRegex(RemoteProtocolError, reason):
                Heartbeat.parse("bob", sent)
