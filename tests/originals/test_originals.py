"""The models of the originals work among themselves where little is asked of them."""

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from tests.originals.datagrams import ACK, Address
from tests.originals.machines import (
    Event,
    GaveUp,
    ImageCompleted,
    OriginalRequester,
    OriginalSharer,
    Pixels,
)

PROJECT = Path(__file__).parents[2]
WELCOME = ("10.0.0.1", 50000)
TRANSFER = ("10.0.0.1", 40000)
REQUESTER = ("10.0.0.2", 60000)
LATENCY = 0.0001  # seconds


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


class Link:
    """A link without loss between a requester and the sharers that answer its words, in order."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.now = 0.0
        self.requester = OriginalRequester(WELCOME)
        self.sharer: OriginalSharer | None = None
        self.in_flight: list[tuple[float, bytes, Address, Address]] = []
        self.events: list[Event] = []

    def run(self) -> None:
        """Run until neither side has anything to wait for."""
        self._collect()
        while (due := self._next_time()) is not None:
            self.now = due
            while self.in_flight and self.in_flight[0][0] <= self.now:
                _, datagram, source, destination = self.in_flight.pop(0)
                self._deliver(datagram, source, destination)
            for machine in self._machines():
                timer = machine.get_timer()
                if timer is not None and timer <= self.now:
                    machine.handle_timer(self.now)
            self._collect()

    def _machines(self) -> list[OriginalRequester | OriginalSharer]:
        return [self.requester, *([self.sharer] if self.sharer is not None else [])]

    def _next_time(self) -> float | None:
        times = [timer for m in self._machines() if (timer := m.get_timer()) is not None]
        return min(times + [arrival for arrival, *_ in self.in_flight[:1]], default=None)

    def _collect(self) -> None:
        for machine in self._machines():
            source = REQUESTER if machine is self.requester else TRANSFER
            for datagram, destination in machine.datagrams_to_send(self.now):
                self._send(datagram, source, destination)
            while (event := machine.next_event()) is not None:
                self.events.append(event)

    def _send(self, datagram: bytes, source: Address, destination: Address) -> None:
        self.in_flight.append((self.now + LATENCY, datagram, source, destination))

    def _deliver(self, datagram: bytes, source: Address, destination: Address) -> None:
        if destination == WELCOME:
            self._send(ACK, WELCOME, source)
            self.sharer = OriginalSharer(self.pixels, source, self.now)
        elif destination == REQUESTER:
            self.requester.receive_datagram(datagram, source, self.now)
        elif self.sharer is not None:
            self.sharer.receive_datagram(datagram, source, self.now)


def picture(width: int, height: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


class MachineTests(SynchronousTestCase):
    """The machines against each other, on a link without loss."""

    def test_small_picture(self) -> None:
        """A picture that fits into the requester's buffer arrives exactly, at both ends."""
        link = Link(picture(60, 40))
        link.run()
        self.assertEqual(len(link.events), 2)
        for event in link.events:
            assert isinstance(event, ImageCompleted)
            np.testing.assert_array_equal(event.pixels, link.pixels)

    def test_outrun(self) -> None:
        """A sharer outruns a requester: rows are lost, no second FIN comes, all tries fail."""
        link = Link(picture(1200, 900))
        link.run()
        self.assertIn(GaveUp("3 tries"), link.events)
        self.assertEqual(link.requester.tries, 3)
        self.assertGreater(link.now, 33)

    def test_wide_rows(self) -> None:
        """Rows of more than 1363 pixels are cut short, so none ever arrives."""
        link = Link(picture(1364, 2))
        link.run()
        self.assertIn(GaveUp("3 tries"), link.events)

    def test_nobody(self) -> None:
        """Without ACK the requester gives up after 3 s."""
        requester = OriginalRequester(WELCOME)
        words = requester.datagrams_to_send(0.0)
        while (now := requester.get_timer()) is not None:
            requester.handle_timer(now)
            words += requester.datagrams_to_send(now)
        self.assertEqual(words, [(b"IMG", WELCOME)] * 3)
        self.assertEqual(requester.next_event(), GaveUp("3 tries"))
