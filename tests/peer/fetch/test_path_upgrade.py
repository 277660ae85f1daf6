"""Tests of `p2pshare.peer.fetch.path_upgrade`, and of transfers that move from a relay to a direct path."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from p2pshare.errors import PeerUnreachable
from p2pshare.peer.fetch.link_change import LinkState
from p2pshare.peer.fetch.path_upgrade import AGAIN, RELAY
from p2pshare.wire.blocks import BLOCK_SIZE
from tests.peer.fetch.test_job import LARGE, JobTestCase
from tests.peer.memory_sharer import ADDRESS, DIRECT_DELAY, LATENCY, give

UNREACHABLE = PeerUnreachable(name="alice", address=ADDRESS)


class UpgradeTests(JobTestCase):
    """A session through a relay, and the search for a direct path."""

    def setUp(self) -> None:
        super().setUp()
        self.alice.carrier = RELAY
        self.remote = self.alice.remote()
        self.path = self.alice.put("s", LARGE)

    @property
    def paths(self) -> list[str]:
        """The carriers of the sessions, as the user is told."""
        return [each.path.carrier for each in self.alice.changes if each.path is not None]

    def test_moves(self) -> None:
        """A transfer moves to the direct path; what is verified is not fetched again, and the result is exact."""
        self.alice.answers[self.path] = lambda session, get: give(session, get, 2)
        _, running = self.begin("s")
        self.alice.pass_time(DIRECT_DELAY - 0.01)
        self.alice.answers.clear()
        self.alice.pass_time(5.0)
        progress = self.successResultOf(running)
        self.assertEqual(self.came(), {"s": LARGE})
        self.assertEqual(self.paths, [RELAY, "udp"])
        self.assertEqual([each.is_over for each in self.alice.sessions], [True, False])
        first, second = self.alice.gets()
        self.assertIsNotNone(second.want)
        self.assertEqual((second.want or ((0, 0),))[0][0], 2)
        self.assertGreater(second.id, first.id)
        self.assertLess(progress.bytes_fetched, len(LARGE) + BLOCK_SIZE)
        told = str(self.alice.changes[-1])
        self.assertEqual(told, "the connection to alice is direct now (via udp, 192.0.2.1:50001)")
        self.nothing_left()

    def test_tries_again(self) -> None:
        """Without a direct path, the transfer goes on over the relay, and the search is repeated every minute."""
        self.alice.direct_errors += [UNREACHABLE] * 2
        self.fetch("s")
        self.assertEqual(self.came(), {"s": LARGE})
        self.assertEqual(len(self.alice.gets()), 1)
        self.alice.pass_time(2 * AGAIN + 1, step=0.5)
        first, second, third = self.alice.direct_tries
        self.assertLess(abs(second - first - AGAIN), 1.0)
        self.assertLess(abs(third - second - AGAIN), 1.0)
        self.assertEqual(self.paths, [RELAY, "udp"])
        self.nothing_left()

    def test_comes_back(self) -> None:
        """If the direct path dies, the transfer goes on over the relay, and a fragile path is not tried at once."""
        self.alice.answers[self.path] = lambda session, get: give(session, get, 2)
        _, running = self.begin("s")
        self.alice.pass_time(2 * DIRECT_DELAY)
        self.alice.lose()
        self.alice.answers.clear()
        self.alice.pass_time(5.0)
        self.successResultOf(running)
        self.assertEqual(self.came(), {"s": LARGE})
        self.assertEqual(self.paths, [RELAY, "udp", RELAY])
        self.assertEqual(len(self.alice.direct_tries), 1)
        self.nothing_left()

    def test_direct(self) -> None:
        """A session that is direct already is left alone."""
        self.alice.carrier = "tcp"
        self.fetch("s")
        self.assertEqual(self.alice.direct_tries, [])

    def test_closed_meanwhile(self) -> None:
        """A search ends with the connection."""
        self.fetch("s", seconds=DIRECT_DELAY / 2)
        self.alice.pass_time(LATENCY)
        self.nothing_left()
        self.assertEqual(len(self.alice.sessions), 1)

    def test_lost_meanwhile(self) -> None:
        """A search ends with the session, too; the next one begins with the next session."""
        self.alice.answers[self.path] = lambda session, get: give(session, get, 2)
        _, running = self.begin("s")
        self.alice.pass_time(DIRECT_DELAY / 2 + 0.02)
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(5.0)
        self.successResultOf(running)
        self.assertEqual(self.came(), {"s": LARGE})
        self.assertEqual(len(self.alice.direct_tries), 2)

    def test_ends_at_once(self) -> None:
        """A direct session that breaks as it begins is a lost session as any other."""
        remote = self.remote
        asked = Deferred.fromCoroutine(remote.list(()))
        self.alice.pass_time(0.03)
        self.successResultOf(asked)
        self.alice.pass_time(2 * DIRECT_DELAY)
        self.alice.lose()
        self.assertFalse(remote.is_up)
        self.assertEqual([each.state for each in self.alice.changes][-1], LinkState.UP)
