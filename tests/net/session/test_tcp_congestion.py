"""Tests of `p2pshare.net.session.tcp_congestion`."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from p2pshare.net.session import tcp_congestion
from p2pshare.net.session.tcp_congestion import congestion_control, prefer_bbr


class Socket:
    """A socket whose kernel knows some algorithms; the first one is its own choice."""

    def __init__(self, *known: bytes) -> None:
        self.known = known
        self.chosen = known[0] if known else b""

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if value not in self.known:
            raise FileNotFoundError
        self.chosen = value

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if not self.known:
            raise OSError
        return self.chosen.ljust(size, b"\0")

    def __enter__(self) -> Socket:
        """Return the socket."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do not close anything."""


class CongestionTests(TestCase):
    def setUp(self) -> None:
        self.patch(socket, "TCP_CONGESTION", 13)
        tcp_congestion._tell.cache_clear()
        self.log = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

    def lines(self) -> list[str]:
        return [formatEvent(each) for each in self.log]

    def test_allowed(self) -> None:
        """Where the kernel allows `bbr` it is in force, which the log says once."""
        for _ in range(3):
            connection: Any = Socket(b"cubic", b"bbr")
            prefer_bbr(connection)
            self.assertEqual(connection.chosen, b"bbr")
        self.assertEqual(self.lines(), ["tcp congestion control: algorithm=bbr"])

    def test_not_allowed(self) -> None:
        """Elsewhere the system's choice stays."""
        connection: Any = Socket(b"cubic", b"reno")
        prefer_bbr(connection)
        self.assertEqual(connection.chosen, b"cubic")
        self.assertEqual(self.lines(), ["tcp congestion control: algorithm=cubic"])

    def test_unknown(self) -> None:
        """A system that does not tell is no fault."""
        connection: Any = Socket()
        prefer_bbr(connection)
        self.assertEqual(self.lines(), ["tcp congestion control: algorithm=unknown"])
        self.patch(socket, "TCP_CONGESTION", None)
        self.assertIsNone(congestion_control())

    def test_status(self) -> None:
        """The status tells what a new connection gets."""
        for made, told in ((Socket(b"cubic", b"bbr"), "bbr"), (Socket(b"cubic"), "cubic")):
            with mock.patch.object(socket, "socket", return_value=made):
                self.assertEqual(congestion_control(), told)
        with mock.patch.object(socket, "socket", side_effect=OSError):
            self.assertIsNone(congestion_control())
