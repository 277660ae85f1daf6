"""docs/how-to/send.md: its commands, run as printed, for two people with a registry and a peer each."""

from __future__ import annotations

import re
import shlex
import subprocess
import time

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.tap import Options
from p2pshare.ui.arguments import parse_arguments
from tests.integration.forked import run
from tests.integration.neighbourhood import P2PSHARE, PATIENCE
from tests.integration.programs import HOST, PROJECT, ProgramsTestCase

TEXT = (PROJECT / "docs" / "how-to" / "send.md").read_text()
COMMAND = re.compile(r"^(alice|bob)\$ (.*)$", re.M)
ID = re.compile(r"\b(k6xwn2|c3mbr2|odl4ze)\b")
FILES = {
    "photos/cat.jpg": b"cat" * 9999,
    "photos/2026/dog.jpg": b"dog" * 4000,
    "notes.txt": b"note",
}


class ShownTests(SynchronousTestCase):
    def test_options(self) -> None:
        """Each command in a sentence or table is legal, as well as the options of the peer."""
        shown = re.findall(r"`(p2pshare (?:send|get|inbox|history|path) [^`]*)`", TEXT)
        self.assertGreater(len(shown), 8)
        for command in shown:
            parse_arguments(shlex.split(command)[1:])
        (peer,) = re.findall(r"^bob\$ twistd p2ppeer (.*)$", TEXT, re.M)
        Options().parseOptions(["--name", "bob", "--data", self.mktemp(), *shlex.split(peer)])


class SendDocumentTests(ProgramsTestCase):
    """Alice and Bob."""

    def setUp(self) -> None:
        super().setUp()
        for name, content in FILES.items():
            path = self.folder / "alice" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (self.folder / "bob").mkdir()
        self.port = self.start_registry().port
        for name in ("alice", "bob"):
            self.start_peer(name, self.port).wait_for("registered: name=")
        self.ids: dict[str, str] = {}

    def p2pshare(self, who: str, words: list[str], given: str = "") -> str:
        """Run a command to its end, and return its output."""
        own = ["--name", who, "--registry", f"http://{HOST}:{self.port}"]
        own += ["--data", str(self.folder / f"data-{who}")]
        done = run([*P2PSHARE, *words, *own], cwd=self.folder / who, input=given, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, f"{words}\n{done.stdout}{done.stderr}")
        return str(done.stdout)

    def offered(self, title: str) -> str:
        """Wait until bob's inbox has an offer, and return its ID."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.p2pshare("bob", ["inbox"]).splitlines():
                if title in line:
                    return line.split("\t")[0]
            time.sleep(0.05)
        raise AssertionError(title)

    def perform(self, who: str, command: str) -> str:
        """Run a command of the document; what it sends is offered when it ends."""
        first, pipe, second = command.partition(" | ")
        given = ""
        if pipe:
            made = subprocess.run(shlex.split(first), cwd=self.folder / who, capture_output=True)
            given = made.stdout.decode("ascii")
        words = shlex.split(second or first)[1:]
        words = [self.ids.get(word, word) for word in words]
        if words[0] == "send" and words[-1] != "--all":
            words.append("--no-wait")
        said = self.p2pshare(who, words, given)
        if "--no-wait" in words:
            (shown,) = ID.findall(self.result_of(command))
            self.ids[shown] = self.offered(
                self.result_of(command).partition(": ")[2].split(" (")[0]
            )
        return said

    def result_of(self, command: str) -> str:
        """Return the line that the document shows behind a command."""
        return TEXT.partition(f"$ {command}\n")[2].splitlines()[0]

    def test_commands(self) -> None:
        """Every command works in the printed order, what is accepted arrives, and what is shown is said."""
        for who, command in COMMAND.findall(TEXT):
            if command.startswith("twistd"):
                continue
            self.perform(who, command)
        bob = self.folder / "bob"
        self.assertEqual({name: (bob / name).read_bytes() for name in FILES}, FILES)
        self.assertTrue((bob / "Downloads" / "photos.tar").exists())
        sent = self.p2pshare("alice", ["history"])
        self.assertEqual([line.split("\t")[3] for line in sent.splitlines()].count("done"), 2)
        self.assertIn("declined", sent)
