"""A user's own peer that does as a test says, for the verbs of offers."""

from __future__ import annotations

import io
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import P2pshareError
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import own_peer as own_peer_module
from tests.ui.registries import NOW, MemoryInvocation, MemoryRegistry
from tests.ui.screens import COLOURFUL, FakeTty, Screen

ID = "k6xwn2q4h7yx5c3m"
LEFT_OUT = {
    "hidden": 2,
    "hidden_examples": [".git"],
    "excluded": 0,
    "excluded_examples": [],
    "omitted": {},
    "omitted_examples": [],
    "looked_at": 14,
    "complete": True,
}
OFFER: dict[str, Any] = {
    "id": ID,
    "created": NOW - 60,
    "expires": NOW + 7 * 86400,
    "note": "",
    "text": False,
    "items": [{"name": "photos", "kind": "folder", "bytes": 2048, "files": 12}],
    "more_items": 1,
    "files": 13,
    "folders": 2,
    "bytes": 4096,
    "left_out": None,
    "to": [],
}
PERSON: dict[str, Any] = {
    "name": "carol",
    "state": "waiting",
    "why": None,
    "online": None,
    "bytes_done": 0,
    "rate": 0,
    "updated": NOW,
    "receipt": None,
}
ITEM: dict[str, Any] = {
    **{key: value for key, value in OFFER.items() if key not in ("created", "left_out", "to")},
    "from": "alice",
    "key": "k",
    "received": NOW - 60,
    "state": "waiting",
    "why": None,
    "folder": None,
    "auto": False,
    "paused": False,
    "bytes_done": 0,
    "rate": 0,
    "saved": [],
    "told": True,
}


class ScriptedPeer:
    """Answers requests from a table, and has a list that a test changes with `tell`."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.is_lasting = True
        self.name = "bob"
        self._changed: Deferred[None] = Deferred()
        self._news: list[dict[str, Any]] = []
        self.ended: P2pshareError | None = None

    async def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Return the answer, or raise it if it is an error."""
        self.asked.append({"do": do, **fields})
        if do == "offers" and do not in self.answers:
            return {"offers": list(self.rows.values()), "more": False}
        answer = self.answers[do]
        if isinstance(answer, P2pshareError):
            raise answer
        answer = dict(answer)
        if do in ("send", "accept_offer") and not fields.get("check"):
            self.rows[answer["id"]] = answer
        return answer

    async def comes_online(self, patience: float) -> bool:
        """Say that it is online."""
        self.asked.append({"do": "comes_online"})
        return True

    async def listed(self, do: str, key: str, by: str = "id") -> list[dict[str, Any]]:
        """Return the rows."""
        return list(self.rows.values())

    async def follow(self, do: str, key: str, kind: str) -> AsyncGenerator[dict[str, Any]]:
        """Yield the rows, and what the test tells."""
        for row in list(self.rows.values()):
            yield dict(row)
        while True:
            while self._news:
                yield self._news.pop(0)
            if self.ended is not None:
                raise self.ended
            self._changed = Deferred()  # the last one may be cancelled
            await self._changed

    def tell(self, row: dict[str, Any]) -> None:
        """Change a row."""
        self.rows[row["id"]] = row
        self._news.append(dict(row))
        self._wake()

    def end(self, error: P2pshareError) -> None:
        """End the peer."""
        self.ended = error
        self._wake()

    def _wake(self) -> None:
        if not self._changed.called:
            self._changed.callback(None)


class OfferVerbTestCase(SynchronousTestCase):
    """Runs a verb with a scripted peer."""

    module: Any
    """The module of the verb."""

    def setUp(self) -> None:
        self.peers = [ScriptedPeer()]
        self.contacts: list[bool] = []
        self.begin()

        @asynccontextmanager
        async def own_peer(_: Any, *, in_contact: bool = True) -> AsyncIterator[ScriptedPeer]:
            self.contacts.append(in_contact)
            yield self.peers.pop(0) if len(self.peers) > 1 else self.peers[0]

        @asynccontextmanager
        async def own_records(_: Any) -> AsyncIterator[Any]:
            yield self.peers[0].ask

        for module in (self.module, own_peer_module):
            for fake in own_peer, own_records:
                if hasattr(module, fake.__name__):
                    self.patch(module, fake.__name__, fake)
        self.peer = self.peers[0]

    def begin(self, *, json: bool = False, quiet: bool = False, tty: bool = False) -> None:
        """Choose the kind of output."""
        self.stdout, self.stderr = (FakeTty(), FakeTty()) if tty else (io.StringIO(), io.StringIO())
        environ = COLOURFUL if tty else {}
        terminals = [Terminal.detect(each, environ) for each in (self.stdout, self.stderr)]
        output = Output(*terminals, json=json, quiet=quiet)
        fake = MemoryInvocation(MemoryRegistry(), output, Path(self.mktemp()).absolute())
        fake.rng = random.Random(1)
        fake.cwd.mkdir()
        self.clock, self.cwd = fake.reactor, fake.cwd
        self.invocation = cast(Invocation, fake)

    def events(self) -> list[dict[str, Any]]:
        """Return the events."""
        return [json.loads(line) for line in self.stdout.getvalue().splitlines()]

    def screen(self) -> list[str]:
        """Return what a terminal shows of the progress."""
        screen = Screen(80)
        screen.feed(self.stderr.getvalue())
        return screen.shown()


def offer(*people: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return an offer to some people, each a part of their state."""
    return {**OFFER, "to": [{**PERSON, **each} for each in people], **changes}
