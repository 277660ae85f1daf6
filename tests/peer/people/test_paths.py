"""Tests of `p2pshare.peer.people.paths`."""

from __future__ import annotations

import gc
import ipaddress
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.session_interface import SessionPath
from p2pshare.peer.people.paths import OpenPaths, shown_path
from p2pshare.wire.addresses import PeerAddress

NETWORKS = (ipaddress.ip_network("192.168.1.0/24"), ipaddress.ip_network("fd00::/64"))


class FakeSession:
    is_open = True

    def __init__(self, name: str, carrier: str, ip: str) -> None:
        self.name = name
        self.path = SessionPath(carrier, PeerAddress(ip, 50000))


class PathTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """A path is direct, within the local network, or through the relay, whose carrier is TCP."""
        for carrier, ip, expected in (
            ("tcp", "192.0.2.7", ("direct", "tcp")),
            ("udp", "2001:db8::7", ("direct", "udp")),
            ("udp", "192.168.1.7", ("lan", "udp")),
            ("tcp", "fd00::7", ("lan", "tcp")),
            ("tcp", "127.0.0.1", ("lan", "tcp")),
            ("relay", "192.168.1.9", ("relay", "tcp")),
        ):
            path = shown_path(SessionPath(carrier, PeerAddress(ip, 50000)), NETWORKS)
            self.assertEqual((path["kind"], path["carrier"]), expected)
            self.assertEqual(path["address"], str(PeerAddress(ip, 50000)))

    def test_best(self) -> None:
        """Of several sessions with one person the best path is shown; a session that has ended is not."""
        accepted: list[Any] = [FakeSession("bob", "relay", "192.0.2.1")]
        paths = OpenPaths(lambda: accepted, lambda: NETWORKS)
        dialled = FakeSession("bob", "udp", "192.0.2.7")
        other = FakeSession("carol", "tcp", "192.168.1.7")
        paths.dialled(cast(Any, dialled))
        paths.dialled(cast(Any, other))
        self.assertEqual(
            {name: path["kind"] for name, path in paths.by_name().items()},
            {"bob": "direct", "carol": "lan"},
        )
        dialled.is_open = False
        self.assertEqual(paths.by_name()["bob"]["kind"], "relay")
        del other
        gc.collect()
        self.assertEqual(set(paths.by_name()), {"bob"})
