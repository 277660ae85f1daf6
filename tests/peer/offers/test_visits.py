"""Who fetches what of the shares, as a peer keeps it."""

from __future__ import annotations

from typing import Any

from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import P2pshareError
from p2pshare.peer.offers import service
from p2pshare.peer.offers.visits import PENDING_MAX, TOLD_MAX, WRITE_EVERY, Visits
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.wire.offers.messages import MOUNT
from p2pshare.wire.transfer_messages import Get
from tests.peer.offers.case import OffersTestCase
from tests.storage.offers.ledger_case import key_of

BOB = Viewer("bob", key_of("bob"))


class VisitsTests(OffersTestCase):
    def setUp(self) -> None:
        super().setUp()
        made: list[Visits] = []

        def make(*arguments: Any) -> Visits:
            made.append(Visits(*arguments))
            return made[-1]

        self.patch(service, "Visits", make)
        (self.alice,) = self.people("alice")
        self.visits = made[0]
        self.events: list[dict[str, Any]] = []
        assert self.alice.peer is not None
        self.alice.peer.events.subscribe(
            lambda kind, fields: self.events.append(fields) if kind == "fetched" else None
        )

    def fetch(self, viewer: Viewer, *path: str, size: int = 5, **request: Any) -> None:
        """Let a viewer fetch a file."""
        transfer = Transfer(Get(1, path, **request))
        self.visits.transfer_sent(viewer, transfer, size)
        transfer.outcome = Outcome.CONFIRMED
        self.visits.transfer_ended(viewer, transfer)

    def rows(self, **fields: Any) -> list[dict[str, Any]]:
        """Return what the action tells."""
        return list(self.alice.ask("fetched", **fields)["fetched"])

    def test_kept(self) -> None:
        """Files of a share are one row that grows, of which followers are told; it survives a restart."""
        self.fetch(BOB, "photos", "cat.jpg")
        self.fetch(BOB, "photos", "dog.jpg")
        self.visits.transfer_sent(BOB, Transfer(Get(2, ("photos", "cow.jpg"))), 3)
        self.world.wait(WRITE_EVERY + 1)
        (row,) = self.rows()
        self.assertEqual(
            (row["name"], row["key"], row["share"], row["path"], row["files"], row["bytes"]),
            ("bob", str(BOB.key), "photos", "photos/cat.jpg", 2, 13),
        )
        self.assertEqual(self.events, [row])
        self.fetch(BOB, "music", "a.ogg")
        self.alice.stop()
        self.alice.begin()
        self.world.result(self.alice.ready)
        self.assertEqual([each["share"] for each in self.rows()], ["music", "photos"])
        self.assertEqual([each["share"] for each in self.rows(share="photos")], ["photos"])
        self.assertEqual(self.rows(name="carol"), [])
        first = self.alice.ask("fetched", limit=1)
        self.assertEqual((len(first["fetched"]), first["more"]), (1, True))
        (older,) = self.rows(before=first["fetched"][0]["number"])
        self.assertEqual(older["share"], "photos")
        for fields in ({"limit": 0}, {"before": 0}, {"share": 1}):
            with self.assertRaises(P2pshareError):
                self.alice.ask("fetched", **fields)

    def test_not_kept(self) -> None:
        """Neither offers nor previews nor requests for a root alone are downloads of a share."""
        self.fetch(BOB, MOUNT + "a" * 16, "x")
        self.fetch(BOB, "photos", "cat.jpg", want=())
        self.fetch(BOB, "photos", "cat.jpg", preview=256)
        self.world.wait(WRITE_EVERY + 1)
        self.assertEqual(self.rows(), [])

    def test_bounds(self) -> None:
        """Threat 141: many keys at a time cost a bounded number of rows and events."""
        for number in range(PENDING_MAX + 10):
            self.fetch(Viewer(f"p{number}", key_of(str(number))), "photos", "cat.jpg")
        self.world.wait(WRITE_EVERY + 1)
        self.assertEqual(len(self.rows()), PENDING_MAX)
        self.assertEqual(len(self.events), TOLD_MAX)
