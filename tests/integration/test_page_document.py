"""docs/how-to/page.md: its commands, run as printed, for one person with a registry."""

from __future__ import annotations

import re
import shlex
import signal
import ssl
import urllib.request

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.tap import Options
from p2pshare.ui.arguments import parse_arguments
from tests.integration.forked import run
from tests.integration.neighbourhood import P2PSHARE, PATIENCE, TWISTD, free_port
from tests.integration.programs import HOST, PROJECT, Program, ProgramsTestCase
from tests.registry.certificates import write_certificate

TEXT = (PROJECT / "docs" / "how-to" / "page.md").read_text()
COMMANDS = re.findall(r"^bob\$ (.*)$", TEXT, re.M)


class ShownTests(SynchronousTestCase):
    def test_options(self) -> None:
        """Each command in a sentence is legal, as well as the options of the peers."""
        for command in re.findall(r"`(p2pshare [a-z][^`]*)`", TEXT):
            parse_arguments(shlex.split(command)[1:])
        peers = [command for command in COMMANDS if command.startswith("twistd p2ppeer ")]
        self.assertEqual(len(peers), 2)
        for command in peers:
            Options().parseOptions(["--data", self.mktemp(), *shlex.split(command)[2:]])


class PageDocumentTests(ProgramsTestCase):
    """Bob, without a browser."""

    def setUp(self) -> None:
        super().setUp()
        registry = f"http://{HOST}:{self.start_registry().port}"
        self.environ = {
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "P2PSHARE_REGISTRY": registry,
            "P2PSHARE_NAME": "bob",
        }
        program = self.folder / "bin" / "p2pshare"  # for a desktop to start
        program.parent.mkdir()
        program.touch(0o755)
        write_certificate(self.folder / "key.pem")
        (self.folder / "cert.pem").write_bytes((self.folder / "key.pem").read_bytes())

    def launch(self, *command: str) -> Program:
        """Start a program of Python that ends with the test."""
        program = Program(self.folder, *command, environ=self.environ)
        self.addCleanup(program.discard)
        return program

    def look(self, url: str) -> None:
        """Assert that the page answers there."""
        any_certificate = ssl.create_default_context()
        any_certificate.check_hostname, any_certificate.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(url, timeout=PATIENCE, context=any_certificate) as reply:
            self.assertIn(b"<title>p2pshare</title>", reply.read())

    def perform(self, command: str) -> str:
        """Run a command to its end, without a browser, and return its output."""
        own = [*P2PSHARE, *shlex.split(command)[1:]]
        words = own if command.startswith("p2pshare ") else ["sh", "-c", command]
        done = run(words, cwd=self.folder, env=self.environ, input="", timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
        return str(done.stdout)

    def serve(self, command: str, url: str) -> None:
        """Run a peer that serves its page, at a free port, and look at the page."""
        port = str(free_port())
        words = [re.sub(r"\b(8080|8443)\b", port, word) for word in shlex.split(command)]
        peer = self.launch(*TWISTD[1:], *words[1:])
        peer.wait_for("page open: url=")
        self.look(re.sub(r"\b(8080|8443)\b", port, url))
        peer.end()

    def test_commands(self) -> None:
        """Every command works in the printed order: pages open and answer, and links are registered."""
        people, folder, service, register, unregister, password, elsewhere = COMMANDS
        own = self.launch(*P2PSHARE[1:], *shlex.split(people)[1:])
        own.wait_for("until you press Ctrl+C")
        (url,) = re.findall(r"^http://127\.0\.0\.1:\S+$", own.said(), re.M)
        self.assertTrue(url.endswith("&to=/people"))
        self.look(url.partition("#")[0])
        self.assertIn("&to=/people/alice/files/photos", self.perform(folder))
        own.end(signal.SIGINT)
        (served,) = re.findall(r"`(http://127\.0\.0\.1:8080/)`", TEXT)
        self.serve(service, served)
        entry = self.folder / "data" / "applications" / "p2pshare-link.desktop"
        self.perform(register)
        self.assertTrue(entry.exists())
        self.perform(unregister)
        self.assertFalse(entry.exists())
        self.perform(password)
        self.serve(elsewhere, "https://127.0.0.1:8443/")
