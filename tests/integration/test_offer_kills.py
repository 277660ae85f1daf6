"""Both ends of an offer are killed as processes, each in the middle of a transfer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.integration.forked import run
from tests.integration.neighbourhood import P2PSHARE
from tests.integration.programs import HOST, Program, ProgramsTestCase
from tests.integration.test_registry_process import PATIENCE

BLOCK = 1 << 20  # bytes
FILM = os.urandom(6 * BLOCK + 5)
RATE = "2MB/s"


class OfferKillTests(ProgramsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.port = self.start_registry().port
        self.inbox = self.folder / "inbox"
        (self.folder / "film").write_bytes(FILM)
        self.alice, self.bob = self.start_alice(), self.start_bob()

    def start_alice(self) -> Program:
        """Start the sender's peer."""
        peer = self.start_peer("alice", self.port, "--limit", RATE)
        peer.wait_for("registered: name=")
        return peer

    def start_bob(self) -> Program:
        """Start the receiver's peer."""
        options = ("--accept-from", "alice", "--inbox-folder", str(self.inbox))
        peer = self.start_peer("bob", self.port, *options)
        peer.wait_for("registered: name=")
        return peer

    def p2pshare(self, who: str, *words: str) -> str:
        """Run a command to its end, and return its output."""
        own = ["--name", who, "--registry", f"http://{HOST}:{self.port}"]
        own += ["--data", str(self.folder / f"data-{who}")]
        done = run([*P2PSHARE, *words, *own], cwd=self.folder, input="", timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return str(done.stdout)

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            self.assertLess(time.monotonic(), deadline, f"{self.alice.said()}\n{self.bob.said()}")
            time.sleep(0.02)

    def verified(self) -> int:
        """Return how much the journal says about blocks that have arrived, which grows with each."""
        return sum(path.stat().st_size for path in self.inbox.rglob("*.journal"))

    def test_both_killed(self) -> None:
        """After a `kill -9` of either end, the transfer goes on by itself, and what has arrived comes once."""
        self.p2pshare("alice", "send", "film", "bob", "--no-wait")
        self.until(self.verified)
        begun = self.verified()
        self.until(lambda: self.verified() > begun)
        self.bob.end(signal.SIGKILL)
        kept = self.verified()
        self.bob = self.start_bob()
        self.until(lambda: self.verified() > kept)
        self.alice.end(signal.SIGKILL)
        self.alice = self.start_alice()
        self.until(lambda: (self.inbox / "alice" / "film").exists())
        self.until(lambda: "\tdone\t" in self.p2pshare("alice", "history"))
        self.bob.end(signal.SIGKILL)
        self.bob = self.start_bob()
        self.assertEqual(self.p2pshare("bob", "history").count("\tdone\t"), 1)
        files = [path for path in self.inbox.rglob("*") if path.is_file()]
        self.assertEqual([path.read_bytes() for path in files], [FILM])
