"""Whole jobs over links that flip, lose, repeat, reorder, delay and break what crosses them."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.errors import LinkGivenUp, NoSessionThere
from p2pshare.peer.fetch import remote as remote_module
from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.wire.blocks import BLOCK_SIZE
from tests.peer.bad_link import (
    BadLink,
    Break,
    Choose,
    Delays,
    Duplicate,
    Flip,
    HalfClose,
    HangUp,
    Inject,
    Lose,
    Reorder,
    Silence,
    Trickle,
    Trouble,
)
from tests.peer.sharers import ALICE, BOB, AliceShares, SharersTestCase, reactor

LARGE = random.Random(7).randbytes(5 * BLOCK_SIZE)
NEVER = 1 << 62
SILENT_FOR = 1.0  # seconds after which a session counts as lost, where something else is tried
SAID = 2500  # bytes that the opener says in a job, at least
GREETED = 2300  # bytes of each direction after which both ends are sure of each other, at most
OVERHEAD = 64 * 1024  # bytes of a connection that are not of files, at most
VIEWER = "barbara-who-looks-at-it"
SECRET = "a-name-that-nobody-else-reads"


class BadLinkTestCase(SharersTestCase):
    """A large file, small ones and empty ones, which are fetched through a `BadLink`."""

    def setUp(self) -> None:
        """Share them; what fails is tried again soon."""
        super().setUp()
        self.patch(remote_module, "RETRY_FIRST", 0.02)
        self.top = self.inbox
        rng = random.Random(8)
        self.files = {f"deep/{n}.txt": rng.randbytes(rng.randint(1, 20_000)) for n in range(30)}
        self.files |= {f"{SECRET}.bin": LARGE, "empty": b"", "deep/empty": b""}
        for name, data in self.files.items():
            self.write(name, data)
        self.size = sum(map(len, self.files.values()))
        self.through: AliceShares | None = None
        self.connections = 0  # that the last job took

    def link(self, choose: Choose) -> BadLink:
        """A link to alice, whom all links share."""
        if self.through is None:
            self.through = self.alice(viewer=VIEWER)
        link = BadLink(reactor, self.through.address, choose)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        return link

    def over(self, link: BadLink, **options: Any) -> RemotePeer:
        """Alice, at the other end of it."""
        return self.remote(
            lambda: link.address, **{"silence": SILENT_FOR, "patience": 20.0} | options
        )

    def assert_whole(self, remark: object = None) -> None:
        """All is there, as it is there, and nothing else."""
        self.assertEqual(self.failed, {}, remark)
        came = self.came()
        self.assertEqual(sorted(came), sorted(f"share/{name}" for name in self.files), remark)
        wrong = [name for name, data in self.files.items() if came[f"share/{name}"] != data]
        self.assertEqual(wrong, [], remark)

    async def whole_job(self, choose: Choose, remark: object, **options: Any) -> JobProgress:
        """Fetch all over a new link, which is there then."""
        self.inbox = self.top / str(len(self.remotes))
        self.inbox.mkdir()
        link = self.link(choose)
        remote = self.over(link, **options)
        progress = await self.fetch(remote, "share")
        self.assert_whole(remark)
        self.assertTrue(any(way.trouble.struck for way in link.ways), remark)
        self.connections = link.connections
        lost = link.connections * (BLOCK_SIZE + OVERHEAD)
        self.assertLess(progress.bytes_fetched, self.size + lost, remark)
        await remote.close()
        return progress


def once(trouble: type[Trouble], seed: int, first: int = 1) -> Choose:
    """Return a fault in the bytes that the first opener receives, or sends, for every other seed."""
    rng = random.Random(f"{trouble.__name__}{seed}")

    def choose(nth: int) -> tuple[Trouble, Trouble]:
        none = Trouble(rng, NEVER)
        if nth > 0:
            return none, none
        if seed % 2:
            return trouble(rng, round(first * (SAID / first) ** rng.random())), none
        return none, trouble(rng, round(first * (len(LARGE) / first) ** rng.random()))

    return choose


class TroubleTests(BadLinkTestCase):
    """Every job ends with all files, bit for bit."""

    async def check(self, trouble: type[Trouble], *seeds: int, first: int = 1) -> None:
        for seed in seeds:
            await self.whole_job(once(trouble, seed, first), (trouble, seed))
            if trouble not in (Delays, Trickle):
                self.assertGreater(self.connections, 1, (trouble, seed))

    async def test_flips(self) -> None:
        """Threat 35: a bit that flips, wherever, ends the session, and no file has it."""
        await self.check(Flip, 0, 1, 2, 3)

    async def test_duplicates(self) -> None:
        """Threat 35: what comes twice is not taken twice."""
        await self.check(Duplicate, 0, 1, 2)

    async def test_reordered(self) -> None:
        """Threat 35: reordered bytes are detected."""
        await self.check(Reorder, 0, 1, 2, first=GREETED)

    async def test_lost(self) -> None:
        """Threat 35: a stream of which some bytes are missing is no stream."""
        await self.check(Lose, 0, 1, 2, first=GREETED)

    async def test_injected(self) -> None:
        """Threat 35: what somebody else says between ends the session, and nothing of it is believed."""
        await self.check(Inject, 0, 1, 2)

    async def test_breaks(self) -> None:
        """A connection that breaks is opened again."""
        await self.check(Break, 0, 1, 2)

    async def test_half_closed(self) -> None:
        """A connection that ends in one direction is over."""
        await self.check(HalfClose, 0, 1)

    async def test_delays(self) -> None:
        """Delayed bytes do no harm."""
        await self.check(Delays, 0, 1)

    async def test_trickles(self) -> None:
        """Messages that arrive byte by byte are put together."""
        await self.check(Trickle, 0, 1)

    async def test_silence(self) -> None:
        """A connection that is there, and over which nothing comes, is given up."""
        for seed in (0, 2):
            choose = once(Silence, seed, first=20_000)
            await self.whole_job(choose, seed, silence=0.3)

    async def test_breaks_again_and_again(self) -> None:
        """Over a link that ends every 1.5 MiB, what was verified does not cross it again."""

        def choose(nth: int) -> tuple[Trouble, Trouble]:
            rng = random.Random(nth)
            return Trouble(rng, NEVER), HangUp(rng, BLOCK_SIZE * 3 // 2)

        link = self.link(choose)
        await self.fetch(self.over(link, silence=15.0), "share")
        self.assert_whole()
        self.assertGreaterEqual(link.connections, 4)
        crossed = sum(len(way.passed) for way in link.heard)
        again = (link.connections - 1) * BLOCK_SIZE
        self.assertLess(crossed, self.size + again + link.connections * OVERHEAD)


class HopelessTests(BadLinkTestCase):
    """Links that never work."""

    async def test_no_handshake(self) -> None:
        """Threat 35: where every handshake is tampered with, there is no session, and that is the error."""

        def choose(nth: int) -> tuple[Trouble, Trouble]:
            rng = random.Random(nth)
            return Trouble(rng, NEVER), Flip(rng, 50 + 300 * nth)

        link = self.link(choose)
        with self.assertRaises(NoSessionThere):
            await self.fetch(self.over(link), "share")
        self.assertEqual(self.came(), {})
        assert self.through is not None
        self.assertEqual(self.through.sessions, [])

    async def test_never_a_block(self) -> None:
        """A link that breaks before any block is whole is given up; what came is kept, and a better link ends it."""

        def choose(nth: int) -> tuple[Trouble, Trouble]:
            rng = random.Random(nth)
            return Trouble(rng, NEVER), Break(rng, BLOCK_SIZE // 2)

        link = self.link(choose)
        with self.assertRaises(LinkGivenUp):
            await self.fetch(self.over(link, patience=0.5), "share")
        kept = len([name for name in self.came() if "deep" in name])
        self.assertEqual(kept, 31)
        good = self.link(lambda nth: (Trouble(random.Random(1), NEVER),) * 2)
        progress = await self.fetch(self.over(good), "share")
        self.assert_whole()
        self.assertEqual(progress.files_already_there + progress.files_done, len(self.files))
        crossed = sum(len(way.passed) for way in good.heard)
        self.assertLess(crossed, len(LARGE) + OVERHEAD + self.size // 100)


class EavesdropperTests(BadLinkTestCase):
    """An eavesdropper that records all bytes."""

    async def test_nothing_to_read(self) -> None:
        """Threat 15: neither names, nor contents, nor keys cross in the clear."""
        link = self.link(lambda nth: (Trouble(random.Random(1), NEVER),) * 2)
        await self.fetch(self.over(link), "share")
        self.assert_whole()
        crossed = bytes(b"".join(way.passed for way in link.ways))
        self.assertGreater(len(crossed), self.size)
        self.assertIn(b"p2pshare/1", crossed)
        secrets = [ALICE.public.raw, BOB.public.raw, VIEWER.encode(), SECRET.encode()]
        secrets += [LARGE[at : at + 16] for at in range(0, len(LARGE), BLOCK_SIZE // 4)]
        secrets += [data[:16] for data in self.files.values() if len(data) >= 16]
        self.assertEqual([secret for secret in secrets if secret in crossed], [])
