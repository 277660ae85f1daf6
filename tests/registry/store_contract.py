"""The contract of every store of names for the classic protocol; run in memory and with Redis."""

from __future__ import annotations

from p2pshare.registry.store import Claim, NameStore, Outcome
from p2pshare.wire.addresses import PeerAddress

HERE = PeerAddress("10.0.0.5", 50000)
THERE = PeerAddress("10.0.0.6", 50001)
MINE, YOURS = "a" * 64, "b" * 64


class NameStoreContract:
    """A mixin. A subclass provides `store`, and `pass_time`, which advances the time by some seconds."""

    store: NameStore

    async def pass_time(self, seconds: float) -> None:
        raise AssertionError("a subclass says how")

    async def all_names(self, limit: int) -> list[str]:
        names: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await self.store.page(after, limit)
            names += page.names
            after = page.after
        return names

    async def test_free(self) -> None:
        """A free name belongs to nobody; the first claim gets it."""
        assert await self.store.look_up("bob") is None
        assert await self.store.claim(Claim("bob", HERE, 60)) is Outcome.CLAIMED
        assert await self.store.look_up("bob") == HERE

    async def test_taken(self) -> None:
        """A live name is not given to another address or token, or to a claim without a token."""
        await self.store.claim(Claim("bob", HERE, 60))
        await self.store.claim(Claim("eve", HERE, 60, MINE))
        for claim in (
            Claim("bob", THERE, 60),
            Claim("bob", HERE, 60, MINE),
            Claim("eve", HERE, 60),
            Claim("eve", HERE, 60, YOURS),
            Claim("eve", THERE, 0, YOURS),
            Claim("eve", HERE, 0),
        ):
            assert await self.store.claim(claim) is Outcome.TAKEN, claim
        assert await self.store.look_up("bob") == HERE
        assert await self.store.look_up("eve") == HERE

    async def test_renewed(self) -> None:
        """The same token renews from any address; without a token, the same address renews."""
        await self.store.claim(Claim("bob", HERE, 60))
        await self.store.claim(Claim("eve", HERE, 60, MINE))
        assert await self.store.claim(Claim("bob", HERE, 60)) is Outcome.RENEWED
        assert await self.store.claim(Claim("eve", THERE, 60, MINE)) is Outcome.RENEWED
        assert await self.store.look_up("eve") == THERE

    async def test_released(self) -> None:
        """A lease of 0 releases a name at once; a free name can be released, too."""
        await self.store.claim(Claim("bob", HERE, 60, MINE))
        assert await self.store.claim(Claim("bob", HERE, 0, MINE)) is Outcome.RELEASED
        assert await self.store.look_up("bob") is None
        assert await self.all_names(10) == []
        assert await self.store.claim(Claim("bob", HERE, 0)) is Outcome.RELEASED
        assert await self.store.claim(Claim("bob", THERE, 60, YOURS)) is Outcome.CLAIMED

    async def test_lease_ends(self) -> None:
        """A name is free, and not in the list any more, when its lease ends without a renewal."""
        await self.store.claim(Claim("bob", HERE, 1, MINE))
        await self.store.claim(Claim("eve", HERE, 1, MINE))
        await self.store.claim(Claim("eve", HERE, 60, MINE))
        await self.pass_time(1.1)
        assert await self.store.look_up("bob") is None
        assert await self.store.look_up("eve") == HERE
        assert await self.all_names(10) == ["eve"]
        assert await self.store.claim(Claim("bob", THERE, 60, YOURS)) is Outcome.CLAIMED

    async def test_no_token_never_shortens(self) -> None:
        """A claim without a token cannot be ended early by its address, which is public."""
        await self.store.claim(Claim("bob", HERE, 60))
        assert await self.store.claim(Claim("bob", HERE, 0)) is Outcome.TAKEN
        assert await self.store.claim(Claim("bob", HERE, 1)) is Outcome.RENEWED
        await self.pass_time(1.1)
        assert await self.store.look_up("bob") == HERE

    async def test_pages(self) -> None:
        """The pages, of any size, have every name once, in order."""
        names = sorted(f"{letter}{number}" for letter in "abz" for number in range(7))
        for name in reversed(names):
            await self.store.claim(Claim(name, HERE, 60))
        for limit in (1, 2, 7, 20, 21, 22, 1000):
            assert await self.all_names(limit) == names, limit
        assert (await self.store.page("b6", 2)).names == ["z0", "z1"]
        assert (await self.store.page("zz", 2)).after is None

    async def test_ping(self) -> None:
        """`ping` succeeds."""
        await self.store.ping()
        assert await self.store.look_up("nobody") is None
