"""The verbs of offers with whole peers of two people, over real sockets."""

from __future__ import annotations

import io
import json
import os
import random
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.offers import inbox, send
from p2pshare.ui.verbs.offers.send import OfferOptions
from tests.peer.registry_case import RegistryTestCase


class Command:
    """One command that runs: its events, and its exit code."""

    def __init__(
        self, invocation: Invocation, stdout: io.StringIO, work: Coroutine[Any, Any, int]
    ) -> None:
        self.ended = Deferred.fromCoroutine(work)
        self._stdout = stdout

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind until now."""
        lines = self._stdout.getvalue().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]


class TogetherTests(RegistryTestCase):
    timeout = (
        60  # seconds, for busy machines: a command waits for the peer that another one still uses
    )

    def invocation(self, name: str, cwd: Path) -> tuple[Invocation, io.StringIO]:
        """Return a run of the command line with --json."""
        stdout = io.StringIO()
        terminal = Terminal.detect(stdout, {})
        settings, rng = self.settings(name), random.Random(name)
        output = Output(terminal, terminal, json=True)
        return Invocation(self.reactor, rng, settings, output, cwd, self.reactor.seconds), stdout

    def sending(self, *words: str, text: str | None = None, waits: bool = True) -> Command:
        """Begin to send as alice."""
        invocation, stdout = self.invocation("alice", self.shared)
        work = send.send(invocation, words, OfferOptions(), text=text, waits=waits)
        return Command(invocation, stdout, work)

    def bob(self, work: Any, *arguments: Any) -> Command:
        """Begin a command of bob."""
        invocation, stdout = self.invocation("bob", self.saved)
        return Command(invocation, stdout, work(invocation, *arguments))

    async def offered(self) -> str:
        """Return the ID of the first offer that bob has."""
        while True:
            listing = self.bob(inbox.inbox)
            await listing.ended
            if listing.events("inbox"):
                return str(listing.events("inbox")[0]["id"])

    async def test_accepted(self) -> None:
        """A folder is sent and accepted: alice's command ends with 0 and her peer runs inside it, bob's peer runs."""
        (self.shared / "photos" / "empty").mkdir(parents=True)
        (self.shared / "photos" / "cat.jpg").write_bytes(os.urandom(100_000))
        await self.started("bob")
        sending = self.sending("photos", "bob")
        accepting = self.bob(inbox.accept, (await self.offered())[:6], None)
        self.assertEqual((await accepting.ended, await sending.ended), (0, 0))
        for name in ("photos/cat.jpg", "photos/empty"):
            self.assertTrue((self.saved / name).exists())
        self.assertEqual(accepting.events("inbox")[-1]["saved"], [str(self.saved / "photos")])
        (person,) = sending.events("offer")[-1]["to"]
        self.assertEqual((person["state"], person["bytes_done"]), ("done", 100_000))
        self.assertTrue(person["receipt"])
        self.assertEqual(sending.events("sent")[0]["done"], 1)

    async def test_declined(self) -> None:
        """A text is declined by a command with a peer of its own, and the sender learns it before that ends."""
        await self.started("alice")
        await self.started("bob")
        sending = self.sending("bob", text="hi")
        declining = self.bob(inbox.decline, await self.offered())
        self.assertEqual((await declining.ended, await sending.ended), (0, 3))

    async def test_standard_input(self) -> None:
        """Standard input waits for somebody who is offline, and arrives at a command with a peer of its own."""
        await self.started("alice")
        bob = await self.started("bob")
        await bob.stopService()
        reading, writing = os.pipe()
        os.write(writing, b"verified\n")
        os.close(writing)
        self.addCleanup(os.close, reading)
        stdin = SimpleNamespace(closed=False, isatty=lambda: False, fileno=lambda: reading)
        self.patch(sys, "stdin", stdin)
        sending = self.sending("-", "bob")
        self.assertEqual(await sending.ended, 5)
        accepting = self.bob(inbox.accept, await self.offered(), None)
        self.assertEqual(await accepting.ended, 0)
        self.assertEqual((self.saved / "stdin").read_bytes(), b"verified\n")
        listing_invocation, stdout = self.invocation("alice", self.shared)
        listing = Command(
            listing_invocation, stdout, send.list_offers(listing_invocation, with_past=True)
        )
        await listing.ended
        self.assertEqual(listing.events("offer")[0]["to"][0]["state"], "done")
