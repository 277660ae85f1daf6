"""Where a registry listens."""

from __future__ import annotations

import gc
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from p2pshare.errors import BadSetting, CannotStart
from p2pshare.registry.listening import (
    CheckedPorts,
    Place,
    SharablePorts,
    SharedPorts,
    port_number,
    shown_address,
)
from tests.registry.certificates import write_certificate

reactor: Any = global_reactor


class ListeningTestCase(TestCase):
    """Ports that are closed in the end, and a folder."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def tearDown(self) -> None:
        """Forget what Twisted uses of OpenSSL that is deprecated, and that it leaves a socket to be collected."""
        gc.collect()
        self.flushWarnings()

    def listen(self, description: str, on: Any = None) -> IListeningPort:
        port = Place.of(on or CheckedPorts(reactor), description).listen(Factory())
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return port


class EndpointTests(ListeningTestCase):
    """Endpoint strings."""

    def test_kinds(self) -> None:
        """TCP, TLS, Unix sockets and the PROXY protocol; each is shown as people know it."""
        pem = write_certificate(self.folder / "both.pem")
        for description, shown in (
            ("tcp:0:interface=127.0.0.1", r"127\.0\.0\.1:\d+"),
            (f"ssl:0:interface=127.0.0.1:privateKey={pem}", r"127\.0\.0\.1:\d+"),
            (f"tls:{self.folder}:0:interface=\\:\\:1", r"\[::1\]:\d+"),
            ("tcp6:0:interface=\\:\\:1", r"\[::1\]:\d+"),
            ("haproxy:tcp:0:interface=127.0.0.1", r"127\.0\.0\.1:\d+"),
            (f"unix:{self.folder / 's'}", f"unix:{self.folder / 's'}"),
        ):
            if "::" in description.replace("\\", "") and not socket.has_ipv6:
                continue
            self.assertRegex(shown_address(self.listen(description)), f"^{shown}$")

    def test_meaningless(self) -> None:
        """What is no endpoint is told with what would be one; so is a key that cannot be read, with the reason."""
        nonsense = self.folder / "x.pem"
        nonsense.write_text("x")
        for description, told in (
            ("", "such as tcp:"),
            ("x:1", "such as tcp:"),
            ("tcp:x", "such as tcp:"),
            ("tcp:1:nonsense=1", "such as tcp:"),
            ("haproxy:x", "such as tcp:"),
            ("systemd:domain=INET:index=0", "such as tcp:"),
            ("systemd:domain=INET:name=x", "such as tcp:"),
            ("stdio:", "such as tcp:"),
            ("ssl:0:privateKey=/none", "/none: there is no such file"),
            (f"ssl:0:privateKey={self.folder}", "a folder has this name"),
            (f"ssl:0:privateKey={nonsense}", "no PEM"),
            ("tls:/none:0", "no PEM"),
        ):
            with self.assertRaises(BadSetting, msg=description) as caught:
                Place.of(CheckedPorts(reactor), description)
            self.assertIn(told, str(caught.exception))

    def test_wrong_key(self) -> None:
        """A key of another certificate is told before anybody connects."""
        mine = write_certificate(self.folder / "mine.pem")
        other = write_certificate(self.folder / "other.pem")
        description = f"ssl:0:privateKey={mine}:certKey={other}"
        other.write_text("".join(other.read_text().partition("-----BEGIN CERT")[1:]))
        with self.assertRaises((BadSetting, CannotStart)) as caught:
            self.listen(description)
        self.assertIn("fit together", str(caught.exception))

    def test_impossible(self) -> None:
        """A port that cannot be had is told with the reason."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            for description, told in (
                (f"tcp:{taken}:interface=127.0.0.1", "in use"),
                ("tcp:99999", "up to 65535"),
                ("tcp:0:interface=192.0.2.1", "assign"),
                ("tcp:0:interface=nowhere.invalid", "no such interface"),
                (f"unix:{self.folder / 'none' / 's'}", "no such file or folder"),
            ):
                with self.assertRaises(CannotStart, msg=description) as caught:
                    self.listen(description)
                self.assertIn(told, str(caught.exception))
                self.assertIn(description, str(caught.exception))


class SharedTests(ListeningTestCase):
    """One port, many processes."""

    def test_shared(self) -> None:
        """Those who share a port can all listen on it, with TLS too; who does not share cannot join them."""
        pem = write_certificate(self.folder / "both.pem")
        for kind, more in (("tcp", ""), ("ssl", f":privateKey={pem}"), ("haproxy:tcp", "")):
            description = f"{kind}:0:interface=127.0.0.1{more}"
            number = port_number(self.listen(description, SharedPorts(reactor, 0)))
            again = self.listen(description, SharedPorts(reactor, number))
            self.assertEqual(port_number(again), number)
            alone = f"tcp:{number}:interface=127.0.0.1"
            with self.assertRaises(CannotStart):
                self.listen(alone, SharablePorts(reactor))

    def test_alone(self) -> None:
        """Who listens alone cannot be joined by one who would share."""
        number = port_number(self.listen("tcp:0:interface=127.0.0.1", SharablePorts(reactor)))
        with self.assertRaises(CannotStart):
            self.listen(f"tcp:{number}:interface=127.0.0.1", SharedPorts(reactor, number))

    def test_unsharable(self) -> None:
        """A Unix socket cannot be shared: that is said before any process is started."""
        for kind in ("unix", "haproxy:unix"):
            with self.assertRaises(CannotStart) as caught:
                self.listen(f"{kind}:{self.folder / 's'}", SharablePorts(reactor))
            self.assertIn("--workers 1", str(caught.exception))
        self.assertEqual(list(self.folder.iterdir()), [])
