"""People who download from each other by the actions of their peers, in virtual time."""

from __future__ import annotations

from typing import Any

from p2pshare.storage.shares import outgoing_files
from tests.peer.offers.case import EVERY, SOON, OffersTestCase
from tests.peer.offers.world import Person

Job = dict[str, Any]

MIB = 1024 * 1024


class DownloadsTestCase(OffersTestCase):
    """Bob downloads what alice shares."""

    alice: Person
    bob: Person

    def begin(self, **settings: Any) -> None:
        """Start alice, who shares the folder `files`, and bob, who has these settings."""
        self.alice = self.person("alice")
        self.alice.change(share=(str(self.alice.files),))
        self.bob = self.person("bob", **settings)
        for each in (self.alice, self.bob):
            each.begin()
        for each in (self.alice, self.bob):
            self.world.result(each.ready)

    def setUp(self) -> None:
        super().setUp()
        # Tests run so fast that a file written just now could change without a trace in its times.
        self.patch(outgoing_files, "may_repeat", lambda *_: False)

    def get(self, *paths: str, **fields: Any) -> Job:
        """Let bob download paths of alice."""
        return self.bob.ask("get", **{"name": "alice", "paths": [*paths], **fields})

    def jobs(self, person: Person | None = None) -> list[Job]:
        """Return all rows of a person, by default of bob."""
        who, rows, after = person or self.bob, list[Job](), None
        while True:
            reply = who.look("jobs", after=after)
            rows += reply["jobs"]
            if not reply["more"]:
                return rows
            after = rows[-1]["id"]

    def job(self, job: Job, person: Person | None = None) -> Job:
        """Return a row as it is now."""
        return (person or self.bob).look("job", id=job["id"])

    def until_job(self, job: Job, within: float = SOON, every: float = EVERY, **wanted: Any) -> Job:
        """Let time pass until a row of bob has these fields, and return it."""
        self.world.until(lambda: self.job(job).items() >= wanted.items(), within, every)
        return self.job(job)

    def saved(self, sender: str = "alice") -> dict[str, bytes]:
        """Return what bob has of somebody in the default folder, incomplete files included."""
        return self.bob.received(sender)
