"""The commands of the README, run as printed, for two people with empty home folders."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from importlib.resources import files
from pathlib import Path

from tests.integration.neighbourhood import P2PSHARE, PATIENCE, TWISTD, free_port
from tests.integration.programs import PROJECT

README = PROJECT / "README.md"
URL = "http://192.0.2.1:8000"
COMMANDS_MAX = 9  # for two people, from nothing to a file
PHOTOS = {"cat.jpg": b"cat\n" * 1000, "dog.jpg": b"dog\n" * 1000, "notes.txt": b"notes\n"}
PYTHON3 = '#!/bin/sh\n[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin" && cp "${0%/*}/pip" "$3/bin"\n'
"""Replaces Python: it creates an environment that contains the replaced pip."""
PIP = '#!/bin/sh\n[ "$1" = install ] && [ -f "$2/setup.cfg" ] && cp TOOLS/p2pshare TOOLS/twistd "${0%/*}"\n'
"""Replaces pip, which needs half a minute. `tests/test_packaging.py` unpacks a real wheel."""


def blocks() -> list[list[str]]:
    """Return the commands of each code block of the README, without trailing comments."""
    found = re.findall(r"^```\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    return [[re.sub(r"\s+#.*", "", line) for line in block.splitlines()] for block in found]


class TwoPeopleTestCase(unittest.TestCase):
    """Alice and Bob, each with an empty home folder."""

    def setUp(self) -> None:
        if shutil.which("bash") is None:
            raise unittest.SkipTest("there is no bash, for which the commands are printed")
        temporary = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.port = free_port()
        self.write_tools()
        photos = self.folder / "alice" / "photos"
        photos.mkdir(parents=True)
        for name, content in PHOTOS.items():
            (photos / name).write_bytes(content)
        (self.folder / "bob").mkdir()

    def write_tools(self) -> None:
        tools = self.folder / "tools"
        tools.mkdir()
        for name, text in {
            "python3": PYTHON3,
            "pip": PIP.replace("TOOLS", str(tools)),
            "p2pshare": f"#!/bin/sh\nexec {sys.executable} -c '{P2PSHARE[2]}' \"$@\"\n",
            "twistd": f"#!/bin/sh\nexec {sys.executable} -c '{TWISTD[2]}' \"$@\"\n",
        }.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)

    def start_as(self, who: str, commands: list[str], cwd: Path) -> subprocess.Popen[str]:
        """Start a shell with an empty home folder that runs the commands until one fails."""
        listen = f"p2pregistry --listen tcp:{self.port}:interface=127.0.0.1"
        script = "\n".join(commands).replace(URL, f"http://127.0.0.1:{self.port}")
        script = re.sub(r"p2pregistry$", listen, script, flags=re.MULTILINE)
        url = f" --url http://127.0.0.1:{self.port}"  # else a link leads to other addresses
        script = re.sub(r"p2pshare invite .*", rf"\g<0>{url}", script)
        return subprocess.Popen(
            ["bash", "-euc", script],
            cwd=cwd,
            env={
                "HOME": str(self.folder / who),
                "PATH": f"{self.folder / 'tools'}:/usr/bin:/bin",
                "PYTHONPATH": str(PROJECT),
                "TMPDIR": str(self.folder),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run_as(self, who: str, commands: list[str], cwd: Path, answers: str = "") -> str:
        """Run the commands as `start_as`, assert that each succeeds, and return their output."""
        with self.start_as(who, commands, cwd) as shell:
            output, errors = shell.communicate(answers, PATIENCE)
        self.assertEqual(shell.returncode, 0, f"{commands}\n{output}{errors}")
        return output


class ReadmeTests(TwoPeopleTestCase):
    """The README."""

    def test_commands(self) -> None:
        """The README's commands fetch a folder from one person to another, and stop every service they started."""
        install, serve, fetch, then, end = blocks()
        together = [*install, *serve, *install, *fetch]
        self.assertLessEqual(sum(len(line.split("&&")) for line in together), COMMANDS_MAX)
        alice, bob = self.folder / "alice", self.folder / "bob"
        self.run_as("alice", install, PROJECT)
        ending = end.copy()
        self.addCleanup(lambda: ending and self.run_as("alice", ["set +e", *ending, "true"], alice))
        *said, link = self.run_as("alice", serve, alice).split()
        self.assertIn("alice", said)
        self.run_as("bob", install, PROJECT)
        fetch = [line.replace("LINK", link) for line in fetch]
        self.assertIn("photos\tfolder", self.run_as("bob", fetch, bob))
        self.assert_photos(bob / "photos", set(PHOTOS))
        self.assertIn("alice\tonline\t", self.run_as("bob", then, bob))
        self.assert_photos(bob / "Pictures", {"cat.jpg", "dog.jpg"})
        self.assertIn("alice", self.run_as("alice", ending, alice))
        ending = []

    def assert_photos(self, folder: Path, names: set[str]) -> None:
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.assertEqual(found, {name: PHOTOS[name] for name in names})

    def test_page_installs_alike(self) -> None:
        """The registry's page shows the same command to install."""
        page = files("p2pshare.registry").joinpath("page", "page.html").read_text()
        self.assertIn(f'data-command="{blocks()[0][0]}"', page)
