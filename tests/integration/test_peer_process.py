"""The peer as a process, as it is started, refused and killed."""

from __future__ import annotations

import random
import signal
import socket

from tests.integration.programs import HOST, Program, ProgramsTestCase
from tests.integration.test_registry_process import TWISTD, free_port


class RunningTests(ProgramsTestCase):
    """With a registry."""

    def setUp(self) -> None:
        super().setUp()
        self.registry = self.start_registry()

    def peer(self, name: str, *options: str) -> Program:
        """A peer that is registered."""
        peer = self.start_peer(name, self.registry.port, *options)
        peer.wait_for(f"{name} is registered at {HOST}:")
        return peer

    def test_terminated(self) -> None:
        """SIGTERM ends it within 2 s, and its name is free at once, for anybody."""
        peer = self.peer("bob")
        self.assertEqual(self.registry.ask("GET", "list"), (200, '["bob"]'))
        self.assertLess(peer.end(), 2.0)
        self.assertIn(peer.process.returncode, (0, -signal.SIGTERM), peer.said())
        self.assertNotIn("Traceback", peer.said())
        self.assertEqual(self.registry.ask("GET", "list"), (200, "[]"))
        self.peer("bob", "--data", str(self.folder / "another folder"))

    def test_killed(self) -> None:
        """After a kill -9 it takes its name back at once, with the secret in its data folder."""
        peer = self.peer("bob")
        peer.end(signal.SIGKILL)
        self.assertEqual(self.registry.ask("GET", "list"), (200, '["bob"]'))
        self.peer("bob")

    def test_name_taken(self) -> None:
        """A name that somebody has is one sentence, and exit code 3."""
        self.peer("bob")
        second = self.start_peer("bob", self.registry.port, "--data", str(self.folder / "second"))
        self.assertEqual(second.wait(), 3, second.said())
        self.assertIn("The name 'bob' is taken in the registry", second.said())
        self.assertNotIn("Traceback", second.said())

    def test_same_data_folder(self) -> None:
        """A second one on the same data folder is one sentence, and exit code 3."""
        first = self.peer("bob")
        second = self.start_peer("bob", self.registry.port)
        self.assertEqual(second.wait(), 3, second.said())
        (sentence,) = second.said().splitlines()
        self.assertIn(f"already running on this machine (process {first.process.pid})", sentence)

    def test_one_working_folder(self) -> None:
        """Two peers and a registry run in the same folder, and leave no pid file there."""
        for name in ("alice", "bob"):
            self.peer(name)
        self.assertEqual(self.registry.ask("GET", "list"), (200, '["alice", "bob"]'))
        self.assertFalse((self.folder / "twistd.pid").exists())

    def test_random_bytes(self) -> None:
        """Random bytes on its welcome port leave no trace in its log, and it goes on."""
        port = free_port()
        peer = self.peer("bob", "--listen", str(port))
        rng = random.Random(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.settimeout(5.0)
            for size in [*range(300), 5000, 60_000]:
                stranger.sendto(rng.randbytes(size), (HOST, port))
            stranger.sendto(b"TXT", (HOST, port))
            self.assertEqual(stranger.recvfrom(9), (b"ACK", (HOST, port)))
        peer.end()
        for word in ("Traceback", "Error", "Unhandled"):
            self.assertNotIn(word, peer.said())


class StartingTests(ProgramsTestCase):
    """Without a registry, or with options that cannot be."""

    def test_registry_comes_later(self) -> None:
        """A registry that is not there is waited for, and told of without a traceback."""
        data = self.folder / "data"
        registry_port = free_port()
        peer = self.start_peer("bob", registry_port, "--data", str(data))
        peer.wait_for("Trying again in")
        listen = f"tcp:{registry_port}:interface={HOST}"
        options = ["--data", str(self.folder / "registry"), "--listen", listen]
        self.start(*TWISTD[1:], "p2pregistry", *options)
        peer.wait_for("bob is registered")
        self.assertNotIn("Traceback", peer.said())

    def test_stopped_without_a_registry(self) -> None:
        """While it waits for a registry, SIGTERM ends it within 2 s."""
        peer = self.start_peer("bob", free_port())
        peer.wait_for("Trying again in")
        self.assertLess(peer.end(), 2.0)
        self.assertNotIn("Traceback", peer.said())

    def test_port_in_use(self) -> None:
        """A welcome port that somebody else has is a sentence, and an end."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((HOST, 0))
            port = other.getsockname()[1]
            peer = self.start_peer("bob", free_port(), "--listen", str(port))
            self.assertEqual(peer.wait(), 1, peer.said())
        self.assertIn(f"Port {port} cannot be listened on", peer.said())
        self.assertNotIn("Traceback", peer.said())

    def test_wrong_options(self) -> None:
        """Each is told in a sentence, with an exit code."""
        wrong = (
            (["--listen", "70000"], "listen"),
            (["--address", "here"], "address"),
            (["--registry", "ftp://x"], "ftp://x"),
            (["--share", "/nonexistent"], "/nonexistent"),
            (["--name", "No such name!"], "must be a name"),
            (["--nonsense"], "--nonsense not recognized. Type `twistd p2ppeer --help`"),
            (["nonsense"], "Wrong number of arguments. Type `twistd p2ppeer --help`"),
        )
        peers = [self.start_peer("bob", free_port(), *options) for options, _ in wrong]
        for peer, (_, sentence) in zip(peers, wrong, strict=True):
            self.assertEqual(peer.wait(), 2, peer.said())
            self.assertIn(sentence, peer.said())
            self.assertEqual(peer.said().count("\n"), 1, peer.said())

    def test_no_name(self) -> None:
        """Who does not say who they are is asked to."""
        peer = self.start(*TWISTD[1:], "p2ppeer")
        self.assertEqual(peer.wait(), 2, peer.said())
        self.assertIn("--name is missing", peer.said())
