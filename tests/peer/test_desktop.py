"""Which events of offers the desktop shows."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.desktop import DesktopNotices
from p2pshare.peer.events import EventHub


class DesktopNoticesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = EventHub()
        self.shown: list[tuple[str, str]] = []
        self.is_stopped = False
        self.notices = DesktopNotices(self.events, self, remembered_max=2)

    def show(self, title: str, *lines: str) -> None:
        self.shown.append((title, "\n".join(lines)))

    async def stop(self) -> None:
        self.is_stopped = True

    def came(self, state: str = "waiting", id: str = "a", **fields: Any) -> list[tuple[str, str]]:
        """Let an item of the inbox have a state, and return what was shown for that."""
        item = {
            "id": id, "from": "alice", "state": state, "note": "", "text": False, "files": 2, "bytes": 2048,
            "items": [{"name": "cat.jpg"}, {"name": "dog.jpg"}], "more_items": 0,
        }  # fmt: skip
        self.shown.clear()
        self.events.publish("inbox", **(item | fields))
        return self.shown

    def test_arrives(self) -> None:
        """An offer is shown when it arrives, once."""
        self.assertEqual(
            self.came(note="for you"),
            [("alice offers 2 files (2.0 KiB)", "cat.jpg, dog.jpg\nfor you")],
        )
        self.assertEqual(self.came(), [])
        names = [{"name": str(number)} for number in range(5)]
        for fields, title, body in (
            ({"files": 1}, "1 file (2.0 KiB)", "cat.jpg, dog.jpg"),
            ({"text": True, "items": [], "note": "hi"}, "a text", "hi"),
            ({"items": names, "more_items": 7}, "2 files (2.0 KiB)", "0, 1, 2 and 9 more"),
        ):
            self.assertEqual(self.came(id=title, **fields), [(f"alice offers {title}", body)])

    def test_received(self) -> None:
        """The end of a download is shown, once, and not at every start of the peer."""
        self.assertEqual(self.came("done"), [])
        self.came("accepted", id="b")
        self.assertEqual(self.came("done", id="b"), [("Received from alice", "cat.jpg, dog.jpg")])
        self.assertEqual(self.came("done", id="b"), [])

    def test_delivered(self) -> None:
        """The sender is shown who has received something."""
        for states, expected in (
            (("waiting", "delivered"), []),
            (("accepted", "delivered"), []),
            (("done", "accepted"), ["bob has received 2 files (2.0 KiB)"]),
            (("done", "done"), ["carol has received 2 files (2.0 KiB)"]),
        ):
            self.shown.clear()
            to = [
                {"name": name, "state": state}
                for name, state in zip(("bob", "carol"), states, strict=True)
            ]
            items = [{"name": "cat.jpg"}]
            self.events.publish(
                "offer", id="x", to=to, text=False, files=2, bytes=2048, items=items, more_items=0
            )
            self.assertEqual([title for title, _ in self.shown], expected)

    def test_bounds(self) -> None:
        """Only so many states are remembered; the oldest is forgotten first."""
        for id in ("a", "b", "b", "c"):
            self.came(id=id)
        self.assertEqual(self.came(id="c"), [])
        self.assertEqual(len(self.came(id="a")), 1)

    def test_others(self) -> None:
        """Other events are none of its business, and after the end, nothing is."""
        self.events.publish("shares", shares=[])
        self.successResultOf(Deferred.fromCoroutine(self.notices.stop()))
        self.assertEqual((self.came(), self.is_stopped), ([], True))
