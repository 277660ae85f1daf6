"""Tests of `p2pshare.classic.core.requester`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.requester import Asking, parse_answer
from p2pshare.classic.datagrams import Kind, Word


def asked(kind: Kind) -> list[tuple[float, bytes]]:
    """Return all words until the request gives up, with their times."""
    asking = Asking(kind, 100.0)
    sent, now = [], 100.0
    while now < asking.gives_up_at:
        sent += [(round(now - 100, 3), data) for data in asking.due(now)]
        now = asking.get_timer()
    return sent


class AskingTests(SynchronousTestCase):
    def test_text(self) -> None:
        """TXT goes out every 200 ms for five seconds."""
        sent = asked(Kind.TEXT)
        self.assertEqual([when for when, _ in sent], [round(n * 0.2, 3) for n in range(25)])
        self.assertEqual({data for _, data in sent}, {b"TXT"})

    def test_picture(self) -> None:
        """IMG2 goes out for half a second, then IMG for five."""
        sent = asked(Kind.PICTURE)
        self.assertEqual(sent[:4], [(0.0, b"IMG2"), (0.2, b"IMG2"), (0.4, b"IMG2"), (0.5, b"IMG")])
        self.assertEqual([data for _, data in sent].count(b"IMG"), 25)

    def test_late(self) -> None:
        """After a pause one word is sent, not all that were missed."""
        asking = Asking(Kind.PICTURE, 0.0)
        self.assertEqual(asking.due(3.0), [b"IMG"])
        self.assertEqual(asking.due(3.0), [])

    def test_only_ours_asked(self) -> None:
        """The request knows whether an original can have understood a word already."""
        asking = Asking(Kind.PICTURE, 0.0)
        asking.due(0.0)
        self.assertTrue(asking.only_ours_asked)
        asking.due(0.5)
        self.assertFalse(asking.only_ours_asked)

    def test_answers(self) -> None:
        """Only the two acknowledgements count as answers."""
        self.assertEqual(parse_answer(b"ACK"), Word.ACK)
        self.assertEqual(parse_answer(b"ACK2"), Word.ACK2)
        for data in (b"", b"ack", b"ACK3", b"IMG", b"ACK_SIZE", b"\xff\xff\xff"):
            self.assertIsNone(parse_answer(data))
