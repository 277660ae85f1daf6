"""The models of the originals work among themselves where little is asked of them."""

import random
import subprocess
import sys
import tempfile
from pathlib import Path
from queue import Queue

from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from tests.originals.datagrams import bind_somewhere
from tests.originals.sharing import Sharer

PROJECT = Path(__file__).parents[2]
PATIENCE = 5.0  # seconds; the events take milliseconds


class ProgramTests(SynchronousTestCase):
    """The registry and two clients as processes, on real loopback sockets."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="."))
        self.registry = self.start("registry", "0").split()[1]
        noise = random.Random(1).randbytes(60 * 40 * 3)
        Image.frombytes("RGB", (60, 40), noise).save(self.folder / "my_file.jpg")
        (self.folder / "my_file.txt").write_text("Grüße\n")
        self.start("client", *self.options("alice"))

    def start(self, program: str, *arguments: str) -> str:
        """Start a program, to be ended with the test, and return the first line that it prints."""
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.originals.{program}", *arguments],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        return process.stdout.readline()

    def options(self, name: str) -> list[str]:
        folder = str(self.folder.absolute())
        return ["--registry", self.registry, "--name", name, "--share", folder, "--out", folder]

    def fetch(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a client to its end."""
        return subprocess.run(
            [sys.executable, "-m", "tests.originals.client", *self.options(name), *options],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def test_image(self) -> None:
        """A small picture arrives, is kept as JPEG, and was exact when it arrived."""
        client = self.fetch("bob", "--get", "alice", "I", "--png")
        self.assertEqual(client.returncode, 0, client.stdout)
        self.assertIn("got image alice 60x40 in ", client.stdout)
        with (
            Image.open(self.folder / "my_file.jpg") as shared,
            Image.open(self.folder / "127.0.0.1.png") as got,
            Image.open(self.folder / "127.0.0.1.jpg") as kept,
        ):
            self.assertEqual(got.tobytes(), shared.tobytes())
            self.assertEqual((kept.format, kept.size), ("JPEG", (60, 40)))

    def test_text(self) -> None:
        """A small text arrives, within a few attempts: the original may knock too early."""
        clients = (self.fetch(f"bob{attempt}", "--get", "alice", "T") for attempt in range(5))
        self.assertTrue(any(client.returncode == 0 for client in clients))
        self.assertEqual((self.folder / "127.0.0.1.txt").read_text(), "Grüße\n")

    def test_unread_replies(self) -> None:
        """The client goes on after replies whose bodies it does not read."""
        client = self.fetch("bob", "--get", "nobody", "I", "--get", "nobody", "T")
        self.assertEqual(client.returncode, 1)
        self.assertIn("users alice bob\n", client.stdout)
        self.assertEqual(client.stdout.count("unknown user"), 2)

    def test_name_taken(self) -> None:
        """A name is never free again."""
        client = self.fetch("alice")
        self.assertEqual((client.returncode, client.stdout), (1, "failed name alice is taken\n"))


class SharerTests(SynchronousTestCase):
    """The serving side alone, with a socket of the test's in place of a requester."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="."))
        self.events: Queue[str] = Queue()
        self.welcome = bind_somewhere("127.0.0.1")
        self.requester = bind_somewhere("127.0.0.1")
        self.requester.settimeout(PATIENCE)
        self.addCleanup(self.requester.close)
        self.addCleanup(self.welcome.close)
        Sharer(self.welcome, self.folder, self.events.put).start()
        self.addCleanup(self.tell, b"\xff")

    def tell(self, datagram: bytes) -> None:
        self.requester.sendto(datagram, self.welcome.getsockname())

    def test_words(self) -> None:
        """A word is answered from the welcome port, even when there is no file; others are not."""
        for word in (b"", b"IMG2", b"TXT"):
            self.tell(word)
        self.assertEqual(self.requester.recvfrom(9), (b"ACK", self.welcome.getsockname()))
        self.assertIn("not served text: FileNotFoundError", self.events.get(timeout=PATIENCE))

    def test_not_utf_8(self) -> None:
        """A datagram that is not UTF-8 ends the welcome thread."""
        self.tell(b"\xff")
        self.assertIn("welcome thread ended: UnicodeDecode", self.events.get(timeout=PATIENCE))

    def test_not_rgb(self) -> None:
        """A picture that is not RGB is not sent."""
        Image.new("L", (6, 4)).save(self.folder / "my_file.jpg")
        self.tell(b"IMG")
        self.assertEqual(self.events.get(timeout=PATIENCE), "not served image: it is L")

    def test_nothing_but_ack_size(self) -> None:
        """Anything else than ACK_SIZE in its place ends the transfer."""
        Image.new("RGB", (6, 4)).save(self.folder / "my_file.jpg")
        self.tell(b"IMG")
        self.assertEqual(self.requester.recv(9), b"ACK")
        size, transfer = self.requester.recvfrom(9)
        self.assertEqual(size, bytes.fromhex("00000006 00000004 0a"))
        self.requester.sendto(b"IMG", transfer)
        outcome = self.events.get(timeout=PATIENCE)
        self.assertEqual(outcome, "served image: b'IMG' in place of ACK_SIZE")
