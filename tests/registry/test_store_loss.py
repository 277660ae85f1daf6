"""A store that was emptied: how a registry notices it, and who gets which name."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import StoreRecovering
from p2pshare.registry.redis.loss_mark import FILE_NAME, MarkerCopy, StoreMarker
from p2pshare.registry.redis.store import RedisNameStore
from p2pshare.registry.store import Claim, Outcome, OwnerOutcome, Ownership
from tests.registry.owned_contract import ANN, BOB, EVE, KEYS, LATE, outcome_of, owned
from tests.registry.redis.test_store import WithRedis
from tests.registry.store_contract import HERE

MARKER_KEY = "p2p:{index}:store"
RECOVERING_KEY = "p2p:{index}:recovering"


class LossTests(WithRedis):
    """One or more registries on a Redis that loses all data."""

    def copy(self) -> MarkerCopy:
        """Return the copy in the data folder, as a new process reads it."""
        self.folder = getattr(self, "folder", None) or Path(self.mktemp())
        self.folder.mkdir(exist_ok=True)
        return MarkerCopy(self.folder)

    async def is_recovering(self) -> bool:
        return bool(await self.ask("EXISTS", RECOVERING_KEY))

    async def test_new(self) -> None:
        """Neither a new store, nor an unknown one, counts as lost."""
        await self.ask("FLUSHALL")
        store = await self.make_store(marker=self.copy())
        assert (await store.claim_owned(owned())).ownership is Ownership.CLAIMED
        assert not await self.is_recovering()
        other = await self.make_store()
        assert (await other.claim_owned(owned("eve", EVE))).ownership is Ownership.CLAIMED

    async def test_found_empty_at_the_start(self) -> None:
        """A registry that knows another mark than an empty store has lost its store, once."""
        await self.make_store(marker=self.copy())
        await self.ask("FLUSHALL")
        store = await self.make_store(marker=self.copy(), presence=0.4)
        assert isinstance(await outcome_of(store.claim_owned(owned())), StoreRecovering)
        await self.pass_time(0.5)
        assert (await store.claim_owned(owned())).ownership is Ownership.STALE
        assert (await store.claim_owned(owned(seq=LATE))).ownership is Ownership.CLAIMED
        again = await self.make_store(marker=self.copy())
        assert (await again.claim_owned(owned("eve", EVE, LATE))).ownership is Ownership.CLAIMED

    async def test_another_came_first(self) -> None:
        """A store that another registry took for new still counts as lost for a registry that knew it."""
        known = await self.make_store(marker=self.copy())
        await known.stop()
        await self.ask("FLUSHALL")
        another = await self.make_store()
        assert (await another.claim_owned(owned())).ownership is Ownership.CLAIMED
        back = await self.make_store(marker=self.copy())
        for store in (back, another):
            stranger = await outcome_of(store.claim_owned(owned("new", ANN)))
            assert isinstance(stranger, StoreRecovering)
        assert (
            await back.claim_owned(owned(key=EVE, seq=LATE, receipt=2**50))
        ).ownership is Ownership.CLAIMED

    async def test_several_processes(self) -> None:
        """All processes notice a loss, and begin one recovery together."""
        stores = [await self.make_store(marker=self.copy()) for _ in range(3)]
        await self.ask("FLUSHALL")
        for store in stores:
            assert isinstance(await outcome_of(store.claim_owned(owned())), StoreRecovering)
        marker = await self.ask("GET", MARKER_KEY)
        assert marker.endswith(b" lost")
        await self.ask("DEL", RECOVERING_KEY)
        for number, store in enumerate(stores):
            claim = owned(f"n{number}", KEYS[number], seq=LATE)
            assert (await store.claim_owned(claim)).ownership is Ownership.CLAIMED
        assert await self.ask("GET", MARKER_KEY) == marker
        assert str(self.copy().marker) == marker.decode()

    async def flush_at(self, store: RedisNameStore, *, after: bool) -> None:
        """Delete all data just before, or just after, the next claim."""
        link: Any = store.link
        run = link.run_acknowledged

        async def run_and_lose(*arguments: Any) -> Any:
            link.run_acknowledged = run
            if not after:
                await self.ask("FLUSHALL")
            reply = await run(*arguments)
            if after:
                await self.ask("FLUSHALL")
            return reply

        link.run_acknowledged = run_and_lose

    async def test_in_the_middle_of_a_claim(self) -> None:
        """A loss during a claim gives no stranger the name, and does not keep it from its owner."""
        for after in (False, True):
            await self.flush_at(self.store, after=after)
            stranger = await outcome_of(
                self.store.claim_owned(owned(key=EVE, seq=LATE, address=HERE))
            )
            assert isinstance(stranger, StoreRecovering), after
            assert await self.ask("EXISTS", "p2p:{bob}:owner", "p2p:{bob}:classic") == 0
            assert (await self.store.peers()).peers == ()
            await self.ask("DEL", RECOVERING_KEY)
            await self.flush_at(self.store, after=after)
            classic = await outcome_of(self.store.claim(Claim("bob", HERE, 60)))
            assert isinstance(classic, StoreRecovering), after
            assert await self.store.look_up("bob") is None
            await self.ask("DEL", RECOVERING_KEY)
            await self.flush_at(self.store, after=after)
            owner = await self.store.claim_owned(owned(seq=LATE, receipt=7))
            assert (owner.ownership, owner.claim) == (Ownership.CLAIMED, 7)
            await self.store.release_owned("bob", BOB, LATE + 9)
            await self.ask("DEL", RECOVERING_KEY, "p2p:{bob}:former")

    async def test_in_the_middle_of_a_race(self) -> None:
        """An owner and many strangers claim during a loss: in the end the owner has the name."""
        owner = await self.store.claim_owned(owned(seq=10**12))
        other = await self.make_store()
        await other.ping()
        await self.flush_at(self.store, after=False)
        await self.flush_at(other, after=False)
        claims = [
            (self.store, other)[number % 2].claim_owned(owned(key=key))
            for number, key in enumerate(KEYS[2:20])
        ]
        back = other.claim_owned(owned(seq=LATE + 1, receipt=owner.claim))
        results = await gatherResults([outcome_of(each) for each in (*claims, back)])
        for result in results[:-1]:
            is_refused = isinstance(result, StoreRecovering)
            assert is_refused or result.ownership is Ownership.TAKEN, result
        last = results[-1]
        if isinstance(last, StoreRecovering) or last.ownership is not Ownership.CLAIMED:
            last = await self.store.claim_owned(owned(seq=LATE + 2, receipt=owner.claim))
        assert last.ownership in (Ownership.CLAIMED, Ownership.RENEWED)
        view = await self.store.look_up_peer("bob")
        assert view is not None and str(view.key) == BOB

    async def test_late_claim_after_the_owners_return(self) -> None:
        """A claim from before a loss that arrives after the owner is back does not take the name (threat 20)."""
        owner = await self.store.claim_owned(owned(address=HERE))
        other = await self.make_store()
        await other.ping()
        link: Any = other.link
        run = link.run_acknowledged

        async def run_late(*arguments: Any) -> Any:
            link.run_acknowledged = run
            await self.ask("FLUSHALL")
            back = await self.store.claim_owned(owned(seq=LATE, address=HERE, receipt=owner.claim))
            assert back == OwnerOutcome(Ownership.CLAIMED, owner.claim)
            return await run(*arguments)

        link.run_acknowledged = run_late
        stranger = await outcome_of(other.claim_owned(owned(key=EVE, seq=LATE)))
        assert stranger == OwnerOutcome(Ownership.TAKEN)
        view = await self.store.look_up_peer("bob")
        assert view is not None and str(view.key) == BOB
        assert await self.store.look_up("bob") == HERE
        assert await self.store.beat("bob", owned(seq=LATE).session, 1, online=True)

    async def test_another_registry_after_a_loss(self) -> None:
        """A lost store gets the key of the registry that noticed the loss."""
        await self.store.adopt("ours")
        await self.ask("FLUSHALL")
        await outcome_of(self.store.claim_owned(owned()))
        assert await (await self.make_store()).adopt("theirs") == "ours"

    async def test_renewed_in_the_middle_of_a_loss(self) -> None:
        """Two claims of one stranger, of which the second renews the first, do not take a lost name (threat 20)."""
        owner = await self.store.claim_owned(owned(address=HERE))
        other = await self.make_store()
        await other.ping()
        for round in range(5):
            await self.flush_at(self.store, after=False)
            claims = [
                (self.store, other)[number % 2].claim_owned(
                    owned(key=EVE, seq=LATE + 10 * round + number)
                )
                for number in range(6)
            ]
            for result in await gatherResults([outcome_of(each) for each in claims]):
                is_refused = isinstance(result, StoreRecovering)
                assert is_refused or result.ownership is Ownership.TAKEN, result
            back = await self.store.claim_owned(owned(seq=LATE + round, receipt=owner.claim))
            assert back == OwnerOutcome(Ownership.CLAIMED, owner.claim)

    async def test_nobody_there_to_come_back_to(self) -> None:
        """A recovery pauses while no registry runs, since owners could not come back."""
        store = await self.make_store(marker=self.copy(), presence=1)
        owner = await store.claim_owned(owned())
        await self.ask("FLUSHALL")
        assert isinstance(await outcome_of(store.claim_owned(owned(key=EVE))), StoreRecovering)
        await store.stop()
        await self.store.stop()
        await self.pass_time(1.5)
        store = await self.make_store(marker=self.copy(), presence=1)
        stranger = await outcome_of(store.claim_owned(owned(key=EVE, seq=LATE)))
        assert isinstance(stranger, StoreRecovering)
        back = await store.claim_owned(owned(seq=LATE, receipt=owner.claim))
        assert back == OwnerOutcome(Ownership.CLAIMED, owner.claim)

    async def test_heartbeats_after_a_loss(self) -> None:
        """A heartbeat is rejected by a store that has lost its session, and pending notes are dropped."""
        await self.store.claim_owned(owned())
        link: Any = self.store.link
        await self.ask("FLUSHALL")
        assert not await self.store.beat("bob", owned().session, 1, online=True)
        assert (await self.store.peers()).peers == ()
        assert (await self.store.claim_owned(owned(seq=LATE, receipt=5))).claim == 5
        run = link.run

        async def lose_and_run(script: str, *arguments: Any) -> Any:
            reply = await run(script, *arguments)
            if "'beat', ARGV[2]" in script:
                await self.ask("FLUSHALL")
            return reply

        link.run = lose_and_run
        assert await self.store.beat("bob", owned(seq=LATE).session, 1, online=True)
        link.run = run
        await self.pass_time(0.1)
        assert (await self.store.peers()).peers == ()
        assert await self.store.claim(Claim("zoe", HERE, 0)) is Outcome.RELEASED


class MarkerCopyTests(SynchronousTestCase):
    """The copy of the mark."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / FILE_NAME
        self.seen = EventLoggingObserver()
        globalLogPublisher.addObserver(self.seen)
        self.addCleanup(globalLogPublisher.removeObserver, self.seen)

    def test_kept(self) -> None:
        """The copy survives a restart, and is private."""
        assert MarkerCopy(self.folder).marker is None
        for marker in (StoreMarker("one", 1), StoreMarker("two", 2, lost=True)):
            MarkerCopy(self.folder).keep(marker)
            assert MarkerCopy(self.folder).marker == marker
        assert stat.S_IMODE(self.path.stat().st_mode) == 0o600
        assert [each.name for each in self.folder.iterdir()] == [FILE_NAME]

    def test_in_memory(self) -> None:
        """Without a folder it lives as long as the process."""
        copy = MarkerCopy()
        copy.keep(StoreMarker("one", 1))
        assert copy.marker == StoreMarker("one", 1)

    def test_unreadable(self) -> None:
        """A damaged file, or a folder in its place, is logged and counts as no mark."""
        for text in ("", "one", "one 1 found", "a b c d", "x" * 500, "one 1 first\nmore"):
            self.path.write_text(text)
            assert MarkerCopy(self.folder).marker is None, text
        self.path.unlink()
        self.path.mkdir()
        assert MarkerCopy(self.folder).marker is None
        copy = MarkerCopy(self.folder)
        copy.keep(StoreMarker("one", 1))
        assert copy.marker == StoreMarker("one", 1)
        errors = [each for each in self.seen if each["log_level"].name == "error"]
        assert len(errors) == 9

    def test_link(self) -> None:
        """A link is not followed, and is replaced."""
        target = self.folder / "target"
        target.write_text("one 1 first\n")
        self.path.symlink_to(target)
        copy = MarkerCopy(self.folder)
        assert copy.marker is None
        copy.keep(StoreMarker("two", 2))
        assert target.read_text() == "one 1 first\n"
        assert not self.path.is_symlink()
