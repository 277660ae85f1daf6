"""A job whose two ends are killed repeatedly, until every file has arrived unchanged."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from contextlib import suppress
from typing import Any
from unittest import mock

from p2pshare.storage.incoming.announcement import Origin, Place
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.keys import PublicKey
from tests.integration.neighbourhood import P2PSHARE
from tests.integration.programs import HOST, Program, ProgramsTestCase
from tests.integration.test_registry_process import free_port

BLOCKS = 32  # of the large file
RATE = "4MB/s"  # so that it takes some seconds
REQUESTERS, SHARERS = 5, 2  # that are killed
LONGEST = 1.2  # seconds of the job between two kills; longer than data stays unsynced


class KillTests(ProgramsTestCase):
    """A registry, a sharer and a requester as processes."""

    def setUp(self) -> None:
        super().setUp()
        homes = {f"XDG_{each}_HOME": str(self.folder / each) for each in ("CONFIG", "DATA")}
        self.enterContext(mock.patch.dict(os.environ, homes))
        self.rng = random.Random(12)
        self.files = {f"{n % 5}/{n}": self.rng.randbytes(n * 100) for n in range(200)}
        self.files["large"] = self.rng.randbytes(BLOCKS * BLOCK_SIZE)
        for name, data in self.files.items():
            path = self.folder / "share" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.inbox = self.folder / "inbox"
        self.inbox.mkdir()
        self.programs: list[Program] = []
        self.port = free_port()
        self.registry = self.start_registry()

    def start_sharer(self, rate: str = RATE) -> Program:
        """Start alice's peer, always on the same port."""
        options = ("--share", "share", "--listen", str(self.port), "--limit", rate)
        sharer = self.start_peer("alice", self.registry.port, *options)
        self.programs.append(sharer)
        sharer.wait_for(f"registered: name=alice address={HOST}:")
        return sharer

    def start_requester(self, via: str = "auto") -> Program:
        """Start bob's command, always the same; return once it has a session."""
        url = f"http://{HOST}:{self.registry.port}"
        words = ("get", "alice:share", "inbox", "--name", "bob", "--registry", url)
        requester = self.start(*P2PSHARE[1:], *words, "--via", via, "--json")
        self.programs.append(requester)
        requester.wait_for('"event": "')
        self.assertNotIn('"error"', requester.said())
        return requester

    def run_on(self, program: Program, seconds: float | None = None) -> None:
        """Wait while the job makes progress, for so many seconds, or some."""
        with suppress(subprocess.TimeoutExpired):
            program.process.wait(seconds or self.rng.uniform(0.1, LONGEST))

    def verified(self) -> int:
        """Return the bytes of the large file that the next requester will find."""
        key = json.loads(self.registry.ask("GET", "/v1/peers/alice")[1])["key"]
        place = Place(("share",), "large")
        with IncomingFolder.open(self.inbox) as folder:
            part = folder.resume(place, Origin(PublicKey.parse(key), ("share", "large")))
            if part is None:
                return 0
            blocks = sum(count for _, count in part.have)
            part.suspend()
        return blocks * BLOCK_SIZE

    def events(self, requester: Program) -> list[dict[str, Any]]:
        """Return what a run printed."""
        return [json.loads(line) for line in requester.said().splitlines() if line[:1] == "{"]

    def saved(self, requester: Program) -> dict[str, dict[str, Any]]:
        """Return the outcomes of the files that a run printed."""
        return {each["from"]: each for each in self.events(requester) if each["event"] == "saved"}

    def came(self) -> dict[str, bytes]:
        paths = (path for path in self.inbox.rglob("*") if path.is_file())
        return {str(path.relative_to(self.inbox / "share")): path.read_bytes() for path in paths}

    def test_killed_again_and_again(self) -> None:
        """After any kill of either end, the same command completes all files and fetches no verified block twice."""
        victims = ["requester"] * REQUESTERS + ["sharer"] * SHARERS
        self.rng.shuffle(victims)
        sharer, requester = self.start_sharer(), self.start_requester()
        for victim in victims:
            self.run_on(requester)
            if victim == "sharer":
                sharer.end(signal.SIGKILL)
                sharer = self.start_sharer()
                continue
            requester.end(signal.SIGKILL)
            self.assertEqual(requester.process.returncode, -signal.SIGKILL, requester.said())
            requester = self.start_requester()
        self.run_on(requester)
        requester.end(signal.SIGINT)
        self.assertEqual(requester.process.returncode, 130, requester.said())
        verified = self.verified()
        small = [path for path in self.inbox.rglob("[0-9]*") if path.is_file()]
        self.assertGreater(verified, 0)
        self.assertLess(verified, BLOCKS * BLOCK_SIZE)

        sharer.end(signal.SIGKILL)
        sharer = self.start_sharer("1GB/s")
        requester = self.start_requester()
        self.assertEqual(requester.wait(), 0, requester.said())
        for program in self.programs:
            said = program.said()
            self.assertEqual(
                [word for word in ("Traceback", "Unhandled") if word in said], [], said
            )
        came = self.came()
        self.assertEqual(sorted(came), sorted(self.files))
        self.assertEqual([name for name in came if came[name] != self.files[name]], [])
        saved = self.saved(requester)
        large = saved.pop("alice:share/large")
        self.assertEqual(large["fetched"], BLOCKS * BLOCK_SIZE - verified)
        self.assertEqual(len(saved), 200)
        self.assertEqual(sum(each["already_there"] for each in saved.values()), len(small))

    def test_over_udp(self) -> None:
        """Over UDP, too, a killed requester resumes, and one whose sharer is killed goes on with its next process."""
        total = BLOCKS * BLOCK_SIZE
        sharer, verified = self.start_sharer(), 0
        while not verified:  # on a busy machine, a run may come to the large file late
            requester = self.start_requester("udp")
            self.run_on(requester, 2.0)
            requester.end(signal.SIGKILL)
            verified = self.verified()

        requester = self.start_requester("udp")
        self.run_on(requester, 2.0)
        sharer.end(signal.SIGKILL)
        sharer = self.start_sharer("1GB/s")
        self.assertEqual(requester.wait(), 0, requester.said())
        sharer.wait_for("upload confirmed: peer=bob path=share/large")
        came = self.came()
        self.assertEqual([name for name in self.files if came.get(name) != self.files[name]], [])
        large = self.saved(requester)["alice:share/large"]
        self.assertEqual(large["fetched"], total - verified)
        carriers = [each["via"] for each in self.events(requester) if each["event"] == "connected"]
        self.assertEqual(carriers, ["udp", "udp"])
        for program in self.programs:
            self.assertNotIn("Traceback", program.said())
