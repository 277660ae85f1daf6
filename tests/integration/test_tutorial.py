"""The commands of the tutorial, run as printed, for two people with empty home folders."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request

from tests.integration import test_readme
from tests.integration.neighbourhood import PATIENCE, free_port
from tests.integration.programs import PROJECT

LINK = re.compile(r"p2pshare:[a-z2-7]+")
COMMAND = re.compile(r"(alice|bob)\$ (.*)")
ANSWER = re.compile(r"(?:\[.*\] )?(?:Get files from|Open or get): (.*)")
BLOCK = 1 << 20  # bytes
FILM = os.urandom(8 * BLOCK)


def steps() -> list[tuple[str, str, list[str]]]:
    """Return each command of the tutorial with its person before it, and the lines behind it."""
    text = (PROJECT / "docs" / "tutorial.md").read_text()
    found: list[tuple[str, str, list[str]]] = []
    for block in re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if command := COMMAND.fullmatch(line):
                found.append((command[1], command[2], []))
            else:
                found[-1][2].append(line)
    return found


class TutorialTests(test_readme.TwoPeopleTestCase):
    def test_commands(self) -> None:
        """Every command of the tutorial works in the printed order, and the files arrive."""
        alice, bob = self.folder / "alice", self.folder / "bob"
        (alice / "photos" / "2024").mkdir()
        (alice / "photos" / "2024" / "film.mp4").write_bytes(FILM)
        (alice / "notes.txt").write_text("for carol")
        (alice / "passphrase").write_text("long enough\n")
        exports: dict[str, str] = {}
        outputs: dict[str, str] = {}
        link = ""
        *commands, stop_peer, stop_registry = steps()
        ending = [stop_peer[1], stop_registry[1]]
        self.addCleanup(
            lambda: self.run_as("alice", [exports["alice"], "set +e", *ending, "true"], alice)
        )
        for who, command, lines in commands:
            if command.startswith("export "):
                exports[who] = command
                continue
            words = re.sub(r"--listen \d+", f"--listen {free_port()}", command)
            words = LINK.sub(link, words)
            if "passphrase" in "".join(lines[:1]):  # typed on the terminal
                words += " --passphrase-file passphrase"
            script = [exports[who], words]
            if command == "p2pshare open":
                self.open_page(who, script)
                continue
            if "^C" in lines:
                self.interrupt(who, script)
                continue
            answers = "".join(f"{each[1]}\n" for line in lines if (each := ANSWER.fullmatch(line)))
            output = outputs[command] = self.run_as(who, script, self.folder / who, answers)
            link = output.strip() if LINK.match(output) else link
        for path in ("film.mp4", "Pictures/photos/2024/film.mp4"):
            self.assertEqual((bob / path).read_bytes(), FILM)
        (joined,) = (said for command, said in outputs.items() if "join" in command)
        self.assertIn("photos", joined)
        self.assertNotIn("notes.txt", joined)
        self.assertTrue((alice / "alice.key").exists())
        key = outputs["p2pshare peers"].split("\t")[1].strip()
        self.assertIn(key, outputs["p2pshare whoami"].replace(" ", ""))
        for command in ending:
            self.run_as("alice", [exports["alice"], command], alice)

    def interrupt(self, who: str, script: list[str]) -> None:
        """Press Ctrl+C when a block of a file has come."""
        with self.start_as(who, script, self.folder / who) as shell:
            deadline = time.monotonic() + PATIENCE
            while not any(
                part.stat().st_size > BLOCK for part in (self.folder / who).glob(".*.part")
            ):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            os.killpg(shell.pid, signal.SIGINT)
            shell.communicate(timeout=PATIENCE)
        self.assertEqual(shell.returncode, 130)

    def open_page(self, who: str, script: list[str]) -> None:
        """Press Ctrl+C when the page is open, and answers at the printed address."""
        with self.start_as(who, script, self.folder / who) as shell:
            assert shell.stdout is not None
            page, _, token = shell.stdout.readline().partition("#")
            self.assertTrue(token, page)
            with urllib.request.urlopen(page, timeout=PATIENCE) as reply:
                self.assertIn(b"<title>p2pshare</title>", reply.read())
            os.killpg(shell.pid, signal.SIGINT)
            shell.communicate(timeout=PATIENCE)
