"""The original programs and ours, as real processes that talk to each other."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image

from tests.integration.programs import HOST, Program, ProgramsTestCase
from tests.originals.client import RegistryClient

P2PSHARE = ["-c", "import sys; from p2pshare.ui.main import main; sys.exit(main())"]
SIZE = (300, 200)
TEXT = "Grüße an alle\n" * 2000


class OriginalsTests(ProgramsTestCase):
    """Original programs work with our registry and our peers."""

    def setUp(self) -> None:
        super().setUp()
        self.registry = self.start_registry()
        self.shared, self.saved = self.folder / "shared", self.folder / "saved"
        self.shared.mkdir()
        self.saved.mkdir()
        noise = random.Random(1).randbytes(SIZE[0] * SIZE[1] * 3)
        Image.frombytes("RGB", SIZE, noise).save(self.shared / "my_file.jpg")
        (self.shared / "my_file.txt").write_text(TEXT)

    def original(self, name: str, *options: str) -> Program:
        """Start an original client."""
        folders = ["--share", str(self.shared), "--out", str(self.saved)]
        registry = ["--registry", f"{HOST}:{self.registry.port}"]
        module = ["-m", "tests.originals.client"]
        return self.start(*module, *registry, "--name", name, *folders, *options)

    def assert_same_pixels(self, saved: Path) -> None:
        with Image.open(self.shared / "my_file.jpg") as shared, Image.open(saved) as got:
            self.assertEqual(got.convert("RGB").tobytes(), shared.tobytes())

    def test_registry(self) -> None:
        """The three routes as the original calls them, over one client that reconnects and leaves bodies unread."""
        client = RegistryClient(HOST, self.registry.port)
        self.assertEqual(client.users(), [])
        self.assertTrue(client.register("alice", (HOST, 50001)))
        self.assertTrue(client.register("bob", (HOST, 50002)))
        self.assertFalse(client.register("alice", (HOST, 50003)))
        self.assertIsNone(client.welcome_of("nobody"))
        self.assertIsNone(client.welcome_of("NOBODY"))
        self.assertEqual(client.welcome_of("alice"), (HOST, 50001))
        self.assertEqual(sorted(client.users()), ["alice", "bob"])

    def test_original_fetches_from_ours(self) -> None:
        """The original requester fetches our picture exactly, and our text; our log records both."""
        share = ["--share", str(self.shared)]
        alice = self.start_peer("alice", self.registry.port, *share, "--classic")
        alice.wait_for("registered: name=alice")
        for attempt in range(5):
            wishes = ["--get", "alice", "I", "--get", "alice", "T", "--png"]
            bob = self.original(f"bob{attempt}", *wishes)
            code = bob.wait()
            if "Address already in use" not in bob.said():
                break  # it was not that the port, which it draws, was another program's
        self.assertEqual(code, 0, bob.said())
        self.assert_same_pixels(self.saved / f"{HOST}.png")
        self.assertEqual((self.saved / f"{HOST}.txt").read_text(), TEXT)
        alice.wait_for("rows, confirmed")
        alice.end()
        self.assertNotIn("Traceback", alice.said())

    def test_ours_fetches_from_original(self) -> None:
        """Our requester fetches the original's picture and text."""
        alice = self.original("alice", "--serve-seconds", "60")
        alice.wait_for("users ")
        for file in ("my_file.jpg", "my_file.txt"):
            registry = ["--registry", f"http://{HOST}:{self.registry.port}"]
            wish = [f"alice:{file}", str(self.saved)]
            bob = self.start(*P2PSHARE, "get", "--json", "--classic", *registry, *wish)
            self.assertEqual(bob.wait(), 0, bob.said())
            self.assertTrue(all(json.loads(line) for line in bob.said().splitlines()))
        self.assert_same_pixels(self.saved / "alice.png")
        self.assertEqual((self.saved / "alice.txt").read_text(), TEXT)
        alice.wait_for("served image: complete")

    def test_originals_with_each_other(self) -> None:
        """Two originals exchange a text over our registry within a few attempts, since one may ask too early."""
        alice = self.original("alice", "--serve-seconds", "60")
        alice.wait_for("users ")
        for attempt in range(5):
            bob = self.original(f"bob{attempt}", "--get", "alice", "T")
            if bob.wait() == 0:
                break
        self.assertEqual((self.saved / f"{HOST}.txt").read_text(), TEXT)
        self.assertIn("alice", bob.said().splitlines()[1].split())
